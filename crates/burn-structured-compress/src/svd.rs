//! The truncated singular value decomposition in the metric of the inputs.

use crate::CompressError;
pub(crate) use burn_structured_nn::svd::{Truncated, randomized};
use faer::linalg::triangular_solve::solve_upper_triangular_in_place;
use faer::{MatRef, Par, Side};

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
    let mut found = randomized((matrix * root).as_ref(), rank, seed)?;
    // Ŵ L = left · values · rightᵀ, so its right factor is L⁻ᵀ right.
    solve_upper_triangular_in_place(root.transpose(), found.right.as_mut(), Par::rayon(0));
    Ok(found)
}
