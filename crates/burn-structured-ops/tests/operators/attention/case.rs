//! One attention with its operands, and the definition that results are compared with.

use crate::tensors::draw;

/// Which keys are padding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Padding {
    None,
    /// One more in front of each batch element than of the one before.
    Left,
    /// As many behind.
    Right,
    /// Every third key, other ones in each batch element.
    Scattered,
    /// Most keys in the middle.
    Gap,
    /// All keys of the first batch element.
    First,
}

/// The sizes of an attention, and what its queries see.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub batch: usize,
    pub heads: usize,
    pub queries: usize,
    pub keys: usize,
    pub d_head: usize,
    pub d_value: usize,
    pub causal: bool,
    pub padding: Padding,
}

impl Sizes {
    pub fn new([batch, heads, queries, keys, d_head, d_value]: [usize; 6], causal: bool, padding: Padding) -> Self {
        Self { batch, heads, queries, keys, d_head, d_value, causal, padding }
    }

    /// Query, key, value and output, `[batch, tokens, heads, features]`.
    pub fn shapes(self) -> [[usize; 4]; 4] {
        let Self { batch, heads, queries, keys, d_head, d_value, .. } = self;
        [(queries, d_head), (keys, d_head), (keys, d_value), (queries, d_value)]
            .map(|(tokens, features)| [batch, tokens, heads, features])
    }

    pub fn is_padding(self, batch: usize, key: usize) -> bool {
        match self.padding {
            Padding::None => false,
            Padding::Left => key <= batch,
            Padding::Right => key + batch + 1 >= self.keys,
            Padding::Scattered => (key + batch) % 3 == 1,
            Padding::Gap => (self.keys / 5..4 * self.keys / 5).contains(&key),
            Padding::First => batch == 0,
        }
    }

    /// The padding `[batch, keys]`, if there is any.
    pub fn padding(self) -> Option<Vec<bool>> {
        let all = (0..self.batch * self.keys).map(|index| self.is_padding(index / self.keys, index % self.keys));
        (self.padding != Padding::None).then(|| all.collect())
    }

    fn sees(self, batch: usize, query: usize, key: usize) -> bool {
        let before = key + self.queries <= query + self.keys;
        (before || !self.causal) && !self.is_padding(batch, key)
    }
}

/// Values, each with a bound on the sum of the absolute values of the terms that it consists of.
pub struct Bounded {
    pub values: Vec<f64>,
    pub magnitudes: Vec<f64>,
}

impl Bounded {
    fn zeros(shape: [usize; 4]) -> Self {
        let zeros = vec![0.0; shape.iter().product()];
        Self { values: zeros.clone(), magnitudes: zeros }
    }

    fn add(&mut self, index: usize, value: f64, magnitude: f64) {
        self.values[index] += value;
        self.magnitudes[index] += magnitude;
    }
}

/// An attention with the values of its operands: small multiples of 1/16, which every float type holds.
pub struct Case {
    pub sizes: Sizes,
    /// Query, key, value and the gradient of the output.
    pub operands: [Vec<f64>; 4],
}

impl Case {
    pub fn new(sizes: Sizes) -> Self {
        let mut salt = 0;
        let operands = sizes.shapes().map(|shape| {
            salt += 1;
            draw(shape.iter().product(), salt)
        });
        Self { sizes, operands }
    }

    /// The output and the gradients of query, key and value, term by term from the definition.
    ///
    /// A score that is off by `ε` changes a probability by a factor of about `1 + 2 ε`, as it changes their sum as well. The magnitudes
    /// of what probabilities are multiplied by are therefore scaled by `1 + 2 σ`, with `σ` the largest magnitude of a score.
    pub fn reference(&self) -> [Bounded; 4] {
        let Sizes { batch, heads, queries, keys, d_head, d_value, .. } = self.sizes;
        let shapes @ [query_shape, key_shape, value_shape, output_shape] = self.sizes.shapes();
        let [query, key, value, grad] = &self.operands;
        let scale = (d_head as f64).sqrt().recip();
        let mut results = [3, 0, 1, 2].map(|index: usize| Bounded::zeros(shapes[index]));
        let [output, query_grad, key_grad, value_grad] = &mut results;
        for (b, h, q) in all([batch, heads, queries]) {
            let at = |shape: [usize; 4], token: usize, feature: usize| {
                ((b * shape[1] + token) * shape[2] + h) * shape[3] + feature
            };
            let products =
                |k: usize| (0..d_head).map(move |d| query[at(query_shape, q, d)] * key[at(key_shape, k, d)] * scale);
            let seen: Vec<usize> = (0..keys).filter(|k| self.sizes.sees(b, q, *k)).collect();
            let scores: Vec<f64> = seen.iter().map(|k| products(*k).sum()).collect();
            let sizes = seen.iter().map(|k| products(*k).map(f64::abs).sum::<f64>());
            let spread = 1.0 + 2.0 * sizes.fold(0.0, f64::max);
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let exponentials: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let sum: f64 = exponentials.iter().sum();
            let (mut shift, mut shift_magnitude) = (0.0, 0.0);
            for (k, exponential) in seen.iter().zip(&exponentials) {
                let probability = exponential / sum;
                for d in 0..d_value {
                    let (value, grad) = (value[at(value_shape, *k, d)], grad[at(output_shape, q, d)]);
                    output.add(at(output_shape, q, d), probability * value, probability * value.abs() * spread);
                    value_grad.add(at(value_shape, *k, d), probability * grad, probability * grad.abs() * spread);
                    shift += probability * value * grad;
                    shift_magnitude += probability * (value * grad).abs() * spread;
                }
            }
            for (k, exponential) in seen.iter().zip(&exponentials) {
                let terms = (0..d_value).map(|d| grad[at(output_shape, q, d)] * value[at(value_shape, *k, d)]);
                let (sum_of_terms, magnitude): (f64, f64) =
                    terms.fold((0.0, 0.0), |(sum, magnitude), term| (sum + term, magnitude + term.abs()));
                let factor = exponential / sum * scale;
                let (score_grad, magnitude) =
                    (factor * (sum_of_terms - shift), factor * (magnitude + shift_magnitude) * spread);
                for d in 0..d_head {
                    let (query, key) = (query[at(query_shape, q, d)], key[at(key_shape, *k, d)]);
                    query_grad.add(at(query_shape, q, d), score_grad * key, magnitude * key.abs());
                    key_grad.add(at(key_shape, *k, d), score_grad * query, magnitude * query.abs());
                }
            }
        }
        results
    }
}

/// All triples of indices below these.
fn all([first, second, third]: [usize; 3]) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..first * second * third).map(move |index| (index / third / second, index / third % second, index % third))
}
