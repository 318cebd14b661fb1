//! Operands that do not fit: every method of every backend panics before a kernel runs.

use crate::backends::{BackendTest, StructuredBackend, TestBackend, every_backend};
use crate::tensors::{Layout, place, place_bool, read};
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Device, Tensor};
use burn_structured_ops::attention::{AttentionMask, KeyPadding, attention, self_attention};
use std::panic::{AssertUnwindSafe, catch_unwind};

type Shape4 = [usize; 4];

/// Query, key, value and padding that fit.
const FIT: (Shape4, Shape4, Shape4, [usize; 2]) = ([2, 5, 3, 4], [2, 7, 3, 4], [2, 7, 3, 6], [2, 7]);
const OUTPUT: Shape4 = [2, 5, 3, 6];
const LOG_SUM_EXP: [usize; 3] = [2, 3, 5];

struct Unfit;

impl BackendTest for Unfit {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        let upload = |shape: &[usize], dtype: DType| -> FloatTensor<B> {
            place::<B>(&vec![1.0; shape.iter().product()], shape, dtype, Layout::Contiguous, &backend.device)
        };
        let f = |shape: &[usize]| upload(shape, DType::F32);
        let padding = |shape: [usize; 2]| {
            let values = vec![false; shape.iter().product()];
            KeyPadding::<B>::Some(place_bool::<B>(values, &shape, &backend.device))
        };
        let mut accepted = Vec::new();
        let mut expect_panic = |call: String, run: &dyn Fn() -> FloatTensor<B>| {
            // The result is read, so that an error of a delayed kernel shows as well.
            if catch_unwind(AssertUnwindSafe(|| read::<B>(run()))).is_ok() {
                accepted.push(call);
            }
        };
        let (query, key, value, fit) = FIT;
        for (query, key, value, unfit) in [
            ([2, 5, 3, 8], key, value, fit),
            ([2, 5, 6, 2], key, value, fit),
            ([4, 5, 3, 2], key, value, fit),
            (query, [1, 7, 3, 4], value, fit),
            (query, [2, 6, 3, 4], value, [2, 6]),
            (query, key, [2, 8, 3, 6], fit),
            (query, key, [3, 7, 3, 6], fit),
            (query, key, [2, 7, 2, 6], fit),
            (query, key, value, [2, 6]),
            (query, key, value, [1, 7]),
            (query, key, value, [7, 2]),
        ] {
            let call = format!("{query:?}, {key:?}, {value:?}, {unfit:?}");
            expect_panic(format!("forward: {call}"), &|| {
                B::attention_forward(f(&query), f(&key), f(&value), padding(unfit), false)
            });
            expect_panic(format!("forward, saving: {call}"), &|| {
                B::attention_forward_saving(f(&query), f(&key), f(&value), padding(unfit), false).0
            });
            expect_panic(format!("gradients: {call}"), &|| {
                let (operands, saved) = ([&query, &key, &value], [f(&OUTPUT), f(&LOG_SUM_EXP), f(&OUTPUT)]);
                let ([query, key, value], [output, sums, grad]) = (operands.map(|shape| f(shape)), saved);
                B::attention_gradients(query, key, value, padding(unfit), false, output, sums, grad).0
            });
        }
        for (output, sums, grad) in [
            ([2, 5, 3, 4], LOG_SUM_EXP, OUTPUT),
            (OUTPUT, LOG_SUM_EXP, [2, 4, 3, 6]),
            (OUTPUT, [2, 5, 3], OUTPUT),
            (OUTPUT, [2, 3, 4], OUTPUT),
        ] {
            expect_panic(format!("gradients: {output:?}, {sums:?}, {grad:?}"), &|| {
                let [output, grad] = [output, grad].map(|shape| f(&shape));
                B::attention_gradients(f(&query), f(&key), f(&value), padding(fit), true, output, f(&sums), grad).0
            });
        }
        for qkv in [[2, 5, 4, 3], [2, 5, 1, 3]] {
            expect_panic(format!("self-attention: {qkv:?}"), &|| B::self_attention(f(&qkv), KeyPadding::None, false));
        }
        if backend.dtypes().contains(&DType::F64) {
            let wide = |shape: &[usize]| upload(shape, DType::F64);
            expect_panic("forward of two dtypes".into(), &|| {
                B::attention_forward(f(&query), wide(&key), f(&value), KeyPadding::None, false)
            });
            expect_panic("gradients of two dtypes".into(), &|| {
                let (output, sums, grad) = (wide(&OUTPUT), f(&LOG_SUM_EXP), wide(&OUTPUT));
                B::attention_gradients(f(&query), f(&key), f(&value), KeyPadding::None, false, output, sums, grad).0
            });
        }
        assert!(accepted.is_empty(), "{} accepted {accepted:#?}", backend.name);
    }
}

#[test]
fn methods_reject_operands_that_do_not_fit() {
    every_backend(&Unfit);
}

#[test]
#[should_panic(expected = "`value` must be [batch, keys, heads, d_value] as `key` [2, 7, 3, 4] says, got [2, 6, 3, 4]")]
fn misfitting_tensor_is_named() {
    let zeros = |dims: Shape4| Tensor::<4>::zeros(dims, &Device::flex());
    let mask = AttentionMask::default();
    attention(zeros([2, 5, 3, 4]), zeros([2, 7, 3, 4]), zeros([2, 6, 3, 4]), mask);
}

#[test]
#[should_panic(expected = "the third axis of `qkv` must hold 3 times the heads")]
fn projection_has_three_parts() {
    self_attention(Tensor::zeros([2, 5, 4, 3], &Device::flex()), AttentionMask::default());
}
