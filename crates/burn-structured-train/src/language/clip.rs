//! Clipping by the norm of all gradients together.
//!
//! `burn-optim` clips the gradient of each parameter by its own norm, which changes the direction of the step.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, MultiGradientsParams};
use burn::tensor::{Device, FloatDType, Int, Tensor};

/// Scales the gradients `g_p` of all parameters of `module` by `min(1, max_norm / (‖g‖ + 1e-6))` with `‖g‖² = Σ_p ‖g_p‖²`, as
/// PyTorch's `clip_grad_norm_` does.
///
/// The norm stays on its device: nothing waits for it.
pub(crate) fn clip_global_norm<M: Module>(module: &M, grads: GradientsParams, max_norm: f64) -> GradientsParams {
    let Some(scale) = scale(module, &[&grads], max_norm) else { return grads };
    scaled(module, grads, scale)
}

/// As [`clip_global_norm`], for gradients that are spread over several devices, each on one of them.
pub(super) fn clip_global_norm_multi<M: Module>(
    module: &M,
    grads: MultiGradientsParams,
    max_norm: f64,
) -> MultiGradientsParams {
    let all: Vec<_> = grads.grads.iter().map(|(grads, _)| grads).collect();
    let Some(scale) = scale(module, &all, max_norm) else { return grads };
    let on_device =
        |(grads, device): (GradientsParams, Device)| (scaled(module, grads, scale.clone().to_device(&device)), device);
    MultiGradientsParams { grads: grads.grads.into_iter().map(on_device).collect() }
}

/// Adds up the gradients of each parameter over the devices, in their order, on the device where Burn's optimizer looks for
/// them first.
///
/// The optimizer would add them up in an order that depends on the parameter's random identity, and a run with the same seed
/// would not be the same.
pub(super) fn sum_over_devices<M: Module>(module: &M, grads: MultiGradientsParams) -> MultiGradientsParams {
    let empty = grads.grads.iter().map(|(_, device)| (GradientsParams::new(), device.clone())).collect();
    let mut summing = Summing { from: grads.grads, to: empty };
    module.visit(&mut summing);
    MultiGradientsParams { grads: summing.to }
}

/// `min(1, max_norm / (‖g‖ + 1e-6))`, on the device of the first gradient; `None` without gradients.
fn scale<M: Module>(module: &M, grads: &[&GradientsParams], max_norm: f64) -> Option<Tensor<1>> {
    let mut squares = Squares { grads, found: Vec::new(), count: 0 };
    module.visit(&mut squares);
    let (_, first) = squares.found.iter().flatten().next()?;
    let device = first.device();
    // One transfer for each device, and a sum in the order of the parameters, wherever they are.
    let (mut order, mut values) = (Vec::new(), Vec::new());
    for found in squares.found {
        let (indices, squares): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        if !squares.is_empty() {
            order.extend(indices);
            values.push(Tensor::cat(squares, 0).to_device(&device));
        }
    }
    let mut positions: Vec<i32> = vec![0; order.len()];
    order.into_iter().zip(0..).for_each(|(index, position): (usize, i32)| positions[index] = position);
    let positions = Tensor::<1, Int>::from_data(positions.as_slice(), &device);
    let squared = Tensor::cat(values, 0).select(0, positions).sum();
    Some((squared.sqrt() + 1e-6).recip().mul_scalar(max_norm).clamp_max(1.0))
}

fn scaled<M: Module>(module: &M, grads: GradientsParams, scale: Tensor<1>) -> GradientsParams {
    let mut scaling = Scaling { from: grads, to: GradientsParams::new(), scale };
    module.visit(&mut scaling);
    scaling.to
}

