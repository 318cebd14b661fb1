//! Gradients of the public function, against finite differences in f64.

use super::case::Case;
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_structured_ops::spd::{SpdStrategy, spd_solve_with};

const SIZES: [usize; 3] = [2, 5, 3];
const STRATEGIES: [SpdStrategy; 3] = [SpdStrategy::Auto, SpdStrategy::Reference, SpdStrategy::TiledGemm];

/// `Σ g ∘ a⁻¹ b`.
fn loss(a: Tensor<3>, b: Tensor<3>, case: &Case, strategy: SpdStrategy) -> Tensor<1> {
    let g = upload(&case.g, SIZES, &a.device());
    (spd_solve_with(a, b, strategy) * g).sum()
}

fn upload(values: &[f64], dims: [usize; 3], device: &Device) -> Tensor<3> {
    Tensor::from_data(TensorData::new(values.to_vec(), dims), (device, DType::F64))
}

fn values(tensor: Tensor<3>) -> Vec<f64> {
    tensor.into_data().try_into_vec().expect("f64 values")
}

#[test]
fn gradients_match_finite_differences() {
    let [batch, n, k] = SIZES;
    let mut case = Case::new(SIZES, DType::F64);
    // The whole matrices: their symmetric changes are what the gradient is about.
    for index in 0..case.a.len() {
        let (matrix, row, col) = (index / (n * n), index / n % n, index % n);
        case.a[index] = case.a[(matrix * n + row.max(col)) * n + row.min(col)];
    }
    let plain = Device::flex();
    let device = Device::flex().autodiff();
    for strategy in STRATEGIES {
        let a = upload(&case.a, [batch, n, n], &device).require_grad();
        let b = upload(&case.b, [batch, n, k], &device).require_grad();
        let grads = loss(a.clone(), b.clone(), &case, strategy).backward();
        let (da, db) = (values(a.grad(&grads).expect("da")), values(b.grad(&grads).expect("db")));

        const STEP: f64 = 1e-6;
        let slope = |a_change: &dyn Fn(usize) -> f64, b_change: &dyn Fn(usize) -> f64| {
            let [up, down] = [STEP, -STEP].map(|step| {
                let changed = |values: &[f64], change: &dyn Fn(usize) -> f64| -> Vec<f64> {
                    values.iter().enumerate().map(|(index, value)| value + step * change(index)).collect()
                };
                let a = upload(&changed(&case.a, a_change), [batch, n, n], &plain);
                let b = upload(&changed(&case.b, b_change), [batch, n, k], &plain);
                loss(a, b, &case, strategy).into_scalar::<f64>()
            });
            (up - down) / (2.0 * STEP)
        };
        // The third derivative of `a⁻¹` is that of a condition of 64, and rounding errors are divided by the step.
        let close = |actual: f64, expected: f64| (actual - expected).abs() <= 1e-5 * (1.0 + expected.abs());
        let nothing = |_: usize| 0.0;
        for index in 0..da.len() {
            let (matrix, row, col) = (index / (n * n), index / n % n, index % n);
            let mirrored = (matrix * n + col) * n + row;
            assert_eq!(da[index], da[mirrored], "{strategy:?}: a gradient of symmetric matrices is symmetric");
            let expected = slope(&|at| if at == index || at == mirrored { 1.0 } else { 0.0 }, &nothing);
            let actual = if row == col { da[index] } else { da[index] + da[mirrored] };
            assert!(close(actual, expected), "{strategy:?}, da[{index}]: {actual} instead of {expected}");
        }
        for (index, actual) in db.into_iter().enumerate() {
            let expected = slope(&nothing, &|at| if at == index { 1.0 } else { 0.0 });
            assert!(close(actual, expected), "{strategy:?}, db[{index}]: {actual} instead of {expected}");
        }
    }
}

#[test]
fn only_tracked_gradients_are_computed() {
    let [batch, n, k] = SIZES;
    let case = Case::new(SIZES, DType::F64);
    let device = Device::flex().autodiff();
    let operands = || (upload(&case.a, [batch, n, n], &device), upload(&case.b, [batch, n, k], &device));
    let both = {
        let (a, b) = operands();
        let (a, b) = (a.require_grad(), b.require_grad());
        let grads = loss(a.clone(), b.clone(), &case, SpdStrategy::Auto).backward();
        (values(a.grad(&grads).expect("da")), values(b.grad(&grads).expect("db")))
    };
    let (a, b) = operands();
    let a = a.require_grad();
    let grads = loss(a.clone(), b.clone(), &case, SpdStrategy::Auto).backward();
    assert_eq!(values(a.grad(&grads).expect("da")), both.0);
    assert!(b.grad(&grads).is_none());
    let (a, b) = operands();
    let b = b.require_grad();
    let grads = loss(a.clone(), b.clone(), &case, SpdStrategy::Auto).backward();
    assert_eq!(values(b.grad(&grads).expect("db")), both.1);
    assert!(a.grad(&grads).is_none());
}
