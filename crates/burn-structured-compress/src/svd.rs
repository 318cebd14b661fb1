//! Truncated singular value decompositions, on the host: where a factorization starts, and the best low-rank matrix.
//!
//! The whole decomposition of a large matrix takes longer than the factorization that starts from a few of its vectors.
//! Where only a part of them is asked for, a randomised range finder with power iterations comes first (Halko, Martinsson,
//! Tropp, SIAM Review 2011, algorithms 4.4 and 5.1).

use crate::CompressError;
use faer::linalg::solvers::Svd;
use faer::linalg::triangular_solve::solve_upper_triangular_in_place;
use faer::{Mat, MatRef, Par, Side};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

/// Vectors beyond those asked for, which the range finder needs to find the last ones.
const OVERSAMPLING: usize = 16;

/// Multiplications with the matrix and its transpose.
const POWER_ITERATIONS: usize = 3;

/// Below this, the whole decomposition is fast enough.
const LEAST_SIDE: usize = 1024;

/// `matrix ≈ left · diag(values) · rightᵀ`.
#[derive(Debug)]
pub(crate) struct Truncated {
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

impl Truncated {
    /// What the singular values beyond the first `rank` are together, relative to all of them. Not known below 1e-8 where only
    /// the largest were found.
    pub fn truncation_error(&self, rank: usize) -> f64 {
        let square = |values: &[f64]| values.iter().map(|value| value.powi(2)).sum::<f64>();
        let (kept, beyond) = self.values.split_at(rank.min(self.values.len()));
        let unknown = if self.complete { 0.0 } else { (self.total - square(kept) - square(beyond)).max(0.0) };
        if self.total == 0.0 { 0.0 } else { ((square(beyond) + unknown) / self.total).sqrt() }
    }
}

/// The `rank` largest singular values and their vectors.
///
/// # Errors
///
/// If the decomposition does not converge.
pub(crate) fn truncated(matrix: MatRef<'_, f64>, rank: usize, seed: u64) -> Result<Truncated, CompressError> {
    let side = matrix.nrows().min(matrix.ncols());
    let width = rank + OVERSAMPLING;
    if side < LEAST_SIDE || 2 * width > side {
        return whole(matrix, rank);
    }
    // An orthonormal basis of the space that the largest singular vectors span.
    let mut rng = StdRng::seed_from_u64(seed);
    let sketch: Mat<f64> = Mat::from_fn(matrix.ncols(), width, |_, _| StandardNormal.sample(&mut rng));
    let basis = |spanned: Mat<f64>| spanned.qr().compute_thin_Q();
    let mut range = basis(matrix * sketch);
    for _ in 0..POWER_ITERATIONS {
        range = basis(matrix * basis(matrix.transpose() * range));
    }
    let small = whole((range.transpose() * matrix).as_ref(), rank)?;
    // Those beyond the rank are the oversampling's, and not found well.
    let values = small.values[..rank].to_vec();
    Ok(Truncated { left: range * small.left, values, total: matrix.squared_norm_l2(), complete: false, ..small })
}

/// The best matrix of a rank in the metric of a positive definite `moment`: `‖(W − Ŵ) C^½‖` is smallest. `left` is orthonormal,
/// `right` in the metric.
///
/// # Errors
///
/// If the moment is not positive definite, or the decomposition does not converge.
pub(crate) fn truncated_in(
    matrix: MatRef<'_, f64>,
    moment: MatRef<'_, f64>,
    rank: usize,
    seed: u64,
) -> Result<Truncated, CompressError> {
    // C = L Lᵀ has the same norms as C^½: ‖E C^½‖² = tr(E C Eᵀ) = ‖E L‖².
    let not_positive = |_| CompressError::Moment;
    let cholesky = moment.llt(Side::Lower).map_err(not_positive)?;
    let root = cholesky.L();
    let found = truncated((matrix * root).as_ref(), rank, seed)?;
    // Ŵ L = left · values · rightᵀ, so its right factor is L⁻ᵀ right.
    let mut right = found.right;
    solve_upper_triangular_in_place(root.transpose(), right.as_mut(), Par::rayon(0));
    Ok(Truncated { right, ..found })
}

fn whole(matrix: MatRef<'_, f64>, rank: usize) -> Result<Truncated, CompressError> {
    let (rows, columns) = (matrix.nrows(), matrix.ncols());
    let svd = Svd::new_thin(matrix).map_err(|_| CompressError::NotConverged { rows, columns })?;
    let values: Vec<f64> = svd.S().column_vector().iter().copied().collect();
    let total = values.iter().map(|value| value.powi(2)).sum();
    let (left, right) = (svd.U().subcols(0, rank).to_owned(), svd.V().subcols(0, rank).to_owned());
    Ok(Truncated { left, values, right, total, complete: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_finder_finds_what_the_whole_decomposition_finds() {
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
        let found = truncated(matrix.as_ref(), 20, 0).unwrap();
        let expected = whole(matrix.as_ref(), 20).unwrap();
        for (found, expected) in found.values.iter().zip(&expected.values) {
            assert!((found / expected - 1.0).abs() < 1e-9, "{found} against {expected}");
        }
    }
}
