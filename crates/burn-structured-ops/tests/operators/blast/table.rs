//! Shapes × dtypes × layouts × strategies: output and all gradients within rounding of the oracle.

use super::case::Case;
use super::oracle::{Oracle, check};
use super::run::{Tracked, forward_backward};
use crate::subjects::{Promise, Scope, StructuredBackend, Subject, every_backend};
use crate::tensors::Layout;
use burn::tensor::DType;
use burn_autodiff::checkpoint::strategy::{BalancedCheckpointing, NoCheckpointing};

struct EveryShape;

impl Promise for EveryShape {
    fn check<B: StructuredBackend>(&self, subject: &Subject<B>) {
        for (dtype, strategies) in subject.products() {
            for (seed, sizes) in subject.product_shapes() {
                if subject.scope != Scope::Native && dtype != DType::F32 && seed != 1 {
                    continue;
                }
                let case = Case::random(sizes, seed, dtype);
                let oracle = Oracle::of(&case);
                for strategy in &strategies {
                    let what = format!("{}, {dtype:?}, {strategy:?}, {sizes:?}", subject.name);
                    let outcome = forward_backward::<B, NoCheckpointing>(
                        &case,
                        dtype,
                        Layout::Contiguous,
                        *strategy,
                        Tracked::ALL,
                        &subject.device,
                    );
                    check(&what, dtype, sizes, &outcome, &oracle);
                    assert!(outcome.dx.is_some() && outcome.dbias.is_some(), "{what}: gradients");
                }
            }
        }
    }
}

#[test]
fn every_shape_dtype_and_strategy_agrees_with_the_oracle() {
    every_backend(&EveryShape);
}

struct EveryLayout;

impl Promise for EveryLayout {
    fn check<B: StructuredBackend>(&self, subject: &Subject<B>) {
        let native = subject.scope == Scope::Native;
        let products = subject.products().into_iter().filter(|(dtype, _)| native || *dtype == DType::F32);
        for (dtype, strategies) in products {
            // Layouts matter to the operands' way into the stages, not to the stages.
            for (seed, sizes) in
                subject.product_shapes().filter(|(seed, _)| native || *seed == Subject::<B>::USUAL_SHAPE)
            {
                for layout in [Layout::Permuted, Layout::Sliced, Layout::Broadcast] {
                    let mut case = Case::random(sizes, seed, dtype);
                    let mut tracked = Tracked::ALL;
                    if layout == Layout::Broadcast {
                        case = case.repeat_first_token();
                        // The gradient of the one token behind all is Burn's sum over the expansion, not ours.
                        tracked.x = false;
                    }
                    let oracle = Oracle::of(&case);
                    for strategy in &strategies {
                        let what = format!("{}, {dtype:?}, {layout:?}, {strategy:?}, {sizes:?}", subject.name);
                        let outcome = forward_backward::<B, BalancedCheckpointing>(
                            &case,
                            dtype,
                            layout,
                            *strategy,
                            tracked,
                            &subject.device,
                        );
                        check(&what, dtype, sizes, &outcome, &oracle);
                    }
                }
            }
        }
    }
}

#[test]
fn permuted_sliced_and_broadcast_operands_agree_with_the_oracle() {
    every_backend(&EveryLayout);
}
