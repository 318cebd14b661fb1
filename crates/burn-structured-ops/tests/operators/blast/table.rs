//! Shapes × dtypes × layouts × strategies: output and all gradients within rounding of the reference.

use super::case::Case;
use super::reference::{Reference, check};
use super::run::{Tracked, forward_backward};
use crate::backends::{BackendTest, Scope, StructuredBackend, TestBackend, every_backend};
use crate::tensors::Layout;
use burn::tensor::DType;
use burn_autodiff::checkpoint::strategy::{BalancedCheckpointing, NoCheckpointing};

struct EveryShape;

impl BackendTest for EveryShape {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        for (dtype, strategies) in backend.products() {
            for (seed, sizes) in backend.product_shapes() {
                if backend.scope != Scope::Native && dtype != DType::F32 && seed != 1 {
                    continue;
                }
                let case = Case::random(sizes, seed, dtype);
                let reference = Reference::of(&case);
                for strategy in &strategies {
                    let what = format!("{}, {dtype:?}, {strategy:?}, {sizes:?}", backend.name);
                    let outcome = forward_backward::<B, NoCheckpointing>(
                        &case,
                        dtype,
                        Layout::Contiguous,
                        *strategy,
                        Tracked::ALL,
                        &backend.device,
                    );
                    check(&what, dtype, sizes, &outcome, &reference);
                    assert!(outcome.dx.is_some() && outcome.dbias.is_some(), "{what}: gradients");
                }
            }
        }
    }
}

#[test]
fn every_shape_matches_the_reference() {
    every_backend(&EveryShape);
}

struct EveryLayout;

impl BackendTest for EveryLayout {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        let native = backend.scope == Scope::Native;
        let products = backend.products().into_iter().filter(|(dtype, _)| native || *dtype == DType::F32);
        for (dtype, strategies) in products {
            // Layouts matter to the operands' way into the stages, not to the stages.
            for (seed, sizes) in
                backend.product_shapes().filter(|(seed, _)| native || *seed == TestBackend::<B>::USUAL_SHAPE)
            {
                for layout in [Layout::Permuted, Layout::Sliced, Layout::Broadcast] {
                    let mut case = Case::random(sizes, seed, dtype);
                    let mut tracked = Tracked::ALL;
                    if layout == Layout::Broadcast {
                        case = case.repeat_first_token();
                        // The gradient of the one token behind all is Burn's sum over the expansion, not ours.
                        tracked.x = false;
                    }
                    let reference = Reference::of(&case);
                    for strategy in &strategies {
                        let what = format!("{}, {dtype:?}, {layout:?}, {strategy:?}, {sizes:?}", backend.name);
                        let outcome = forward_backward::<B, BalancedCheckpointing>(
                            &case,
                            dtype,
                            layout,
                            *strategy,
                            tracked,
                            &backend.device,
                        );
                        check(&what, dtype, sizes, &outcome, &reference);
                    }
                }
            }
        }
    }
}

#[test]
fn strided_operands_match_the_reference() {
    every_backend(&EveryLayout);
}
