//! What the table does not show: finite differences, views of one projection, scores that overflow, nothing to see.

use super::case::{Case, Padding, Sizes};
use crate::backends::{public_devices, public_dtypes};
use burn::tensor::{Bool, DType, Device, Tensor, TensorData, Tolerance};
use burn_structured_ops::attention::{AttentionMask, attention, self_attention};

fn tensor<const D: usize>(values: &[f64], shape: [usize; D], device: &Device, dtype: DType) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape).convert_dtype(dtype), (device, dtype))
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().try_into_vec::<f64>().expect("f64 values")
}

/// The mask of a case.
fn mask(sizes: Sizes, device: &Device) -> AttentionMask {
    let padding = sizes
        .padding()
        .map(|padding| Tensor::<2, Bool>::from_data(TensorData::new(padding, [sizes.batch, sizes.keys]), device));
    AttentionMask { causal: sizes.causal, padding }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let device = Device::flex().autodiff();
    for (sizes, causal, padding) in [
        ([2, 2, 6, 9, 5, 3], true, Padding::Scattered),
        ([1, 2, 3, 7, 4, 4], false, Padding::None),
        ([2, 1, 17, 20, 8, 8], true, Padding::Left),
    ] {
        let case = Case::new(Sizes::new(sizes, causal, padding));
        let shapes = case.sizes.shapes();
        let loss = |operands: &[Tensor<4>; 3]| {
            let [query, key, value] = operands.clone();
            let grad = tensor(&case.operands[3], shapes[3], &device, DType::F64);
            (attention(query, key, value, mask(case.sizes, &device)) * grad).sum()
        };
        let place = |operand: usize, values: &[f64]| tensor(values, shapes[operand], &device, DType::F64);
        let leaves = [0, 1, 2].map(|operand| place(operand, &case.operands[operand]).require_grad());
        let grads = loss(&leaves).backward();
        let step = 1e-4;
        for (operand, leaf) in leaves.iter().enumerate() {
            let gradient = values(leaf.grad(&grads).expect("a gradient"));
            for at in (0..gradient.len()).step_by(7) {
                let [above, below] = [step, -step].map(|step| {
                    let mut moved = case.operands[operand].clone();
                    moved[at] += step;
                    let mut operands = leaves.clone().map(Tensor::detach);
                    operands[operand] = place(operand, &moved);
                    loss(&operands).into_scalar::<f64>()
                });
                let difference = (above - below) / (2.0 * step);
                // The error of a central difference is about the square of its step.
                assert!((gradient[at] - difference).abs() < 1e-7, "operand {operand}, {at}: {difference}");
            }
        }
    }
}

#[test]
fn parts_of_one_projection_equal_tensors_of_their_own() {
    for device in public_devices().into_iter().map(Device::autodiff) {
        let (batch, tokens, heads, d_head) = (2, 18, 3, 16);
        let shape = [batch, tokens, 3 * heads, d_head];
        for dtype in public_dtypes(&device).into_iter().filter(|dtype| matches!(dtype, DType::F32 | DType::F64)) {
            let drawn = Case::new(Sizes::new([batch, 3 * heads, tokens, tokens, d_head, d_head], true, Padding::Left));
            let sizes = Sizes { heads, ..drawn.sizes };
            let qkv = tensor(&drawn.operands[0], shape, &device, dtype);
            let grad = tensor(&drawn.operands[3], shape, &device, dtype).narrow(2, 0, heads);
            let gradient = |attended: &dyn Fn(Tensor<4>) -> Tensor<4>| {
                let qkv = qkv.clone().require_grad();
                let output = attended(qkv.clone());
                let grads = (output.clone() * grad.clone()).sum().backward();
                (output.into_data(), qkv.grad(&grads).expect("a gradient").into_data())
            };
            let parts = |qkv: Tensor<4>| [0, 1, 2].map(|part| qkv.clone().narrow(2, part * heads, heads));
            let (whole, whole_grad) = gradient(&|qkv| self_attention(qkv, mask(sizes, &device)));
            let (views, views_grad) = gradient(&|qkv| {
                let [query, key, value] = parts(qkv);
                attention(query, key, value, mask(sizes, &device))
            });
            let copy = |tensor: Tensor<4>| tensor.clone() + tensor.zeros_like();
            let (copies, copies_grad) = gradient(&|qkv| {
                let [query, key, value] = parts(qkv).map(copy);
                attention(query, key, value, mask(sizes, &device))
            });
            let tolerance = Tolerance::<f64>::absolute(1e-5);
            for (found, expected) in
                [(&whole, &copies), (&whole_grad, &copies_grad), (&views, &copies), (&views_grad, &copies_grad)]
            {
                found.assert_approx_eq::<f64>(expected, tolerance);
            }
        }
    }
}

