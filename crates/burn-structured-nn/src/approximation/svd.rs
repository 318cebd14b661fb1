//! Truncated singular value decompositions on the host, in f64: the closed-form approximations and the start of a
//! factorization.
//!
//! The whole decomposition of a large matrix takes longer than a factorization that starts from a few of its vectors.
//! [`randomized`] therefore finds the largest ones by a range finder with power iterations (Halko, Martinsson, Tropp, SIAM Review
//! 2011, algorithms 4.4 and 5.1).

use crate::StructureError;
use burn::tensor::{DType, Device, Tensor, TensorData};
use faer::{Mat, MatRef};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

/// Vectors beyond those of the rank, which the range finder needs to find the last ones.
const OVERSAMPLING: usize = 16;

/// Multiplications with the matrix and its transpose.
const POWER_ITERATIONS: usize = 3;

/// Below this, the whole decomposition is fast enough.
const LEAST_SIDE: usize = 1024;

/// `matrix ≈ left · diag(values) · rightᵀ`.
#[derive(Debug)]
pub struct Truncated {
    /// `[rows, rank]`, orthonormal.
    pub left: Mat<f64>,
    /// Descending; as many as were found, which may be more than there are vectors.
    pub values: Vec<f64>,
    /// `[columns, rank]`, orthonormal.
    pub right: Mat<f64>,
    /// The squares of all singular values together, found or not.
    total: f64,
    /// Whether all were found.
    complete: bool,
}

/// The best factors of a rank: `matrix ≈ left · rightᵀ`, the singular values shared evenly between both.
pub(crate) struct Balanced {
    /// `[rows, rank]`.
    pub left: Mat<f64>,
    /// `[columns, rank]`.
    pub right: Mat<f64>,
}

impl Truncated {
    /// The error of the best matrix of this rank, relative to the norm of the whole. Not known below 1e-8 where only the largest
    /// singular values were found.
    pub fn truncation_error(&self, rank: usize) -> f64 {
        let square = |values: &[f64]| values.iter().map(|value| value.powi(2)).sum::<f64>();
        let (kept, beyond) = self.values.split_at(rank.min(self.values.len()));
        let unknown = if self.complete { 0.0 } else { (self.total - square(kept) - square(beyond)).max(0.0) };
        if self.total == 0.0 { 0.0 } else { ((square(beyond) + unknown) / self.total).sqrt() }
    }
}

impl Balanced {
    /// As layers store them: the input factor `[columns, rank]`, and the output factor transposed, `[rank, rows]`.
    pub fn to_tensors(&self, device: &Device, dtype: DType) -> [Tensor<2>; 2] {
        let (left, right, rank) = (&self.left, &self.right, self.left.ncols());
        let (rows, columns) = (left.nrows(), right.nrows());
        [
            tensor([columns, rank], |at| right[(at / rank, at % rank)], device, dtype),
            tensor([rank, rows], |at| left[(at % rows, at / rows)], device, dtype),
        ]
    }
}

/// The `rank` largest singular values and their vectors, from the whole decomposition. `rank` is at most the shorter side.
///
/// # Errors
///
/// If the decomposition does not converge.
pub fn truncated(matrix: MatRef<'_, f64>, rank: usize) -> Result<Truncated, StructureError> {
    let (rows, columns) = (matrix.nrows(), matrix.ncols());
    let name = "singular value decomposition";
    let svd = matrix.thin_svd().map_err(|_| StructureError::NotConverged { name, rows, columns })?;
    let values: Vec<f64> = svd.S().column_vector().iter().copied().collect();
    let total = values.iter().map(|value| value.powi(2)).sum();
    let (left, right) = (svd.U().subcols(0, rank).to_owned(), svd.V().subcols(0, rank).to_owned());
    Ok(Truncated { left, values, right, total, complete: true })
}

