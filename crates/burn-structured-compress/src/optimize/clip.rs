//! Clipping by the norm of all gradients together.
//!
//! `burn-optim` clips the gradient of each parameter by its own norm, which changes the direction of the step.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{FloatDType, Tensor};

/// Scales the gradients `g_p` of all parameters of `module` by `min(1, max_norm / (‖g‖ + 1e-6))` with `‖g‖² = Σ_p ‖g_p‖²`, as
/// PyTorch's `clip_grad_norm_` does.
pub(super) fn clip_global_norm<M: Module>(module: &M, grads: GradientsParams, max_norm: f64) -> GradientsParams {
    let mut squares = Squares { grads: &grads, found: Vec::new() };
    module.visit(&mut squares);
    if squares.found.is_empty() {
        return grads;
    }
    let norm = Tensor::cat(squares.found, 0).sum().sqrt();
    let scale = (norm + 1e-6).recip().mul_scalar(max_norm).clamp_max(1.0);
    let mut scaling = Scaling { from: grads, to: GradientsParams::new(), scale };
    module.visit(&mut scaling);
    scaling.to
}

struct Squares<'a> {
    grads: &'a GradientsParams,
    found: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            // A sum of many squares does not fit the half precisions.
            self.found.push(grad.cast(FloatDType::F32).square().sum());
        }
    }
}

struct Scaling {
    from: GradientsParams,
    to: GradientsParams,
    scale: Tensor<1>,
}

impl ModuleVisitor for Scaling {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(grad) = self.from.remove::<D>(param.id) else { return };
        let scale = self.scale.clone().cast(FloatDType::from(grad.dtype()));
        self.to.register(param.id, grad * scale.unsqueeze());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    #[test]
    fn clip_global_norm_keeps_the_direction() {
        let device = Device::flex();
        let layer = LinearConfig::new(2, 2).init(&device);
        for (max_norm, scale) in [(1.0, 0.2), (10.0, 1.0)] {
            let mut grads = GradientsParams::new();
            grads.register(layer.weight.id, Tensor::<2>::from_data([[2.0, 2.0], [2.0, 2.0]], &device));
            grads.register(layer.bias.as_ref().unwrap().id, Tensor::<1>::from_data([3.0, 0.0], &device));
            let mut clipped = clip_global_norm(&layer, grads, max_norm);
            let weight: Vec<f32> = clipped.remove::<2>(layer.weight.id).unwrap().into_data().iter().collect();
            let bias: Vec<f32> =
                clipped.remove::<1>(layer.bias.as_ref().unwrap().id).unwrap().into_data().iter().collect();
            for (found, expected) in weight.into_iter().chain(bias).zip([2.0, 2.0, 2.0, 2.0, 3.0, 0.0]) {
                assert!((found - scale * expected).abs() < 1e-5, "{found} against {scale} of {expected}");
            }
        }
    }
}
