//! The Gaudi-GBLR layer: components confined to windows of features, which are learned, too.

mod windowed;

pub use windowed::WindowedLinear;

use crate::dense::own_bias;
use crate::display::layer_display;
use crate::initializer::{FactorInitializers, TargetDistribution, dense_bias, dense_default};
use crate::parameter::parameter;
use crate::{Cost, Factor, LowRankLinearConfig, Rank, Structure, StructureError};
use burn::config::Config;
use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{DType, Device, Tensor, TensorData, assert_shape};
use burn_structured_ops::Epilogue;
use burn_structured_ops::gaudi::{gaudi_basis, gaudi_mask, window_mask};
use burn_structured_ops::low_rank::low_rank_linear;

/// Configuration to create a [`GaudiLinear`] layer using the [init function](GaudiLinearConfig::init).
#[derive(Config, Debug)]
pub struct GaudiLinearConfig {
    /// The size of the input features.
    pub d_input: usize,
    /// The size of the output features.
    pub d_output: usize,
    /// The number of components, or the share of the dense parameters to spend on them, outside of the windows included.
    #[config(default = "Rank::Ratio(0.5)")]
    pub rank: Rank,
    /// The width of the initial windows, as a share of the features; they are spread evenly.
    #[config(default = 0.5)]
    pub width: f64,
    /// The width in harmonics of the Gaussian that smooths the masks; `None` leaves windows of whole features sharp.
    #[config(default = "None")]
    pub sigma: Option<f64>,
    /// Whether the forward pass uses the windows rounded to whole features, with the gradient of the smooth masks.
    #[config(default = false)]
    pub straight_through: bool,
    /// If a bias should be applied during the linear transformation.
    #[config(default = true)]
    pub bias: bool,
    /// The dense initializer to imitate: the factors are drawn so that the output has the variance it gives.
    #[config(default = "dense_default()")]
    pub initializer: Initializer,
}

/// Applies a linear transformation whose weight is a sum of windowed components: `O = I (Σ_k ũ_k ṽ_kᵀ)ᵀ + b`, with
/// `ũ_k = mask(output window k) ∘ u_k`, `ṽ_k = mask(input window k) ∘ v_k` (generalised block low rank; Lee, Kim, ICLR 2024).
///
/// Each window has a width and a location, which are parameters: the [Gaussian-Dirichlet mask](burn_structured_ops::gaudi) is
/// differentiable in both. While they are learned the layer costs what a low-rank layer does, and the masks besides;
/// [`freeze_windows`](Self::freeze_windows) turns it into a [`WindowedLinear`], which skips what lies outside of the windows. Adding
/// [`window_weights`](Self::window_weights) to the loss makes the windows shrink.
///
/// The masks are a product with constants of `d_input² + d_output²` numbers, which every layer keeps beside its parameters.
/// They and the choices behind them (`sigma`, `straight_through`) follow from the configuration and are not part of a
/// record: load weights into a layer of the same configuration.
///
/// Should be created with [`GaudiLinearConfig`].
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct GaudiLinear {
    /// Input factor `V [d_input, r]`.
    pub v: Param<Tensor<2>>,
    /// Output factor, transposed: `Uᵀ [r, d_output]`.
    pub ut: Param<Tensor<2>>,
    /// Widths of the input windows, as shares of `d_input`: `[r]`. Used from 0 to 1.
    pub input_width: Param<Tensor<1>>,
    /// First features of the input windows, as shares of `d_input`: `[r]`. Windows wrap around.
    pub input_location: Param<Tensor<1>>,
    /// Widths of the output windows, as shares of `d_output`: `[r]`. Used from 0 to 1.
    pub output_width: Param<Tensor<1>>,
    /// First features of the output windows, as shares of `d_output`: `[r]`. Windows wrap around.
    pub output_location: Param<Tensor<1>>,
    /// Vector of size `d_output`.
    pub bias: Option<Param<Tensor<1>>>,
    input_basis: Tensor<2>,
    output_basis: Tensor<2>,
    #[module(skip)]
    sigma: Option<f64>,
    #[module(skip)]
    straight_through: bool,
}

