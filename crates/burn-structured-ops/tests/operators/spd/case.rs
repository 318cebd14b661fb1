//! Batches of systems with a known condition number, and the bounds on their solutions.

use crate::backends::{Scope, StructuredBackend, TestBackend};
use crate::rounding::Tolerance;
use crate::tensors::draw;
use burn::tensor::{DType, TensorData};
use burn_structured_ops::spd::SpdStrategy;

/// A batch of systems, rounded to the type they are solved in.
pub struct Case {
    pub batch: usize,
    pub n: usize,
    pub k: usize,
    pub dtype: DType,
    /// NaN above the diagonals, which are not to be read.
    pub a: Vec<f64>,
    pub b: Vec<f64>,
    /// Weights of the solution's elements in the loss.
    pub g: Vec<f64>,
    /// Below the least eigenvalue.
    least_eigenvalue: f64,
}

pub fn rounded(values: Vec<f64>, dtype: DType) -> Vec<f64> {
    let count = values.len();
    TensorData::new(values, [count]).convert_dtype(dtype).convert::<f64>().try_into_vec().expect("f64 values")
}

impl Case {
    pub fn new([batch, n, k]: [usize; 3], dtype: DType) -> Self {
        // Rounding the elements moves the eigenvalues by at most the Frobenius norm of the change, `u ‖a‖ ≤ u √n`.
        let unit = dtype.finfo().expect("a float").epsilon / 2.0;
        let condition = 64f64.min(0.25 / (unit * (n as f64).sqrt()));
        let a = (0..batch).flat_map(|matrix| spectrum_rotated(n, condition, matrix)).collect();
        let mut a = rounded(a, dtype);
        for (index, value) in a.iter_mut().enumerate() {
            if index % n > index / n % n {
                *value = f64::NAN;
            }
        }
        let [b, g] = [2, 3].map(|salt| rounded(draw(batch * n * k, salt), dtype));
        Self { batch, n, k, dtype, a, b, g, least_eigenvalue: 0.5 / condition }
    }

    /// The same system throughout the batch, and in it the same right-hand side.
    pub fn repeat_first(mut self) -> Self {
        let (n, k) = (self.n, self.k);
        self.a = self.a[..n * n].repeat(self.batch);
        for values in [&mut self.b, &mut self.g] {
            let first: Vec<f64> = (0..n).map(|row| values[row * k]).collect();
            *values = (0..values.len()).map(|index| first[index / k % n]).collect();
        }
        self
    }

    /// Element `(row, col)` of a matrix, from its lower triangle.
    fn element(&self, matrix: usize, row: usize, col: usize) -> f64 {
        self.a[(matrix * self.n + row.max(col)) * self.n + row.min(col)]
    }

    /// Asserts that `x` solves for `b`: its residual is that of a backward stable solution, and its error what the
    /// condition number makes of that.
    ///
    /// The solution by Cholesky is that of a matrix changed by at most `γ_(3n+1) |L| |Lᵀ|` (Higham, *Accuracy and Stability
    /// of Numerical Algorithms*, theorem 10.4), of which element `(i, j)` is at most `√(a_ii a_jj)`. Counted are two more
    /// roundings for every division that is done by a reciprocal, and those of the result and of the gradient before it
    /// to half precision.
    pub fn assert_solution(&self, what: &str, x: &[f64], b: &[f64]) {
        let Self { batch, n, k, .. } = *self;
        assert_eq!(x.len(), b.len(), "{what}: number of elements");
        let tolerance = Tolerance::of(self.dtype);
        for matrix in 0..batch {
            let scale: Vec<f64> = (0..n).map(|row| self.element(matrix, row, row).sqrt()).collect();
            let factor = self.factor(matrix);
            for column in 0..k {
                let at = |row: usize| (matrix * n + row) * k + column;
                let magnitude: f64 = (0..n).map(|row| scale[row] * x[at(row)].abs()).sum();
                let (mut bounds, mut residuals) = (0.0, vec![0.0; n]);
                for row in 0..n {
                    let product: f64 = (0..n).map(|j| self.element(matrix, row, j) * x[at(j)]).sum();
                    let residual = b[at(row)] - product;
                    let bound = tolerance.bound(5 * n + 4, scale[row] * magnitude) + f64::EPSILON * b[at(row)].abs();
                    // Written so that NaN fails.
                    let small = residual.abs() <= bound;
                    assert!(small, "{what}: residual {residual:e} of {}, beyond {bound:e}", at(row));
                    bounds += bound * bound;
                    residuals[row] = residual;
                }
                let error = norm(&substituted(&factor, residuals));
                let bound = bounds.sqrt() / self.least_eigenvalue;
                assert!(error <= bound, "{what}: column {column} of {matrix} off by {error:e}, beyond {bound:e}");
            }
        }
    }

