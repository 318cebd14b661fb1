//! Generated examples of clicks, for comparisons that need no data from elsewhere.
//!
//! A planted model draws them: numbers are standard normal, categories have a skewed distribution (of `n` values, `⌊n u³⌋` for a uniform
//! `u`), and the probability of a click is the logistic function of
//!
//! ```text
//! offset + Σ_i a_i tanh(2 x_i) + Σ_i b_i x_i x_{i+1} + Σ_{t<s} ⟨w_t, w_s⟩ + tanh(⟨w_1, p⟩) · Σ_i c_i |x_i|
//! ```
//!
//! where `w_t` is the hidden vector of the value of category `t`. The numbers of a real click log are not like these; what a model achieves
//! here says how well it learns such functions, and nothing about clicks of people.

use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal};

/// Features of the hidden vectors.
const HIDDEN: usize = 4;

/// The shape of examples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClickShape {
    /// Numbers of an example.
    pub numbers: usize,
    /// Values that each category of an example can have.
    pub tables: Vec<usize>,
}

impl Default for ClickShape {
    /// 13 numbers, as the Criteo logs have, and 8 categories of 10 to 10,000 values.
    fn default() -> Self {
        Self { numbers: 13, tables: vec![10, 50, 100, 500, 1000, 2000, 5000, 10_000] }
    }
}

/// Examples in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Clicks {
    /// Their shape.
    pub shape: ClickShape,
    numbers: Vec<f32>,
    categories: Vec<u32>,
    clicked: Vec<bool>,
    planted: Vec<f64>,
}

/// A batch of examples.
#[derive(Clone, Debug)]
pub struct ClickBatch {
    /// Numbers `[batch, numbers]`.
    pub numbers: Tensor<2>,
    /// Categories `[batch, tables]`.
    pub categories: Tensor<2, Int>,
    /// 1 for a click, 0 for none, `[batch]`.
    pub clicked: Tensor<1>,
}

/// The planted model.
struct Planted {
    offset: f64,
    tanh: Vec<f64>,
    products: Vec<f64>,
    magnitudes: Vec<f64>,
    direction: Vec<f64>,
    /// The hidden vectors of each category.
    hidden: Vec<Vec<[f64; HIDDEN]>>,
}

/// `train` and `test` examples that one planted model draws; the seed decides the model and the examples.
///
/// ```
/// use burn_structured_train::data::clicks::{ClickShape, generate};
///
/// let shape = ClickShape { numbers: 3, tables: vec![10, 100] };
/// let [train, test] = generate(&shape, 1000, 200, 42);
/// assert_eq!((train.len(), test.len()), (1000, 200));
/// ```
///
/// # Panics
///
/// If a category has no value, or more than `u32` counts.
pub fn generate(shape: &ClickShape, train: usize, test: usize, seed: u64) -> [Clicks; 2] {
    assert!(shape.tables.iter().all(|size| *size > 0 && u32::try_from(*size).is_ok()), "categories have values");
    let mut rng = StdRng::seed_from_u64(seed);
    let planted = Planted::draw(shape, &mut rng);
    [train, test].map(|count| planted.examples(shape, count, &mut rng))
}

fn normal(rng: &mut StdRng) -> f64 {
    StandardNormal.sample(rng)
}

impl Planted {
    fn draw(shape: &ClickShape, rng: &mut StdRng) -> Self {
        let numbers = shape.numbers.max(1) as f64;
        let mut weights = |scale: f64| (0..shape.numbers).map(|_| scale * normal(rng)).collect::<Vec<f64>>();
        let (tanh, products, magnitudes) =
            (weights(1.2 / numbers.sqrt()), weights(0.8 / numbers.sqrt()), weights(1.2 / numbers.sqrt()));
        let direction = (0..HIDDEN).map(|_| normal(rng)).collect();
        // The sum over all pairs then has a deviation of about 1.
        let pairs = (shape.tables.len() * shape.tables.len().saturating_sub(1) / 2).max(1) as f64;
        let scale = (1.0 / (pairs * HIDDEN as f64).sqrt()).sqrt();
        let vector = |rng: &mut StdRng| std::array::from_fn(|_| scale * normal(rng));
        let hidden = shape.tables.iter().map(|size| (0..*size).map(|_| vector(rng)).collect()).collect();
        Self { offset: -1.0, tanh, products, magnitudes, direction, hidden }
    }

    fn logit(&self, numbers: &[f32], categories: &[u32]) -> f64 {
        let x: Vec<f64> = numbers.iter().map(|number| f64::from(*number)).collect();
        let vectors: Vec<&[f64; HIDDEN]> =
            categories.iter().zip(&self.hidden).map(|(value, table)| &table[*value as usize]).collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let curved: f64 = x.iter().zip(&self.tanh).map(|(x, weight)| weight * (2.0 * x).tanh()).sum();
        let products: f64 = x.windows(2).zip(&self.products).map(|(pair, weight)| weight * pair[0] * pair[1]).sum();
        let magnitude: f64 = x.iter().zip(&self.magnitudes).map(|(x, weight)| weight * x.abs()).sum();
        let gate = vectors.first().map_or(0.0, |vector| dot(&vector[..], &self.direction).tanh());
        let mut pairs = 0.0;
        for (index, vector) in vectors.iter().enumerate() {
            pairs += vectors[..index].iter().map(|other| dot(&vector[..], &other[..])).sum::<f64>();
        }
        self.offset + curved + products + pairs + gate * magnitude
    }

