//! GELU by its tanh approximation.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;

/// `x / 2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`, elementwise (Hendrycks and Gimpel, *Gaussian Error Linear Units*, 2016).
///
/// Computed as `x σ(2 √(2/π) (x + 0.044715 x³))`, which is equal. Burn's `gelu_approximate` takes `powf` and `tanh` on Flex:
/// 14 ms forward and backward for 768 × 512 numbers on two cores, against 3 ms.
pub(super) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    /// `2 √(2/π)`
    const SCALE: f64 = std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::SQRT_2;
    let inner = (x.clone().square() * (0.044715 * SCALE) + SCALE) * x.clone();
    x * sigmoid(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::activation::gelu_approximate;
    use burn::tensor::{Device, Tolerance};

    #[test]
    fn gelu_and_its_gradient_are_burns() {
        let device = Device::flex().autodiff();
        let x = Tensor::<1, burn::tensor::Int>::arange(-60..61, &device).float() / 10.0;
        let run = |gelu: fn(Tensor<1>) -> Tensor<1>| {
            let x = x.clone().require_grad();
            let y = gelu(x.clone());
            let gradients = y.clone().square().sum().backward();
            [y.into_data(), x.grad(&gradients).unwrap().into_data()]
        };
        for (found, expected) in run(gelu).iter().zip(&run(gelu_approximate)) {
            found.assert_approx_eq::<f32>(expected, Tolerance::rel_abs(2e-6, 2e-6));
        }
    }

    #[test]
    fn gelu_of_extreme_numbers_is_finite() {
        let x = Tensor::<1>::from_data([-1e30, -100.0, 0.0, 100.0, 1e30], &Device::flex());
        let y: Vec<f32> = gelu(x).into_data().iter::<f32>().collect();
        assert_eq!(y, [0.0, 0.0, 0.0, 100.0, 1e30]);
    }
}
