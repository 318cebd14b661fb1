//! Layers in plain loops over `f64`, one sequence of rows at a time. Weights are read from the modules, those of structured layers as the
//! dense matrix that they stand for.

use burn::module::Param;
use burn::nn::{LayerNorm, Linear};
use burn::tensor::{Tensor, TensorData};
use burn_structured_nn::StructuredLinear;
use std::f64::consts::PI;

/// Tokens, each with its features.
pub(crate) type Rows = Vec<Vec<f64>>;

/// The values of a tensor in rows of its last axis.
pub(crate) fn rows<const D: usize>(tensor: Tensor<D>) -> Rows {
    let width = tensor.dims()[D - 1];
    let values: Vec<f64> = tensor.into_data().iter::<f64>().collect();
    values.chunks(width).map(<[f64]>::to_vec).collect()
}

fn product(weight: &Rows, bias: Option<&Param<Tensor<1>>>, x: &Rows) -> Rows {
    let bias = bias.map_or_else(|| vec![0.0; weight.len()], |bias| rows(bias.val()).concat());
    x.iter().map(|x| bias.iter().zip(weight).map(|(bias, row)| bias + dot(row, x)).collect()).collect()
}

/// `W x + b` for every row; Burn keeps the weight as `[d_input, d_output]`.
pub(crate) fn linear(layer: &Linear, x: &Rows) -> Rows {
    product(&transpose(&rows(layer.weight.val())), layer.bias.as_ref(), x)
}

/// `W x + b` for every row.
pub(crate) fn structured(layer: &StructuredLinear, x: &Rows) -> Rows {
    product(&rows(layer.to_dense()), layer.bias(), x)
}

/// `(x − mean) / √(variance + ε)`, scaled and shifted.
pub(crate) fn norm(norm: &LayerNorm, x: &Rows) -> Rows {
    let gamma = rows(norm.gamma.val()).concat();
    let beta = norm.beta.as_ref().map_or_else(|| vec![0.0; gamma.len()], |beta| rows(beta.val()).concat());
    let scale = |x: Vec<f64>| (0..x.len()).map(|index| x[index] * gamma[index] + beta[index]).collect();
    normalised(x, 1e-5).into_iter().map(scale).collect()
}

/// `(x − mean) / √(variance + ε)` of every row.
pub(crate) fn normalised(x: &Rows, epsilon: f64) -> Rows {
    let normalise = |x: &Vec<f64>| {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / x.len() as f64;
        x.iter().map(|value| (value - mean) / (variance + epsilon).sqrt()).collect()
    };
    x.iter().map(normalise).collect()
}

/// `softmax(Q Kᵀ / √d_head) V` of each head, of rows that hold query, key and value.
pub(crate) fn attention(qkv: &Rows, heads: usize) -> Rows {
    let d_model = qkv[0].len() / 3;
    let width = d_model / heads;
    let part = |row: &[f64], which: usize, head: usize| row[which * d_model + head * width..][..width].to_vec();
    let token = |query: &Vec<f64>| {
        let head = |head: usize| {
            let query = part(query, 0, head);
            let score = |row: &Vec<f64>| (dot(&query, &part(row, 1, head)) / (width as f64).sqrt()).exp();
            let weights: Vec<f64> = qkv.iter().map(score).collect();
            let total: f64 = weights.iter().sum();
            let values: Rows = qkv.iter().map(|row| part(row, 2, head)).collect();
            transpose(&values).iter().map(|column| dot(&weights, column) / total).collect::<Vec<f64>>()
        };
        (0..heads).flat_map(head).collect()
    };
    qkv.iter().map(token).collect()
}

/// The square patches of an image of three axes, row by row and each channel by channel.
pub(crate) fn patches(image: &[f64], side: usize, patch: usize) -> Rows {
    let channels = image.len() / (side * side);
    let pixel = |channel: usize, row: usize, column: usize| image[(channel * side + row) * side + column];
    let mut patches = Vec::new();
    for top in (0..side).step_by(patch) {
        for left in (0..side).step_by(patch) {
            let mut values = Vec::new();
            for channel in 0..channels {
                for row in top..top + patch {
                    values.extend((left..left + patch).map(|column| pixel(channel, row, column)));
                }
            }
            patches.push(values);
        }
    }
    patches
}

pub(crate) fn map(x: &Rows, f: impl Fn(f64) -> f64) -> Rows {
    x.iter().map(|row| row.iter().map(|value| f(*value)).collect()).collect()
}

pub(crate) fn transpose(x: &Rows) -> Rows {
    (0..x[0].len()).map(|column| x.iter().map(|row| row[column]).collect()).collect()
}

pub(crate) fn add(a: &Rows, b: &Rows) -> Rows {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a + b).collect()).collect()
}

pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

pub(crate) fn gelu(x: f64) -> f64 {
    x * 0.5 * (1.0 + erf(x / 2f64.sqrt()))
}

/// The error function by its Taylor series, which is good to 1e-9 for |x| < 4; beyond, it is ±1 to 1e-7.
pub(crate) fn erf(x: f64) -> f64 {
    if x.abs() >= 4.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / PI.sqrt()
}

/// Every value is within the roundoff of f32 over `terms` additions, relative to the largest value expected.
pub(crate) fn assert_close<const D: usize>(found: Tensor<D>, expected: &Rows, terms: usize, what: &str) {
    let data: TensorData = found.into_data();
    let (found, expected): (Vec<f64>, Vec<f64>) = (data.iter::<f64>().collect(), expected.concat());
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1.0, |largest: f64, value| largest.max(value.abs()));
    let tolerance = f64::from(f32::EPSILON) * terms as f64 * largest;
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let error = (found - expected).abs();
        assert!(
            error <= tolerance,
            "{what}: value {index} is {found} instead of {expected}, off by more than {tolerance}"
        );
    }
}