    fn examples(&self, shape: &ClickShape, count: usize, rng: &mut StdRng) -> Clicks {
        let mut clicks = Clicks {
            shape: shape.clone(),
            numbers: Vec::with_capacity(count * shape.numbers),
            categories: Vec::with_capacity(count * shape.tables.len()),
            clicked: Vec::with_capacity(count),
            planted: Vec::with_capacity(count),
        };
        for _ in 0..count {
            let numbers: Vec<f32> = (0..shape.numbers).map(|_| normal(rng) as f32).collect();
            let skewed = |size: &usize, rng: &mut StdRng| {
                let share: f64 = rng.random_range(0.0..1.0);
                ((*size as f64 * share.powi(3)) as usize).min(*size - 1) as u32
            };
            let categories: Vec<u32> = shape.tables.iter().map(|size| skewed(size, rng)).collect();
            let logit = self.logit(&numbers, &categories);
            clicks.clicked.push(rng.random_bool(1.0 / (1.0 + (-logit).exp())));
            clicks.planted.push(logit);
            clicks.numbers.extend(numbers);
            clicks.categories.extend(categories);
        }
        clicks
    }
}

impl Clicks {
    /// The number of examples.
    pub fn len(&self) -> usize {
        self.clicked.len()
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.clicked.is_empty()
    }

    /// Whether each example was clicked.
    pub fn clicked(&self) -> &[bool] {
        &self.clicked
    }

    /// The logits of the planted model, which no other model can rank better with.
    pub fn planted_logits(&self) -> &[f64] {
        &self.planted
    }

    /// These examples as tensors.
    ///
    /// # Panics
    ///
    /// If there is no such example.
    pub fn batch(&self, indices: &[usize], device: &Device) -> ClickBatch {
        let (batch, numbers, tables) = (indices.len(), self.shape.numbers, self.shape.tables.len());
        let rows = |width: usize| indices.iter().map(move |index| index * width..(index + 1) * width);
        let values: Vec<f32> = rows(numbers).flat_map(|row| self.numbers[row].iter().copied()).collect();
        let categories: Vec<i64> =
            rows(tables).flat_map(|row| self.categories[row].iter().map(|value| i64::from(*value))).collect();
        let clicked: Vec<f32> = indices.iter().map(|index| f32::from(u8::from(self.clicked[*index]))).collect();
        ClickBatch {
            numbers: Tensor::from_data(TensorData::new(values, [batch, numbers]), device),
            categories: Tensor::from_data(TensorData::new(categories, [batch, tables]), device),
            clicked: Tensor::from_data(TensorData::new(clicked, [batch]), device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clicks::auc;

    #[test]
    fn seed_decides_the_examples() {
        let shape = ClickShape { numbers: 3, tables: vec![10, 1] };
        let first = generate(&shape, 50, 20, 7);
        assert_eq!(first, generate(&shape, 50, 20, 7));
        assert_ne!(first, generate(&shape, 50, 20, 8));
        assert_ne!(first[0].numbers[..60], first[1].numbers);
    }

    #[test]
    fn categories_are_in_their_tables_and_skewed() {
        let shape = ClickShape { numbers: 0, tables: vec![1000, 2] };
        let [clicks, _] = generate(&shape, 2000, 0, 1);
        let first: Vec<u32> = clicks.categories.iter().step_by(2).copied().collect();
        assert!(first.iter().all(|value| *value < 1000) && clicks.categories.iter().skip(1).step_by(2).all(|v| *v < 2));
        // ⌊1000 u³⌋ < 125 for u < 1/2; four deviations of 2000 draws.
        let common = first.iter().filter(|value| **value < 125).count();
        assert!((910..1090).contains(&common), "{common}");
    }

    #[test]
    fn planted_logits_rank_clicks_well_and_not_perfectly() {
        let [_, test] = generate(&ClickShape::default(), 0, 4000, 3);
        let ranked = auc(test.planted_logits(), test.clicked()).unwrap();
        assert!((0.75..0.95).contains(&ranked), "{ranked}");
        let share = test.clicked().iter().filter(|clicked| **clicked).count() as f64 / 4000.0;
        assert!((0.15..0.6).contains(&share), "{share}");
    }

    #[test]
    fn batches_have_the_chosen_examples() {
        let shape = ClickShape { numbers: 2, tables: vec![5, 6, 7] };
        let [clicks, _] = generate(&shape, 10, 0, 2);
        let batch = clicks.batch(&[9, 0], &Device::flex());
        let numbers: Vec<f32> = batch.numbers.into_data().iter::<f32>().collect();
        assert_eq!(numbers, [&clicks.numbers[18..], &clicks.numbers[..2]].concat());
        let categories: Vec<u32> = batch.categories.into_data().iter::<i64>().map(|value| value as u32).collect();
        assert_eq!(categories, [&clicks.categories[27..], &clicks.categories[..3]].concat());
        let clicked: Vec<bool> = batch.clicked.into_data().iter::<f32>().map(|value| value == 1.0).collect();
        assert_eq!(clicked, [clicks.clicked[9], clicks.clicked[0]]);
    }
}