impl GaudiLinearConfig {
    /// Initialize a new [`GaudiLinear`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> GaudiLinear {
        self.try_init(device).unwrap_or_else(|error| panic!("GaudiLinear: {error}"))
    }

    /// Initialize a new [`GaudiLinear`] module.
    ///
    /// # Errors
    ///
    /// If a dimension is zero, if the rank is zero or above `min(d_input, d_output)`, if the ratio is outside `(0, 1]` or
    /// leaves no room for rank 1, if the width is outside `(0, 1]` or `sigma` not
    /// above 0, or if the initializer has a mean.
    pub fn try_init(&self, device: &Device) -> Result<GaudiLinear, StructureError> {
        let (d_input, d_output, rank) = (self.d_input, self.d_output, self.resolve()?);
        let factors = match TargetDistribution::of(&self.initializer, d_input, d_output)? {
            // An entry is covered by `width²` of the components, on average; a window covers one feature at least.
            TargetDistribution::Variance(variance) => {
                let covered = [d_input, d_output].map(|features| self.width.max(1.0 / features as f64));
                FactorInitializers::with_variance(variance, rank as f64 * covered[0] * covered[1])
            }
            _ => FactorInitializers::imitating(&self.initializer, d_input, d_output, rank)?,
        };
        let v = factors.v.init([d_input, rank], device);
        let ut = factors.u.init([rank, d_output], device);
        let bias = dense_bias(self.bias, &self.initializer, [d_input, d_output], device);
        // Input windows are paired with windows all over the output: a stride coprime to the rank orders the latter.
        let spread = |step: usize| (0..rank).map(move |k| (k * step % rank) as f64 / rank as f64);
        let stride = (1..=rank).filter(|step| gcd(*step, rank) == 1).min_by_key(|step| step.abs_diff(rank.isqrt()));
        let locations = [spread(1).collect(), spread(stride.unwrap_or(1)).collect()];
        Ok(self.layer(v, ut, bias, self.width, locations))
    }

    pub(crate) fn layer(
        &self,
        v: Param<Tensor<2>>,
        ut: Param<Tensor<2>>,
        bias: Option<Param<Tensor<1>>>,
        width: f64,
        [input_location, output_location]: [Vec<f64>; 2],
    ) -> GaudiLinear {
        let (device, dtype) = (v.val().device(), v.val().dtype());
        let basis_dtype = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let windows = |values: Vec<f64>| {
            let length = values.len();
            parameter(Tensor::from_data(TensorData::new(values, [length]).convert_dtype(dtype), (&device, dtype)))
        };
        let widths = || vec![width; input_location.len()];
        GaudiLinear {
            input_width: windows(widths()),
            output_width: windows(widths()),
            input_location: windows(input_location),
            output_location: windows(output_location),
            v,
            ut,
            bias,
            input_basis: gaudi_basis(self.d_input, self.sigma, &device, basis_dtype),
            output_basis: gaudi_basis(self.d_output, self.sigma, &device, basis_dtype),
            sigma: self.sigma,
            straight_through: self.straight_through,
        }
    }

    /// The number of components that the configuration comes to.
    ///
    /// # Errors
    ///
    /// As [`try_init`](Self::try_init).
    pub fn resolve(&self) -> Result<usize, StructureError> {
        if !(self.width > 0.0 && self.width <= 1.0) {
            return Err(StructureError::WidthOutOfRange { width: self.width });
        }
        if let Some(sigma) = self.sigma.filter(|sigma| !(*sigma > 0.0 && sigma.is_finite())) {
            return Err(StructureError::SigmaOutOfRange { sigma });
        }
        LowRankLinearConfig::new(self.d_input, self.d_output).with_rank(self.rank).resolve()
    }
}

