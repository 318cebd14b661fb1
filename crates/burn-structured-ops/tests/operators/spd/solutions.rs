//! Solutions and gradients by every strategy, for every size and layout.

use super::case::{Case, strategies};
use crate::backends::{BackendTest, Scope, StructuredBackend, TestBackend, every_backend};
use crate::rounding::assert_close;
use crate::tensors::{Layout, place, read};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend};
use burn::tensor::{DType, Shape};
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_structured_ops::BlastStrategy;
use burn_structured_ops::spd::{SpdBackend, SpdStrategy};

type Ad<B> = Autodiff<B, NoCheckpointing>;

/// One system, one element, sizes around a panel of the kernels and around a tile, several panels, many columns, and more
/// rows than a cube has units.
const SIZES: [[usize; 3]; 9] =
    [[1, 1, 1], [3, 7, 2], [2, 15, 1], [2, 16, 5], [5, 17, 33], [1, 127, 3], [2, 129, 65], [1, 263, 2], [70_000, 1, 1]];

fn check<B: StructuredBackend>(backend: &TestBackend<B>, case: &Case, layout: Layout, strategy: SpdStrategy) {
    let Case { batch, n, k, dtype, .. } = *case;
    let what = format!("{}, {dtype:?}, {layout:?}, {strategy:?}, {batch} × {n} × {k}", backend.name);
    let leaf = |values: &[f64], shape: &[usize]| -> FloatTensor<Ad<B>> {
        let tensor = Ad::<B>::from_inner(place::<B>(values, shape, dtype, layout, &backend.device));
        Ad::<B>::float_set_require_grad(tensor, true)
    };
    // Gradients with respect to the operand before it is repeated are sums over the repetitions, so there they are left out.
    let repeated = layout == Layout::Broadcast;
    let (a, b) = if repeated {
        let expand = |tensor, shape: [usize; 3]| Ad::<B>::float_expand(tensor, Shape::new(shape));
        let first: Vec<f64> = case.b.iter().step_by(k).take(n).copied().collect();
        (expand(leaf(&case.a[..n * n], &[1, n, n]), [batch, n, n]), expand(leaf(&first, &[1, n, 1]), [batch, n, k]))
    } else {
        (leaf(&case.a, &[batch, n, n]), leaf(&case.b, &[batch, n, k]))
    };
    let g = Ad::<B>::from_inner(place::<B>(&case.g, &[batch, n, k], dtype, Layout::Contiguous, &backend.device));

    let factor = Ad::<B>::spd_factor(a.clone(), strategy);
    let x = Ad::<B>::spd_solve(a.clone(), factor, b.clone(), strategy);
    let solution = read::<B>(x.clone().into_primitive());
    case.assert_solution(&format!("{what}: x"), &solution, &case.b);
    if repeated {
        return;
    }

    let grads = Ad::<B>::float_mul(x, g).backward();
    let gradient = |leaf: &FloatTensor<Ad<B>>| read::<B>(leaf.grad(&grads).expect("a gradient"));
    let (da, db) = (gradient(&a), gradient(&b));
    case.assert_solution(&format!("{what}: db"), &db, &case.g);
    let mut expected = (vec![0.0; da.len()], vec![0.0; da.len()]);
    for (index, (value, magnitude)) in expected.0.iter_mut().zip(&mut expected.1).enumerate() {
        let (matrix, row, col) = (index / (n * n), index / n % n, index % n);
        for column in 0..k {
            let at = |row: usize| (matrix * n + row) * k + column;
            for term in [db[at(row)] * solution[at(col)] / -2.0, db[at(col)] * solution[at(row)] / -2.0] {
                *value += term;
                *magnitude += term.abs();
            }
        }
    }
    assert_close(&format!("{what}: da"), dtype, 2 * k, &da, &expected.0, &expected.1);
}

struct EverySize;

impl BackendTest for EverySize {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        for dtype in backend.dtypes() {
            for (index, sizes) in SIZES.into_iter().enumerate() {
                for strategy in strategies(backend) {
                    let worthwhile = match (backend.scope, strategy, dtype) {
                        // Its time is a few operations for every column, whatever the size.
                        (Scope::Native, SpdStrategy::Reference, _) => sizes[1] < 200,
                        (Scope::Native, ..) => true,
                        (Scope::Kernels, _, DType::F32) => [0, 2, 4, 7, 8].contains(&index),
                        (Scope::Kernels, ..) | (Scope::Fused, _, DType::F32) => index == 4,
                        _ => false,
                    };
                    if worthwhile {
                        check(backend, &Case::new(sizes, dtype), Layout::Contiguous, strategy);
                    }
                }
            }
        }
    }
}

#[test]
fn every_size_is_solved() {
    every_backend(&EverySize);
}

struct EveryLayout;

impl BackendTest for EveryLayout {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        for strategy in strategies(backend) {
            for layout in [Layout::Permuted, Layout::Sliced, Layout::Broadcast] {
                let case = Case::new([3, 11, 4], DType::F32);
                let case = if layout == Layout::Broadcast { case.repeat_first() } else { case };
                check(backend, &case, layout, strategy);
            }
        }
    }
}

#[test]
fn strided_operands_are_solved() {
    every_backend(&EveryLayout);
}

struct AutomaticGradient;

impl BackendTest for AutomaticGradient {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        for (dtype, blast) in backend.products() {
            let reliable = blast.contains(&BlastStrategy::Auto);
            if dtype == DType::F32 && reliable && backend.scope != Scope::Native {
                check(backend, &Case::new([2, 5, 3], dtype), Layout::Contiguous, SpdStrategy::Auto);
            }
        }
    }
}

#[test]
fn auto_gradient_matches_the_definition() {
    every_backend(&AutomaticGradient);
}

struct ReferenceBody;

impl BackendTest for ReferenceBody {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        let case = Case::new([2, 5, 3], DType::F32);
        let [a, b] = [(&case.a, 5), (&case.b, 3)]
            .map(|(values, cols)| place::<B>(values, &[2, 5, cols], DType::F32, Layout::Contiguous, &backend.device));
        let factor = B::spd_factor(a.clone(), SpdStrategy::Reference);
        let x = read::<B>(B::spd_solve(a, factor, b, SpdStrategy::Reference));
        case.assert_solution(&format!("{}: reference", backend.name), &x, &case.b);
    }
}

#[test]
fn reference_runs_on_every_device() {
    every_backend(&ReferenceBody);
}