/// The same by a range finder, where the matrix is large and the rank small.
///
/// # Errors
///
/// If the decomposition does not converge.
pub fn randomized(matrix: MatRef<'_, f64>, rank: usize, seed: u64) -> Result<Truncated, StructureError> {
    let side = matrix.nrows().min(matrix.ncols());
    let width = rank + OVERSAMPLING;
    if side < LEAST_SIDE || 2 * width > side {
        return truncated(matrix, rank);
    }
    // An orthonormal basis of the space that the largest singular vectors span.
    let mut rng = StdRng::seed_from_u64(seed);
    let sketch: Mat<f64> = Mat::from_fn(matrix.ncols(), width, |_, _| StandardNormal.sample(&mut rng));
    let basis = |spanned: Mat<f64>| spanned.qr().compute_thin_Q();
    let mut range = basis(matrix * sketch);
    for _ in 0..POWER_ITERATIONS {
        range = basis(matrix * basis(matrix.transpose() * range));
    }
    let small = truncated((range.transpose() * matrix).as_ref(), rank)?;
    // Those beyond the rank are the oversampling's, and not found well.
    let values = small.values[..rank].to_vec();
    Ok(Truncated { left: range * small.left, values, total: matrix.squared_norm_l2(), complete: false, ..small })
}

/// The factors of `rank`, which may be above that of the matrix; the columns beyond it are zero.
pub(crate) fn balanced(matrix: MatRef<'_, f64>, rank: usize) -> Result<Balanced, StructureError> {
    let found = truncated(matrix, rank.min(matrix.nrows()).min(matrix.ncols()))?;
    let scaled = |vectors: &Mat<f64>| {
        Mat::from_fn(vectors.nrows(), rank, |row, component| {
            let known = component < vectors.ncols();
            if known { vectors[(row, component)] * found.values[component].max(0.0).sqrt() } else { 0.0 }
        })
    };
    Ok(Balanced { left: scaled(&found.left), right: scaled(&found.right) })
}

/// A matrix over values that are stored row by row.
pub(crate) fn matrix(values: &[f64], rows: usize, columns: usize) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice(values, rows, columns)
}

/// A tensor of `dims` whose entries, in order, are those of `entry(index)`.
pub(crate) fn tensor<const D: usize>(
    dims: [usize; D],
    entry: impl FnMut(usize) -> f64,
    device: &Device,
    dtype: DType,
) -> Tensor<D> {
    let values: Vec<f64> = (0..dims.iter().product()).map(entry).collect();
    Tensor::from_data(TensorData::new(values, dims).convert_dtype(dtype), (device, dtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_of_the_rank_is_its_own_approximation() {
        let (a, b) =
            (Mat::from_fn(7, 2, |i, j| (i * 3 + j * 5) as f64 % 4.0), Mat::from_fn(5, 2, |i, j| (i + j) as f64));
        let product = &a * b.transpose();
        for rank in [2, 5, 9] {
            let Balanced { left, right } = balanced(product.as_ref(), rank).unwrap();
            assert_eq!((left.ncols(), right.ncols()), (rank, rank));
            assert!((&left * right.transpose() - &product).norm_l2() < 1e-12, "rank {rank}");
        }
    }

    #[test]
    fn randomized_finds_the_values_of_the_whole_decomposition() {
        let mut rng = StdRng::seed_from_u64(1);
        let size = 1100;
        let mut draw = |rows: usize, columns: usize| -> Mat<f64> {
            Mat::from_fn(rows, columns, |_, _| StandardNormal.sample(&mut rng))
        };
        // Singular values that fall from about 1100 to 50, in noise of up to about 0.6.
        let (left, right, noise) = (draw(size, 20), draw(size, 20), draw(size, size));
        let scale = |column: usize| 1.0 / (column + 1) as f64;
        let matrix = Mat::from_fn(size, 20, |row, column| left[(row, column)] * scale(column)) * right.transpose()
            + faer::Scale(0.01) * noise;
        let found = randomized(matrix.as_ref(), 20, 0).unwrap();
        let expected = truncated(matrix.as_ref(), 20).unwrap();
        for (found, expected) in found.values.iter().zip(&expected.values) {
            assert!((found / expected - 1.0).abs() < 1e-9, "{found} against {expected}");
        }
    }
}
