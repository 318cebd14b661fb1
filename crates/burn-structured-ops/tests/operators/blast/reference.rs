//! The product and its gradients in f64, straight from the definition.

use super::case::{Case, Sizes};
use crate::rounding::assert_close;
use burn::tensor::DType;

/// The output and all gradients, each row by row.
#[derive(Clone, Debug)]
pub struct Values {
    pub y: Vec<f64>,
    pub dx: Vec<f64>,
    pub du: Vec<f64>,
    pub ds: Vec<f64>,
    pub dv: Vec<f64>,
    pub dbias: Vec<f64>,
}

/// Expected values, and for each the sum of the absolute values of its terms.
#[derive(Clone, Debug)]
pub struct Reference {
    pub values: Values,
    pub magnitudes: Values,
}

impl Reference {
    pub fn of(case: &Case) -> Self {
        let absolute = |values: &[f64]| values.iter().map(|value| value.abs()).collect::<Vec<_>>();
        let magnitudes = Case {
            sizes: case.sizes,
            x: absolute(&case.x),
            u: absolute(&case.u),
            s: absolute(&case.s),
            v: absolute(&case.v),
            bias: absolute(&case.bias),
            g: absolute(&case.g),
        };
        Self { values: compute(case), magnitudes: compute(&magnitudes) }
    }
}

/// The weight `[m, n]`, entry by entry.
pub fn dense(case: &Case) -> Vec<f64> {
    let Sizes { b1, b2, p, q, r, .. } = case.sizes;
    let mut weight = Vec::with_capacity(b1 * p * b2 * q);
    for row in 0..b1 * p {
        for col in 0..b2 * q {
            let (i, j) = (row / p, col / q);
            let entry = (0..r).map(|k| case.u[row * r + k] * case.s[(i * b2 + j) * r + k] * case.v[col * r + k]);
            weight.push(entry.sum());
        }
    }
    weight
}

fn compute(case: &Case) -> Values {
    let Sizes { tokens, b1, b2, p, q, r } = case.sizes;
    let (m, n) = (b1 * p, b2 * q);
    let weight = dense(case);

    let mut y = vec![0.0; tokens * m];
    let mut dx = vec![0.0; tokens * n];
    let mut dw = vec![0.0; m * n];
    let mut dbias = vec![0.0; m];
    for token in 0..tokens {
        let x = &case.x[token * n..(token + 1) * n];
        for row in 0..m {
            let g = case.g[token * m + row];
            let weights = &weight[row * n..(row + 1) * n];
            y[token * m + row] = case.bias[row] + x.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>();
            dbias[row] += g;
            for col in 0..n {
                dx[token * n + col] += g * weights[col];
                dw[row * n + col] += g * x[col];
            }
        }
    }

    let mut du = vec![0.0; m * r];
    let mut ds = vec![0.0; b1 * b2 * r];
    let mut dv = vec![0.0; n * r];
    for row in 0..m {
        for col in 0..n {
            let block = (row / p * b2 + col / q) * r;
            let gradient = dw[row * n + col];
            for k in 0..r {
                let (u, s, v) = (case.u[row * r + k], case.s[block + k], case.v[col * r + k]);
                du[row * r + k] += gradient * s * v;
                ds[block + k] += gradient * u * v;
                dv[col * r + k] += gradient * u * s;
            }
        }
    }
    Values { y, dx, du, ds, dv, dbias }
}

/// Asserts that the values of one run are within their bounds; gradients that are not tracked must be absent.
pub fn check(what: &str, dtype: DType, sizes: Sizes, actual: &super::run::Outcome, reference: &Reference) {
    let Sizes { tokens, b1, b2, p, q, r } = sizes;
    let (expected, magnitude) = (&reference.values, &reference.magnitudes);
    let close = |name: &str, length, actual: &[f64], expected: &[f64], magnitude: &[f64]| {
        assert_close(&format!("{what}: {name}"), dtype, length, actual, expected, magnitude);
    };
    close("y", q + b2 + r + 1, &actual.y, &expected.y, &magnitude.y);
    let gradients = [
        ("dx", &actual.dx, p + b1 + r, &expected.dx, &magnitude.dx),
        ("du", &actual.du, q + b2 + tokens, &expected.du, &magnitude.du),
        ("ds", &actual.ds, p + q + tokens, &expected.ds, &magnitude.ds),
        ("dv", &actual.dv, p + b1 + tokens, &expected.dv, &magnitude.dv),
        ("dbias", &actual.dbias, tokens, &expected.dbias, &magnitude.dbias),
    ];
    for (name, actual, length, expected, magnitude) in gradients {
        if let Some(actual) = actual {
            close(name, length, actual, expected, magnitude);
        }
    }
}