/// The squared norm of every gradient.
struct Squares<'a> {
    grads: &'a [&'a GradientsParams],
    /// For each of `grads`, the norms in it with the number of their parameter, counted over those with a gradient.
    found: Vec<Vec<(usize, Tensor<1>)>>,
    count: usize,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.resize(self.grads.len(), Vec::new());
        let grads = self.grads.iter().map(|grads| grads.get::<D>(param.id));
        for (grad, found) in grads.zip(&mut self.found) {
            let Some(grad) = grad else { continue };
            // A sum of many squares does not fit the half precisions.
            found.push((self.count, grad.cast(FloatDType::F32).square().sum()));
            self.count += 1;
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

struct Summing {
    from: Vec<(GradientsParams, Device)>,
    to: Vec<(GradientsParams, Device)>,
}

impl ModuleVisitor for Summing {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // As `MultiGradientsParams::remove`.
        let owner = param.id.val() as usize % self.to.len();
        let (summed, device) = &mut self.to[owner];
        let grads = self.from.iter_mut().filter_map(|(grads, _)| grads.remove::<D>(param.id));
        if let Some(sum) = grads.map(|grad| grad.to_device(device)).reduce(|sum, grad| sum + grad) {
            summed.register(param.id, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};

    fn layer() -> Linear {
        LinearConfig::new(2, 2).init(&Device::flex())
    }

    /// Gradients of the weight and the bias.
    fn grads(layer: &Linear, weight: [[f32; 2]; 2], bias: [f32; 2]) -> GradientsParams {
        let mut grads = GradientsParams::new();
        grads.register(layer.weight.id, Tensor::<2>::from_data(weight, &Device::flex()));
        grads.register(layer.bias.as_ref().unwrap().id, Tensor::<1>::from_data(bias, &Device::flex()));
        grads
    }

    fn values(layer: &Linear, remove: impl FnOnce(&Linear) -> (Tensor<2>, Tensor<1>)) -> Vec<f32> {
        let (weight, bias) = remove(layer);
        weight.into_data().iter::<f32>().chain(bias.into_data().iter::<f32>()).collect()
    }

    fn assert_close(actual: &[f32], expected: &[f32]) {
        assert_eq!(actual.len(), expected.len());
        for (actual, expected) in actual.iter().zip(expected) {
            assert!((actual - expected).abs() < 1e-5, "{actual} instead of {expected}");
        }
    }

    #[test]
    fn norm_is_that_of_all_gradients_together() {
        let layer = layer();
        let clipped = |max_norm| {
            let grads = grads(&layer, [[1.0, 2.0], [2.0, 4.0]], [0.0, -12.0]);
            let mut clipped = clip_global_norm(&layer, grads, max_norm);
            values(&layer, |layer| {
                (clipped.remove(layer.weight.id).unwrap(), clipped.remove(layer.bias.as_ref().unwrap().id).unwrap())
            })
        };
        // √(1 + 4 + 4 + 16 + 144) = 13.
        assert_close(&clipped(1.3), &[0.1, 0.2, 0.2, 0.4, 0.0, -1.2]);
        assert_close(&clipped(20.0), &[1.0, 2.0, 2.0, 4.0, 0.0, -12.0]);
    }

    #[test]
    fn gradients_of_several_devices_are_summed_before_the_norm() {
        let layer = layer();
        let multi = MultiGradientsParams {
            grads: vec![
                (grads(&layer, [[4.0, 2.0], [1.0, 0.0]], [1.0, -6.0]), Device::flex()),
                (grads(&layer, [[-3.0, 0.0], [1.0, 4.0]], [-1.0, -6.0]), Device::flex()),
            ],
        };
        let mut clipped = clip_global_norm_multi(&layer, sum_over_devices(&layer, multi), 1.3);
        let values = values(&layer, |layer| {
            let (weight, bias) = (layer.weight.id, layer.bias.as_ref().unwrap().id);
            (clipped.remove(weight).unwrap().0, clipped.remove(bias).unwrap().0)
        });
        assert_close(&values, &[0.1, 0.2, 0.2, 0.4, 0.0, -1.2]);
    }

    #[test]
    fn parameters_without_a_gradient_are_left_out() {
        let layer = layer();
        let mut only_bias = GradientsParams::new();
        only_bias.register(layer.bias.as_ref().unwrap().id, Tensor::<1>::from_data([3.0, 4.0], &Device::flex()));
        let mut clipped = clip_global_norm(&layer, only_bias, 1.0);
        assert_eq!(clipped.len(), 1);
        let bias = clipped.remove::<1>(layer.bias.as_ref().unwrap().id).unwrap();
        assert_close(&bias.into_data().iter::<f32>().collect::<Vec<_>>(), &[0.6, 0.8]);
        assert!(clip_global_norm(&layer, GradientsParams::new(), 1.0).is_empty());
    }
}
