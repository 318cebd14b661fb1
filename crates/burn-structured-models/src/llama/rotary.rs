//! Rotary position embeddings.

use crate::decoder::Slots;
use burn::config::Config;
use burn::tensor::{Device, Tensor, TensorData};
use std::f64::consts::TAU;

/// Rotary position embeddings (Su et al., *RoFormer*, 2021): the features `i` and `i + d_head / 2` of a query or key at position `p` are
/// a pair that is rotated by the angle `p · θ^(−2i / d_head)`.
///
/// That these two are a pair, and not neighbours, is the convention of Hugging Face's checkpoints, whose weights are permuted for it.
#[derive(Clone, Debug, PartialEq)]
pub struct RotaryEmbedding {
    d_head: usize,
    theta: f64,
    scaling: Option<RopeScaling>,
}

/// How frequencies are lowered for a context that is longer than the one of most of a model's training.
#[derive(Config, Debug, PartialEq)]
pub enum RopeScaling {
    /// All of them are divided by `factor`, so that positions lie closer together (Chen et al., *Extending Context Window of Large
    /// Language Models via Positional Interpolation*, 2023).
    Linear {
        /// The longer context over the original one.
        factor: f64,
    },
    /// That of Llama 3.1 and later (Grattafiori et al., *The Llama 3 Herd of Models*, 2024): frequencies that turn fewer than `low` times
    /// in the original context are divided by `factor`, those that turn more than `high` times stay, and between the two the divided and the
    /// whole frequency are mixed.
    Llama3 {
        /// The longer context over the original one.
        factor: f64,
        /// Turns in the original context below which a frequency is divided.
        low: f64,
        /// Turns in the original context above which a frequency stays.
        high: f64,
        /// The original context.
        original_context: usize,
    },
}

impl RopeScaling {
    /// The frequency, in radians a token, that stands for `frequency`.
    fn apply(&self, frequency: f64) -> f64 {
        match *self {
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 { factor, low, high, original_context } => {
                let turns = original_context as f64 * frequency / TAU;
                let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                share * frequency + (1.0 - share) * frequency / factor
            }
        }
    }

    /// What is wrong with the settings.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let (factor, turns, original) = match *self {
            Self::Linear { factor } => (factor, [0.0, 1.0], 1),
            Self::Llama3 { factor, low, high, original_context } => (factor, [low, high], original_context),
        };
        let positive = |value: f64| value > 0.0 && value.is_finite();
        if !positive(factor) {
            Some("must have a factor above 0")
        } else if !(turns[0] >= 0.0 && turns[0] < turns[1] && turns[1].is_finite()) {
            Some("must have a low factor below the high one")
        } else if original == 0 {
            Some("must have an original context of at least 1")
        } else {
            None
        }
    }
}

/// The cosines and sines of some positions' angles, `[1 or batch, tokens, 1, d_head / 2]`.
#[derive(Clone, Debug)]
pub struct Rotation {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl RotaryEmbedding {
    /// The embedding of heads of `d_head` features, with the base `theta` of the wavelengths.
    ///
    /// # Panics
    ///
    /// If `d_head` is odd.
    pub fn new(d_head: usize, theta: f64) -> Self {
        assert!(d_head.is_multiple_of(2), "RotaryEmbedding: d_head = {d_head} must be even");
        Self { d_head, theta, scaling: None }
    }

    /// The same with scaled frequencies.
    pub fn with_scaling(self, scaling: Option<RopeScaling>) -> Self {
        Self { scaling, ..self }
    }

    /// Features of a head.
    pub fn d_head(&self) -> usize {
        self.d_head
    }

    /// The base of the wavelengths.
    pub fn theta(&self) -> f64 {
        self.theta
    }

    /// How the frequencies are scaled.
    pub fn scaling(&self) -> Option<&RopeScaling> {
        self.scaling.as_ref()
    }

    /// The angle of each pair from one token to the next, in radians.
    fn frequencies(&self) -> Vec<f64> {
        let plain = (0..self.d_head / 2).map(|pair| self.theta.powf(-2.0 * pair as f64 / self.d_head as f64));
        match &self.scaling {
            Some(scaling) => plain.map(|frequency| scaling.apply(frequency)).collect(),
            None => plain.collect(),
        }
    }

    /// The rotation of tokens at these positions, the same in every row of a batch.
    pub fn rotation(&self, positions: impl ExactSizeIterator<Item = usize>, device: &Device) -> Rotation {
        let tokens = positions.len();
        self.rotation_of_rows(positions, [1, tokens], device)
    }

    /// The rotation of the new tokens `[batch, new]` of a cache.
    pub(super) fn rotation_of(&self, slots: &Slots, shape: [usize; 2], device: &Device) -> Rotation {
        match slots.positions() {
            None => self.rotation(slots.new_slots(), device),
            Some(positions) => self.rotation_of_rows(positions.iter().copied(), shape, device),
        }
    }

