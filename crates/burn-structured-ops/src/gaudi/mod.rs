//! Gaudi masks: windows whose width and location can be learned.
//!
//! A generalised block-low-rank (GBLR) matrix is a sum of rank-one components, each confined to a window of neighbouring
//! rows and one of neighbouring columns (Lee, Kim, *Differentiable Learning of Generalized Structured Matrices for
//! Efficient Deep Neural Networks*, ICLR 2024). A window of relative width `w` and location `l` among `n` positions is a
//! boxcar, whose Fourier coefficients are smooth in both. Damped by a Gaussian of width `σ` they make the
//! Gaussian-Dirichlet ("Gaudi") mask
//!
//! ```text
//! mask[p] = w + Σ_{k=1..n/2} m_k sin(π w k) cos(2π k p / n + φ_k)       φ_k = π k (1/n − w − 2 l)
//! m_k     = 2 exp(−k² / 2σ²) / (n sin(π k / n))                         (half of it at k = n/2)
//! ```
//!
//! which is the unnormalised inverse real Fourier transform of `w sinc(w k) e^{−iπkw} C_k` written out. In this form nothing
//! is divided by `w`, so a window of width 0 has a gradient, too, and can grow back. As `σ` grows, the mask tends to the
//! boxcar.
//!
//! The sum over `k` is a matrix product with a constant [`gaudi_basis`]; the gradient with respect to `w` and `l` is that of
//! these few tensor operations.

use burn::tensor::{DType, Device, Tensor, TensorData};
use std::f64::consts::PI;

/// The constant part of [`gaudi_mask`] for `positions` positions: `[2 (positions / 2), positions]`, the damped cosines, then
/// the negative sines.
///
/// `sigma` is in harmonics: those far above it are damped away. `None` does not damp, which makes whole windows exact.
pub fn gaudi_basis(positions: usize, sigma: Option<f64>, device: &Device, dtype: DType) -> Tensor<2> {
    let (n, harmonics) = (positions, positions / 2);
    let circle: Vec<(f64, f64)> = (0..n).map(|step| (2.0 * PI * step as f64 / n as f64).sin_cos()).collect();
    let mut values = vec![0.0; 2 * harmonics * n];
    for k in 1..=harmonics {
        let damping = sigma.map_or(1.0, |sigma| (-0.5 * (k as f64 / sigma).powi(2)).exp());
        let sides = if 2 * k == n { 1.0 } else { 2.0 };
        let weight = sides * damping / (n as f64 * (PI * k as f64 / n as f64).sin());
        for p in 0..n {
            let (sin, cos) = circle[k * p % n];
            values[(k - 1) * n + p] = weight * cos;
            values[(harmonics + k - 1) * n + p] = -weight * sin;
        }
    }
    Tensor::from_data(TensorData::new(values, [2 * harmonics, n]).convert_dtype(dtype), (device, dtype))
}

/// The Gaudi masks `[r, n]` of windows with relative `width [r]` and `location [r]` (the first position of a window, as a
/// share of `n`; windows wrap around).
///
/// # Panics
///
/// If `width` and `location` differ in length, or `basis` is not a [`gaudi_basis`].
pub fn gaudi_mask(width: Tensor<1>, location: Tensor<1>, basis: Tensor<2>) -> Tensor<2> {
    let ([r], [rows, n]) = (width.dims(), basis.dims());
    assert_eq!(location.dims(), [r], "gaudi_mask: `location` must have as many windows as `width`");
    assert_eq!(rows, 2 * (n / 2), "gaudi_mask: `basis` must be [2 (n/2), n], got {:?}", basis.dims());
    let (width, location) = (width.reshape([r, 1]), location.reshape([r, 1]));
    if rows == 0 {
        return width.expand([r, n]);
    }
    let (device, dtype) = (width.device(), width.dtype());
    let k: Vec<f64> = (1..=n / 2).map(|k| PI * k as f64).collect();
    let k = Tensor::<2>::from_data(TensorData::new(k, [1, n / 2]).convert_dtype(dtype), (&device, dtype));
    let amplitude = (width.clone() * k.clone()).sin();
    let phase = (width.clone() + location * 2.0 - 1.0 / n as f64).neg() * k;
    let waves = Tensor::cat(vec![amplitude.clone() * phase.clone().cos(), amplitude * phase.sin()], 1);
    waves.matmul(basis) + width
}

