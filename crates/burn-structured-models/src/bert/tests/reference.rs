//! BERT in plain loops over `f64`, one sentence at a time, straight from a checkpoint's tensors.

use crate::testing::reference::{Rows, add, dot, gelu};
use std::collections::BTreeMap;

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

struct Weights<'a>(&'a Tensors);

impl Weights<'_> {
    fn row(&self, name: &str, row: usize) -> Vec<f64> {
        let (shape, values) = &self.0[name];
        let width = shape[shape.len() - 1];
        values[row * width..(row + 1) * width].iter().map(|value| f64::from(*value)).collect()
    }

    fn linear(&self, name: &str, x: &Rows) -> Rows {
        let bias = self.row(&format!("{name}.bias"), 0);
        let weight: Rows = (0..bias.len()).map(|output| self.row(&format!("{name}.weight"), output)).collect();
        let product = |x: &Vec<f64>| bias.iter().zip(&weight).map(|(bias, row)| bias + dot(row, x)).collect();
        x.iter().map(product).collect()
    }

    fn norm(&self, name: &str, x: &Rows) -> Rows {
        let (gamma, beta) = (self.row(&format!("{name}.weight"), 0), self.row(&format!("{name}.bias"), 0));
        let normalise = |x: &Vec<f64>| {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / x.len() as f64;
            let scale = (variance + 1e-12).powf(-0.5);
            (0..x.len()).map(|index| (x[index] - mean) * scale * gamma[index] + beta[index]).collect()
        };
        x.iter().map(normalise).collect()
    }

    fn attention(&self, layer: &str, x: &Rows, heads: usize) -> Rows {
        let [query, key, value] =
            ["query", "key", "value"].map(|name| self.linear(&format!("{layer}.attention.self.{name}"), x));
        let width = x[0].len() / heads;
        let mut mixed = vec![vec![0.0; x[0].len()]; x.len()];
        for head in 0..heads {
            let columns = head * width..(head + 1) * width;
            for (token, query) in query.iter().enumerate() {
                let score =
                    |key: &Vec<f64>| dot(&query[columns.clone()], &key[columns.clone()]) / (width as f64).sqrt();
                let weights: Vec<f64> = key.iter().map(|key| score(key).exp()).collect();
                let total: f64 = weights.iter().sum();
                for column in columns.clone() {
                    mixed[token][column] =
                        weights.iter().zip(&value).map(|(weight, value)| weight / total * value[column]).sum();
                }
            }
        }
        self.linear(&format!("{layer}.attention.output.dense"), &mixed)
    }
}

/// The last layer's features of every token.
pub fn forward(tensors: &Tensors, tokens: &[u32], layers: usize, heads: usize) -> Rows {
    let weights = Weights(tensors);
    let embedded = tokens.iter().enumerate().map(|(position, token)| {
        let word = weights.row("embeddings.word_embeddings.weight", *token as usize);
        let place = weights.row("embeddings.position_embeddings.weight", position);
        let token_type = weights.row("embeddings.token_type_embeddings.weight", 0);
        (0..word.len()).map(|index| word[index] + place[index] + token_type[index]).collect()
    });
    let mut x = weights.norm("embeddings.LayerNorm", &embedded.collect());
    for layer in (0..layers).map(|index| format!("encoder.layer.{index}")) {
        let attended = weights.attention(&layer, &x, heads);
        x = weights.norm(&format!("{layer}.attention.output.LayerNorm"), &add(&attended, &x));
        let mut hidden = weights.linear(&format!("{layer}.intermediate.dense"), &x);
        hidden.iter_mut().flatten().for_each(|value| *value = gelu(*value));
        let output = weights.linear(&format!("{layer}.output.dense"), &hidden);
        x = weights.norm(&format!("{layer}.output.LayerNorm"), &add(&output, &x));
    }
    x
}

/// The mean over the tokens, scaled to length 1.
pub fn embed(features: &Rows) -> Vec<f64> {
    let count = features.len() as f64;
    let mean = (0..features[0].len()).map(|index| features.iter().map(|row| row[index]).sum::<f64>() / count);
    let mean: Vec<f64> = mean.collect();
    let length = dot(&mean, &mean).sqrt();
    mean.iter().map(|value| value / length).collect()
}