/// Widths from 0 to 1, with the gradient of what they are: a window that a step has taken out of these bounds can return.
fn share(width: Tensor<1>) -> Tensor<1> {
    let bounded = width.clone().detach().clamp(0.0, 1.0);
    width.clone() + (bounded - width.detach())
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl GaudiLinear {
    /// Applies the forward pass on the input tensor.
    ///
    /// # Shapes
    ///
    /// - input: `[.., d_input]`
    /// - output: `[.., d_output]`
    ///
    /// # Panics
    ///
    /// Panics if the last axis of `input` is not `d_input`.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.forward_then(input, Epilogue::new())
    }

    /// [`forward`](Self::forward), and what follows the layer; the bias is the layer's own, whatever the epilogue says.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward), or if a gate or residual does not have the output's shape.
    pub fn forward_then<const D: usize>(&self, input: Tensor<D>, epilogue: Epilogue<D>) -> Tensor<D> {
        let d_input = self.d_input();
        assert_shape!(input, [.., d_input]);
        let (v, ut) = self.masked();
        low_rank_linear(input, v, ut, own_bias(epilogue, &self.bias))
    }

    /// The dense weight `[d_output, d_input]` that this layer multiplies by.
    pub fn to_dense(&self) -> Tensor<2> {
        let (v, ut) = self.masked();
        v.matmul(ut).transpose()
    }

    /// The weights within all windows, `Σ_k d_input width_k + d_output width_k`: a differentiable penalty on the cost of the
    /// frozen layer.
    pub fn window_weights(&self) -> Tensor<1> {
        let total = |width: &Param<Tensor<1>>, size: usize| share(width.val()).sum() * size as f64;
        total(&self.input_width, self.d_input()) + total(&self.output_width, self.d_output())
    }

    /// The layer with its windows as they are, rounded to whole features, and without the work outside of them.
    pub fn freeze_windows(&self) -> WindowedLinear {
        WindowedLinear::new(self)
    }

    /// Parameters, FLOPs and bytes while the windows are learned, beside those of the dense layer; computing the masks, once
    /// for any number of tokens, is not counted.
    pub fn cost(&self) -> Cost {
        let (d_input, d_output, rank) = (self.d_input(), self.d_output(), self.rank());
        let weights = rank * (d_input + d_output);
        let bytes = self.v.val().dtype().size();
        Cost::of_weights(weights + 4 * rank, d_input, d_output, self.bias.is_some(), bytes)
            .with_multiplications(weights)
    }

    /// The factors, each with the learning rate that suits it; the windows with that of a dense layer.
    pub fn factors(&self) -> Vec<Factor> {
        let d_input = self.d_input();
        let window = |name, param| Factor::new(name, param, d_input, d_input);
        vec![
            Factor::new("v", &self.v, d_input, d_input),
            Factor::new("ut", &self.ut, d_input, self.rank()),
            window("input_width", &self.input_width),
            window("input_location", &self.input_location),
            window("output_width", &self.output_width),
            window("output_location", &self.output_location),
        ]
    }

    /// The size of the input features.
    pub fn d_input(&self) -> usize {
        self.v.shape()[0]
    }

    /// The size of the output features.
    pub fn d_output(&self) -> usize {
        self.ut.shape()[1]
    }

    /// The number of components.
    pub fn rank(&self) -> usize {
        self.v.shape()[1]
    }

    /// The structure that this layer has, with windows of any width.
    pub(crate) fn structure(&self) -> Structure {
        Structure::Gaudi { rank: Rank::Fixed(self.rank()), width: 1.0, sigma: self.sigma, sharp: self.straight_through }
    }

    /// The factors within their windows: `[d_input, r]` and `[r, d_output]`.
    fn masked(&self) -> (Tensor<2>, Tensor<2>) {
        let dtype = self.v.val().dtype();
        // The phases of high harmonics need more digits than half precision has.
        let exact = if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype };
        let mask = |width: &Param<Tensor<1>>, location: &Param<Tensor<1>>, basis: &Tensor<2>| {
            let (width, location) = (share(width.val().cast(exact)), location.val().cast(exact));
            let tracked = width.is_autodiff();
            let sharp = || window_mask(width.clone().detach(), location.clone().detach(), basis.dims()[1]);
            let smooth = || gaudi_mask(width.clone(), location.clone(), basis.clone().cast(exact));
            let mask = match self.straight_through {
                false => smooth(),
                // Only the gradient needs the smooth mask.
                true if !tracked => sharp(),
                true => {
                    let smooth = smooth();
                    smooth.clone() + (sharp() - smooth.detach())
                }
            };
            mask.cast(dtype)
        };
        let input = mask(&self.input_width, &self.input_location, &self.input_basis);
        let output = mask(&self.output_width, &self.output_location, &self.output_basis);
        (self.v.val() * input.transpose(), self.ut.val() * output)
    }
}

