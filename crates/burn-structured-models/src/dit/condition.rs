//! The embedding of time and class.

use burn::module::Module;
use burn::nn::Embedding;
use burn::tensor::activation::silu;
use burn::tensor::{Int, Tensor, TensorData};
use burn_structured_nn::{Activation, StructuredLinear, feed_forward};

/// Base of the wavelengths of sines and cosines.
const BASE: f64 = 10_000.0;

/// `silu(down(silu(up(sinusoidal(time)))) + embedding(class))`, the input of every modulation.
#[derive(Module, Debug)]
pub struct ConditionEmbedding {
    /// The first layer of the MLP of times.
    pub up: StructuredLinear,
    /// The second layer of the MLP of times.
    pub down: StructuredLinear,
    /// A vector for each class, and at the end one for no class.
    pub classes: Embedding,
}

impl ConditionEmbedding {
    /// The conditions `[batch, d_model]`.
    ///
    /// # Panics
    ///
    /// If there are not as many times as classes, or there is no such class.
    pub fn forward(&self, times: &[f64], classes: &[usize]) -> Tensor<2> {
        assert_eq!(times.len(), classes.len(), "every time has a class");
        let [count, _] = self.classes.weight.shape().dims();
        if let Some(class) = classes.iter().find(|class| **class >= count) {
            panic!("there is no class {class}; with none there are {count}");
        }
        let weight = self.classes.weight.val();
        let (device, dtype) = (weight.device(), weight.dtype());
        // On the host: sines of large arguments are inexact on some devices.
        let waves: Vec<f64> = times.iter().flat_map(|time| sinusoidal(*time, self.up.d_input())).collect();
        let waves = TensorData::new(waves, [times.len(), self.up.d_input()]).convert_dtype(dtype);
        let waves = Tensor::<2>::from_data(waves, (&device, dtype));
        let times = feed_forward(&self.up, None, Activation::Silu, &self.down, waves, None);
        let classes: Vec<i64> = classes.iter().map(|class| *class as i64).collect();
        let classes = Tensor::<1, Int>::from_data(classes.as_slice(), &device);
        silu(times + weight.select(0, classes))
    }
}

/// `cos(position · ω)` and then `sin(position · ω)` for the frequencies `ω_i = 10000^(−2i / features)`, `i < features / 2`.
pub fn sinusoidal(position: f64, features: usize) -> Vec<f64> {
    let half = features / 2;
    let angle = |index: usize| position * BASE.powf(-(index as f64) / half as f64);
    (0..half).map(|index| angle(index).cos()).chain((0..half).map(|index| angle(index).sin())).collect()
}

/// Positions `[side², d_model]` of a square of tokens, row by row: half of the features are of the row, half of the column.
pub(super) fn grid_positions(side: usize, d_model: usize) -> Vec<f64> {
    let token = |token: usize| {
        [token / side, token % side].into_iter().flat_map(move |place| sinusoidal(place as f64, d_model / 2))
    };
    (0..side * side).flat_map(token).collect()
}