/// The windows themselves, `[r, n]` of zeros and ones, with start and width rounded to whole positions.
///
/// # Panics
///
/// If `width` and `location` differ in length.
pub fn window_mask(width: Tensor<1>, location: Tensor<1>, positions: usize) -> Tensor<2> {
    let [r] = width.dims();
    assert_eq!(location.dims(), [r], "window_mask: `location` must have as many windows as `width`");
    let (device, dtype, n) = (width.device(), width.dtype(), positions as f64);
    // Half precision does not hold every position.
    let exact = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let start = (location.cast(exact) * n).round().reshape([r, 1]);
    let length = (width.cast(exact) * n).round().reshape([r, 1]);
    let p: Vec<f64> = (0..positions).map(|p| p as f64).collect();
    let p = Tensor::<2>::from_data(TensorData::new(p, [1, positions]).convert_dtype(exact), (&device, exact));
    let distance = (p - start).remainder_scalar(n);
    distance.lower(length - 0.5).float().cast(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;

    const F64: DType = DType::F64;

    fn vector(values: &[f64], device: &Device) -> Tensor<1> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), (device, F64))
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
        tensor.into_data().try_into_vec().unwrap()
    }

    #[test]
    fn without_damping_whole_windows_are_boxcars() {
        let device = Device::flex();
        for n in [1usize, 2, 7, 8, 15] {
            for (length, start) in [(1, 0), (n / 2, n / 3), (n, 0), (0, 0), (2.min(n), n - 1)] {
                let width = vector(&[length as f64 / n as f64], &device);
                let location = vector(&[start as f64 / n as f64], &device);
                let basis = gaudi_basis(n, None, &device, F64);
                let expected: Vec<f64> = (0..n).map(|p| f64::from((p + n - start) % n < length)).collect();
                let mask = values(gaudi_mask(width.clone(), location.clone(), basis));
                for (actual, expected) in mask.iter().zip(&expected) {
                    assert!((actual - expected).abs() < 1e-12, "n {n}, {length} from {start}: {mask:?}");
                }
                assert_eq!(values(window_mask(width, location, n)), expected, "n {n}, {length} from {start}");
            }
        }
    }

    #[test]
    fn windows_in_half_precision_keep_every_position() {
        let device = Device::flex();
        let of = |dtype| {
            let one = |value: f64| vector(&[value], &device).cast(dtype);
            let mask = window_mask(one(0.5), one(0.25), 768);
            mask.into_data().iter::<f32>().collect::<Vec<_>>()
        };
        assert_eq!(of(DType::BF16), of(DType::F64));
    }

    #[test]
    fn gradients_are_finite_differences_even_at_width_zero() {
        let device = Device::flex().autodiff();
        let n = 12;
        let basis = || gaudi_basis(n, Some(3.0), &device, F64);
        let weights = vector(&(0..n).map(|p| (p as f64 * 1.7).sin()).collect::<Vec<_>>(), &device);
        let loss = |w: f64, l: f64| {
            let mask = gaudi_mask(vector(&[w], &device), vector(&[l], &device), basis());
            values((mask * weights.clone().unsqueeze()).sum())[0]
        };
        for (w, l) in [(0.4, 0.3), (0.0, 0.6), (1.0, 0.1)] {
            let (width, location) = (vector(&[w], &device).require_grad(), vector(&[l], &device).require_grad());
            let mask = gaudi_mask(width.clone(), location.clone(), basis());
            let grads = (mask * weights.clone().unsqueeze()).sum().backward();
            let h = 1e-6;
            let dw = (loss(w + h, l) - loss(w - h, l)) / (2.0 * h);
            let dl = (loss(w, l + h) - loss(w, l - h)) / (2.0 * h);
            assert!((values(width.grad(&grads).unwrap())[0] - dw).abs() < 1e-7, "width at {w}, {l}");
            assert!((values(location.grad(&grads).unwrap())[0] - dl).abs() < 1e-7, "location at {w}, {l}");
            assert!(dw.abs() > 1e-3, "a width of {w} still has a gradient");
        }
    }
}