    /// The angles are computed in f64: at position 100,000 those of f32 are off by 0.01.
    fn rotation_of_rows(
        &self,
        positions: impl Iterator<Item = usize>,
        [rows, tokens]: [usize; 2],
        device: &Device,
    ) -> Rotation {
        let half = self.d_head / 2;
        let frequencies = self.frequencies();
        let angles =
            positions.flat_map(|position| frequencies.iter().map(move |frequency| position as f64 * frequency));
        let (sin, cos): (Vec<f32>, Vec<f32>) =
            angles.map(f64::sin_cos).map(|(sin, cos)| (sin as f32, cos as f32)).unzip();
        let [cos, sin] =
            [cos, sin].map(|values| Tensor::from_data(TensorData::new(values, [rows, tokens, 1, half]), device));
        Rotation { cos, sin }
    }
}

impl Rotation {
    /// The rotated queries or keys.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, tokens, heads, d_head]`
    /// - output: `[batch, tokens, heads, d_head]`
    ///
    /// # Panics
    ///
    /// If there are not as many tokens, or a head has not twice as many features as the rotation.
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let [cos, sin] = [&self.cos, &self.sin].map(|factor| factor.clone().cast(x.dtype()));
        let [first, second] = [0, half].map(|start| x.clone().narrow(3, start, half));
        let rotated = [first.clone() * cos.clone() - second.clone() * sin.clone(), second * cos + first * sin];
        Tensor::cat(rotated.to_vec(), 3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tolerance};

    #[test]
    fn apply_rotates_pairs_half_a_head_apart() {
        let device = Device::flex();
        // The angles of the pairs (0, 2) and (1, 3): p and p / 10.
        let rotation = RotaryEmbedding::new(4, 100.0).rotation(5..6, &device);
        let x = Tensor::<4>::from_data([[[[1.0, 2.0, 3.0, 4.0]]]], &device);
        let [(a, b), (c, d)] = [5f64.sin_cos(), 0.5f64.sin_cos()];
        let expected = [b - 3.0 * a, 2.0 * d - 4.0 * c, 3.0 * b + a, 4.0 * d + 2.0 * c];
        let expected = TensorData::new(expected.to_vec(), [1, 1, 1, 4]).convert::<f32>();
        rotation.apply(x).into_data().assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-6));
    }

    #[test]
    fn scores_depend_on_the_distance_only() {
        let device = Device::flex();
        let rotary = RotaryEmbedding::new(8, 10_000.0);
        let [query, key] = [0, 1].map(|_| Tensor::<4>::random([2, 1, 3, 8], Distribution::Normal(0.0, 1.0), &device));
        let score = |at: usize, other: usize| {
            let rotated = |x: &Tensor<4>, at: usize| rotary.rotation(at..at + 1, &device).apply(x.clone());
            (rotated(&query, at) * rotated(&key, other)).sum_dim(3).into_data()
        };
        score(7, 4).assert_approx_eq::<f32>(&score(1003, 1000), Tolerance::absolute(1e-4));
        let plain = (query.clone() * key.clone()).sum_dim(3).into_data();
        score(42, 42).assert_approx_eq::<f32>(&plain, Tolerance::absolute(1e-5));
    }

    #[test]
    fn linear_scaling_divides_positions() {
        let device = Device::flex();
        let plain = RotaryEmbedding::new(8, 100.0);
        let scaled = plain.clone().with_scaling(Some(RopeScaling::Linear { factor: 4.0 }));
        let x = Tensor::<4>::random([1, 3, 2, 8], Distribution::Normal(0.0, 1.0), &device);
        let rotated = |rotary: &RotaryEmbedding, positions: [usize; 3]| {
            rotary.rotation(positions.into_iter(), &device).apply(x.clone()).into_data()
        };
        rotated(&scaled, [0, 4, 20]).assert_approx_eq::<f32>(&rotated(&plain, [0, 1, 5]), Tolerance::absolute(1e-6));
    }

    #[test]
    fn llama3_scaling_is_that_of_llama_3_2() {
        let scaling = RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original_context: 8192 };
        let rotary = RotaryEmbedding::new(64, 500_000.0);
        let (plain, scaled) = (rotary.frequencies(), rotary.with_scaling(Some(scaling)).frequencies());
        // The first fifteen pairs turn four times and more in 8,192 tokens, the last fourteen less than once.
        assert_eq!(scaled[..15], plain[..15]);
        assert!((18..32).all(|pair| (scaled[pair] - plain[pair] / 32.0).abs() < 1e-12));
        // Those between, as `transformers` computes them in f32.
        for (pair, expected) in [(15, 1.290_548e-3), (16, 4.295_567e-4), (17, 9.708_286e-5)] {
            assert!((scaled[pair] / expected - 1.0).abs() < 1e-6, "{pair}: {}", scaled[pair]);
        }
    }

    #[test]
    #[should_panic(expected = "d_head = 5 must be even")]
    fn heads_of_an_odd_size_panic() {
        RotaryEmbedding::new(5, 10_000.0);
    }
}
