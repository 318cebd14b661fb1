//! Gradients: against finite differences, and only those that are tracked.

use super::case::{Case, Sizes};
use super::reference::{Reference, check};
use super::run::{Tracked, forward_backward};
use crate::backends::{BackendTest, Scope, StructuredBackend, TestBackend, every_backend};
use crate::tensors::Layout;
use burn::tensor::DType;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_structured_ops::BlastStrategy;

const SIZES: Sizes = Sizes { tokens: 5, b1: 3, b2: 2, p: 2, q: 3, r: 4 };

struct OnlyTracked;

impl BackendTest for OnlyTracked {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        let (name, device) = (&backend.name, &backend.device);
        let products = backend.products();
        let Some((_, strategies)) = products.iter().find(|(dtype, _)| *dtype == DType::F32) else {
            return;
        };
        let mut case = Case::random(SIZES, 3, DType::F32);
        let bias = case.bias.clone();
        // What is saved and retrieved is decided before a backend is reached: elsewhere a few combinations will do.
        let every = if backend.scope == Scope::Native { 1 } else { 13 };
        for tracked in Tracked::combinations().step_by(every) {
            case.bias = if tracked.bias.is_none() { vec![0.0; SIZES.m()] } else { bias.clone() };
            let reference = Reference::of(&case);
            for strategy in strategies {
                let what = format!("{name}, {strategy:?}, {tracked:?}");
                let outcome = forward_backward::<B, NoCheckpointing>(
                    &case,
                    DType::F32,
                    Layout::Contiguous,
                    *strategy,
                    tracked,
                    device,
                );
                check(&what, DType::F32, SIZES, &outcome, &reference);
                let present = [&outcome.dx, &outcome.du, &outcome.ds, &outcome.dv, &outcome.dbias]
                    .map(|gradient| gradient.is_some());
                let expected = [tracked.x, tracked.u, tracked.s, tracked.v, tracked.bias == Some(true)];
                assert_eq!(present, expected, "{what}");
            }
        }
    }
}

#[test]
fn only_tracked_gradients_are_computed() {
    every_backend(&OnlyTracked);
}

struct FiniteDifferences;

impl BackendTest for FiniteDifferences {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        if backend.scope != Scope::Native {
            return; // hundreds of products in f64; the reference covers the devices
        }
        for strategy in [BlastStrategy::Auto, BlastStrategy::Staged, BlastStrategy::Fused] {
            self.check_strategy(backend, strategy);
        }
    }
}

impl FiniteDifferences {
    fn check_strategy<B: StructuredBackend>(&self, backend: &TestBackend<B>, strategy: BlastStrategy) {
        let (name, device) = (&backend.name, &backend.device);
        let case = Case::random(SIZES, 11, DType::F64);
        let none = Tracked { x: false, u: false, s: false, v: false, bias: Some(false) };
        let loss = |case: &Case| -> f64 {
            let outcome =
                forward_backward::<B, NoCheckpointing>(case, DType::F64, Layout::Contiguous, strategy, none, device);
            outcome.y.iter().zip(&case.g).map(|(y, g)| y * g).sum()
        };
        let outcome = forward_backward::<B, NoCheckpointing>(
            &case,
            DType::F64,
            Layout::Contiguous,
            strategy,
            Tracked::ALL,
            device,
        );
        type Operand = fn(&mut Case) -> &mut Vec<f64>;
        let operands: [(&str, Operand, &Option<Vec<f64>>); 5] = [
            ("x", |case| &mut case.x, &outcome.dx),
            ("u", |case| &mut case.u, &outcome.du),
            ("s", |case| &mut case.s, &outcome.ds),
            ("v", |case| &mut case.v, &outcome.dv),
            ("bias", |case| &mut case.bias, &outcome.dbias),
        ];
        // The loss is linear in each operand, so a central difference is exact up to rounding for any step.
        let step = 0.5;
        for (operand, values, gradient) in operands {
            let gradient = gradient.as_ref().expect("all operands are tracked");
            for (index, gradient) in gradient.iter().enumerate() {
                let shifted = |by: f64| {
                    let mut case = case.clone();
                    values(&mut case)[index] += by;
                    loss(&case)
                };
                let difference = (shifted(step) - shifted(-step)) / (2.0 * step);
                assert!(
                    (difference - gradient).abs() < 1e-10,
                    "{name}, {strategy:?}: d{operand}[{index}] is {gradient}, the difference {difference}"
                );
            }
        }
    }
}

#[test]
fn gradients_match_finite_differences() {
    every_backend(&FiniteDifferences);
}