/// Scores of ±10,000: exponentials of them overflow, and all but the largest of a query vanish.
#[test]
fn extreme_scores_stay_finite() {
    for device in public_devices().into_iter().map(Device::autodiff) {
        for tokens in [2, 20, 70] {
            let dims = [1, tokens, 1, 4];
            // The token with the number `t` has the direction `t mod 4` and a length that grows with `t`.
            let drawn: Vec<f64> =
                (0..4 * tokens).map(|at| if at / 4 % 4 == at % 4 { 140.0 + (at / 4) as f64 } else { -140.0 }).collect();
            let [query, key] = [(); 2].map(|()| tensor(&drawn, dims, &device, DType::F32).require_grad());
            let value = tensor(&crate::tensors::draw(4 * tokens, 3), dims, &device, DType::F32).require_grad();
            let output = attention(query.clone(), key.clone(), value.clone(), AttentionMask::default());
            let expected: Vec<f64> = {
                let value = values(value.clone());
                let score = |q: usize, k: usize| (0..4).map(|d| drawn[4 * q + d] * drawn[4 * k + d]).sum::<f64>();
                let best = |q: usize| (0..tokens).max_by(|a, b| score(q, *a).total_cmp(&score(q, *b))).expect("a key");
                (0..tokens).flat_map(|q| value[4 * best(q)..][..4].to_vec()).collect()
            };
            let largest = values(output.clone()).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(largest < 1e-6, "{tokens} tokens: {largest}");
            let grads = output.sum().backward();
            for leaf in [&query, &key, &value] {
                let gradient = values(leaf.grad(&grads).expect("a gradient"));
                assert!(gradient.iter().all(|value| value.is_finite()), "{tokens} tokens: {gradient:?}");
            }
        }
    }
}

#[test]
fn queries_without_keys_give_zero_and_have_no_gradient() {
    for device in public_devices().into_iter().map(Device::autodiff) {
        for queries in [1, 3, 20] {
            // All keys of the first batch element are padding. Without a matmul of this size the sum of nothing is exact.
            let case = Case::new(Sizes::new([2, 2, queries, 9, 8, 8], false, Padding::First));
            let shapes = case.sizes.shapes();
            let leaves = [0, 1, 2]
                .map(|operand| tensor(&case.operands[operand], shapes[operand], &device, DType::F32).require_grad());
            let [query, key, value] = leaves.clone();
            let output = attention(query, key, value, mask(case.sizes, &device));
            let first = |tensor: Tensor<4>| values(tensor.narrow(0, 0, 1));
            assert!(first(output.clone()).iter().all(|value| *value == 0.0));
            let grads = output.sum().backward();
            for leaf in leaves {
                let gradient = leaf.grad(&grads).expect("a gradient");
                assert!(first(gradient).iter().all(|value| *value == 0.0));
            }
        }
    }
}

#[test]
fn nothing_to_compute_gives_zeros() {
    for device in public_devices() {
        let zeros = |dims: [usize; 4]| Tensor::<4>::zeros(dims, &device);
        for [batch, queries, keys, heads, d_value] in
            [[0, 3, 4, 2, 5], [2, 0, 4, 2, 5], [2, 3, 4, 0, 5], [2, 3, 4, 2, 0], [2, 3, 0, 2, 5]]
        {
            let output = attention(
                zeros([batch, queries, heads, 6]),
                zeros([batch, keys, heads, 6]),
                zeros([batch, keys, heads, d_value]),
                AttentionMask::causal(),
            );
            assert_eq!(output.dims(), [batch, queries, heads, d_value]);
            assert!(values(output).iter().all(|value| *value == 0.0));
        }
    }
}