    /// The factor of a matrix by the textbook algorithm, row by row.
    fn factor(&self, matrix: usize) -> Vec<f64> {
        let n = self.n;
        let mut factor = vec![0.0; n * n];
        for row in 0..n {
            for col in 0..=row {
                let sum: f64 = (0..col).map(|j| factor[row * n + j] * factor[col * n + j]).sum();
                let value = self.element(matrix, row, col) - sum;
                factor[row * n + col] = if row == col { value.sqrt() } else { value / factor[col * n + col] };
            }
        }
        factor
    }
}

/// `x` with `L Lᵀ x = b`.
fn substituted(factor: &[f64], mut x: Vec<f64>) -> Vec<f64> {
    let n = x.len();
    for row in 0..n {
        let sum: f64 = (0..row).map(|j| factor[row * n + j] * x[j]).sum();
        x[row] = (x[row] - sum) / factor[row * n + row];
    }
    for row in (0..n).rev() {
        let sum: f64 = (row + 1..n).map(|j| factor[j * n + row] * x[j]).sum();
        x[row] = (x[row] - sum) / factor[row * n + row];
    }
    x
}

/// A dense symmetric matrix of norm 1: eigenvalues from 1 down to `1 / condition`, reflected by a Householder matrix.
fn spectrum_rotated(n: usize, condition: f64, salt: usize) -> Vec<f64> {
    let mut normal: Vec<f64> = (0..n).map(|row| ((row * 7 + salt * 3) % 11) as f64 - 5.5).collect();
    let length = norm(&normal);
    normal.iter_mut().for_each(|value| *value /= length);
    let eigenvalue = |row: usize| condition.powf(-(row as f64) / (n.max(2) - 1) as f64);
    // H D H = D − 2 v (Dv)ᵀ − 2 (Dv) vᵀ + 4 (vᵀ D v) v vᵀ
    let scaled: Vec<f64> = (0..n).map(|row| eigenvalue(row) * normal[row]).collect();
    let inner: f64 = normal.iter().zip(&scaled).map(|(v, dv)| v * dv).sum();
    let entry = |row: usize, col: usize| {
        let diagonal = if row == col { eigenvalue(row) } else { 0.0 };
        let (v, w, dv, dw) = (normal[row], normal[col], scaled[row], scaled[col]);
        // Grouped so that the matrix is symmetric to the last bit.
        diagonal - 2.0 * (v * dw + dv * w) + 4.0 * inner * (v * w)
    };
    (0..n * n).map(|index| entry((index / n).max(index % n), (index / n).min(index % n))).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// The strategies to try on a backend: all of them, or where each takes long the one that does without Burn's matmul, which
/// only gradients differ in.
pub fn strategies<B: StructuredBackend>(backend: &TestBackend<B>) -> Vec<SpdStrategy> {
    match backend.scope {
        Scope::Native => vec![SpdStrategy::Auto, SpdStrategy::Reference, SpdStrategy::TiledGemm],
        Scope::Kernels | Scope::Fused => vec![SpdStrategy::TiledGemm],
    }
}
