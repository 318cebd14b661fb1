//! The terms of the loss.

use burn::tensor::activation::log_softmax;
use burn::tensor::{FloatDType, Tensor};

/// Rows whose logits are in memory at once: with a vocabulary of 50,257 tokens, 51 MB.
const ROWS: usize = 256;

/// `‖found - expected‖² / ‖expected‖²`, `[1]`.
pub(super) fn relative_error<const D: usize>(found: Tensor<D>, expected: Tensor<D>) -> Tensor<1> {
    let [found, expected] = [found, expected].map(|states| states.cast(FloatDType::F32));
    let size = expected.clone().square().sum().clamp_min(f64::from(f32::MIN_POSITIVE));
    (found - expected).square().sum() / size
}

/// The mean square difference of the cosines of all pairs of different rows, `[1]`; 0 for one row.
pub(super) fn similarity_error(found: Tensor<2>, expected: Tensor<2>) -> Tensor<1> {
    let [rows, _] = found.dims();
    let [found, expected] = [found, expected].map(|output| {
        let output = output.cast(FloatDType::F32);
        let norm = output.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
        let unit = output / norm;
        unit.clone().matmul(unit.transpose())
    });
    // The diagonals are 1 in both.
    (found - expected).square().sum() / (rows * (rows - 1)).max(1) as f64
}

/// `KL(softmax(z_dense) ‖ softmax(z))` of the logits `z` of all rows, their mean, `[1]`; `None` if there are no logits. `student` and
/// `teacher` give the logits of some rows of the outputs `found` and `expected`.
pub(super) fn divergence(
    found: Tensor<2>,
    expected: Tensor<2>,
    student: impl Fn(Tensor<2>) -> Option<Tensor<2>>,
    teacher: impl Fn(Tensor<2>) -> Option<Tensor<2>>,
) -> Option<Tensor<1>> {
    let [rows, _] = found.dims();
    let mut sums = Vec::new();
    for (first, count) in parts(rows) {
        let [found, expected] = [&found, &expected].map(|outputs| outputs.clone().narrow(0, first, count));
        sums.push(row_divergence(student(found)?, teacher(expected)?));
    }
    Some(Tensor::cat(sums, 0).sum() / rows as f64)
}

/// [`divergence`] with its gradient for `found`, without the logits of all rows: the gradient of a part is computed at once, and what is
/// returned is linear in `found`.
pub(super) fn divergence_loss(
    found: Tensor<2>,
    expected: Tensor<2>,
    student: impl Fn(Tensor<2>) -> Option<Tensor<2>>,
    teacher: impl Fn(Tensor<2>) -> Option<Tensor<2>>,
) -> Option<Tensor<1>> {
    let [rows, _] = found.dims();
    let outputs = found.clone().without_autodiff();
    let (mut values, mut gradients) = (Vec::new(), Vec::new());
    for (first, count) in parts(rows) {
        let outputs = outputs.clone().narrow(0, first, count).autodiff().require_grad();
        let expected = teacher(expected.clone().narrow(0, first, count))?.autodiff();
        let value = row_divergence(student(outputs.clone())?, expected) / rows as f64;
        values.push(value.clone().without_autodiff());
        gradients.push(outputs.grad(&value.backward())?.without_autodiff());
    }
    let value = Tensor::cat(values, 0).sum();
    let linear = (found * Tensor::cat(gradients, 0).autodiff()).sum();
    let constant = value - linear.clone().without_autodiff();
    Some(linear + constant.autodiff())
}

/// The first row and the number of rows of each part.
fn parts(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..rows).step_by(ROWS).map(move |first| (first, ROWS.min(rows - first)))
}

/// The sum of the divergences of all rows, `[1]`.
fn row_divergence(found: Tensor<2>, expected: Tensor<2>) -> Tensor<1> {
    let [found, expected] = [found, expected].map(|logits| log_softmax(logits.cast(FloatDType::F32), 1));
    (expected.clone().exp() * (expected - found)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn similarity_error_is_that_of_the_cosines() {
        let device = Device::flex();
        let found = Tensor::<2>::from_data([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]], &device);
        let expected = Tensor::<2>::from_data([[1.0, 0.0], [1.0, 0.0], [0.0, 5.0]], &device);
        let error: f64 = similarity_error(found, expected).into_scalar();
        let half = 0.5f64.sqrt();
        // Cosines 0, √½, √½ against 1, 0, 0.
        assert!((error - (1.0 + 2.0 * half * half) / 3.0).abs() < 1e-6, "{error}");
        let one = Tensor::<2>::from_data([[2.0, 0.0]], &device);
        assert_eq!(similarity_error(one.clone(), one * 2.0).into_scalar::<f64>(), 0.0);
    }

    #[test]
    fn divergence_loss_is_the_divergence_with_its_gradient() {
        let device = Device::flex();
        let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &device);
        // More rows than are in memory at once.
        let (found, expected, head) = (random([600, 3]), random([600, 3]), random([3, 7]));
        let teacher = |rows: Tensor<2>| Some(rows.matmul(head.clone()));
        let student = |rows: Tensor<2>| Some(rows.matmul(head.clone().autodiff()));
        let plain = divergence(found.clone(), expected.clone(), teacher, teacher).unwrap().into_scalar::<f64>();
        let zero = divergence(expected.clone(), expected.clone(), teacher, teacher).unwrap().into_scalar::<f64>();
        assert!(plain > 0.1 && zero.abs() < 1e-6, "{plain} {zero}");

        let leaf = found.clone().autodiff().require_grad();
        let loss = divergence_loss(leaf.clone() * 2.0, expected.clone() * 2.0, student, teacher).unwrap();
        let gradient = leaf.grad(&loss.backward()).unwrap();
        let whole = found.autodiff().require_grad();
        let logits = |rows: Tensor<2>| rows.matmul(head.clone().autodiff()) * 2.0;
        let direct = row_divergence(logits(whole.clone()), logits(expected.autodiff())) / 600.0;
        let value = |tensor: &Tensor<1>| tensor.clone().without_autodiff().into_scalar::<f64>();
        assert!((value(&loss) / value(&direct) - 1.0).abs() < 1e-5);
        let exact = whole.grad(&direct.backward()).unwrap();
        let difference = (gradient - exact).abs().max().into_scalar::<f64>();
        assert!(difference < 1e-7, "{difference}");
        assert!(divergence(expected_rows(&device), expected_rows(&device), |_| None, teacher).is_none());
    }

    fn expected_rows(device: &Device) -> Tensor<2> {
        Tensor::ones([2, 3], device)
    }

    #[test]
    fn relative_error_does_not_depend_on_the_scale() {
        let device = Device::flex();
        let expected = Tensor::<2>::from_data([[3.0, 4.0]], &device);
        let found = Tensor::<2>::from_data([[3.0, 3.0]], &device);
        for scale in [1.0, 100.0] {
            let error: f64 = relative_error(found.clone() * scale, expected.clone() * scale).into_scalar();
            assert!((error - 1.0 / 25.0).abs() < 1e-6, "{error}");
        }
    }
}
