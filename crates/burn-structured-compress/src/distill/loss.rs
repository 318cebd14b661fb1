//! The terms of the loss.

use burn::tensor::{FloatDType, Tensor};

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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

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