layer_display!(GaudiLinear, layer => { "rank": layer.rank() });

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tolerance};

    fn device() -> Device {
        let device = Device::flex();
        device.seed(7);
        device
    }

    #[test]
    fn a_frozen_layer_is_the_layer_with_whole_windows() {
        let device = device();
        for width in [0.25, 0.5, 1.0] {
            let config = GaudiLinearConfig::new(24, 16).with_rank(Rank::Fixed(8)).with_width(width);
            let layer = config.with_straight_through(true).init(&device);
            let frozen = layer.freeze_windows();
            let x = Tensor::<3>::random([2, 5, 24], Distribution::Normal(0.0, 1.0), &device);
            let expected = layer.forward(x.clone()).into_data();
            frozen.forward(x).into_data().assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
            let dense = layer.to_dense().into_data();
            frozen.to_dense().into_data().assert_approx_eq::<f32>(&dense, Tolerance::absolute(1e-6));
            assert_eq!(frozen.cost().params, frozen.num_params());
        }
    }

    #[test]
    fn narrow_windows_cost_less_once_they_are_frozen() {
        let config = GaudiLinearConfig::new(256, 256).with_rank(Rank::Fixed(64)).with_width(0.125);
        let layer = config.init(&device());
        let share = layer.freeze_windows().cost().flops_per_token as f64 / layer.cost().flops_per_token as f64;
        assert!(share < 0.45, "{share}");
    }

    #[test]
    fn straight_through_windows_are_sharp_and_still_learn() {
        let device = device().autodiff();
        let config = GaudiLinearConfig::new(10, 12).with_rank(Rank::Fixed(3)).with_width(0.37);
        let layer = config.with_straight_through(true).init(&device);
        let grads = layer.to_dense().powf_scalar(2.0).sum().backward();
        for window in [&layer.input_width, &layer.input_location, &layer.output_width, &layer.output_location] {
            let gradient = window.grad(&grads).expect("a gradient");
            assert!(gradient.abs().sum().into_scalar::<f32>() > 0.0);
        }
        // A window of 0.37 · 10 features is one of 4.
        let zeros = layer.masked().0.equal_elem(0.0).int().sum().into_scalar::<i64>();
        assert_eq!(zeros, 3 * 6);
    }

    #[test]
    fn the_penalty_counts_the_weights_in_the_windows() {
        let device = device().autodiff();
        let layer = GaudiLinearConfig::new(10, 20).with_rank(Rank::Fixed(3)).init(&device);
        let weights = layer.window_weights();
        assert!((weights.clone().into_scalar::<f32>() - 3.0 * 15.0).abs() < 1e-3);
        let gradient = layer.input_width.grad(&weights.backward()).unwrap();
        assert_eq!(gradient.into_data().iter::<f32>().collect::<Vec<_>>(), [10.0; 3]);
    }

    #[test]
    fn windows_beyond_their_bounds_can_return() {
        let device = device().autodiff();
        let mut layer = GaudiLinearConfig::new(10, 20).with_rank(Rank::Fixed(3)).init(&device);
        layer.input_width = parameter(Tensor::from_data([-0.01f32, 0.5, 1.01], &device));
        let weights = layer.window_weights();
        assert!((weights.clone().into_scalar::<f32>() - (10.0 * 1.5 + 20.0 * 1.5)).abs() < 1e-3);
        let gradient = layer.input_width.grad(&weights.backward()).unwrap();
        assert_eq!(gradient.into_data().iter::<f32>().collect::<Vec<_>>(), [10.0; 3]);
        let grads = layer.to_dense().powf_scalar(2.0).sum().backward();
        let gradient: Vec<f32> = layer.input_width.grad(&grads).unwrap().into_data().iter().collect();
        assert!(gradient.iter().all(|gradient| *gradient != 0.0), "{gradient:?}");
    }

    #[test]
    fn the_narrowest_window_has_finite_weights() {
        let layer = GaudiLinearConfig::new(8, 8).with_width(f64::MIN_POSITIVE).init(&device());
        assert!(layer.v.val().into_data().iter::<f32>().all(f32::is_finite));
    }

    #[test]
    fn widths_are_shares() {
        for width in [0.0, 1.5, f64::NAN] {
            let error = GaudiLinearConfig::new(8, 8).with_width(width).try_init(&device()).unwrap_err();
            assert!(matches!(error, StructureError::WidthOutOfRange { .. }), "{error}");
        }
    }
}
