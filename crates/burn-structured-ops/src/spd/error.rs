//! Why a system cannot be solved.

use burn::tensor::DType;
use thiserror::Error;

/// Why a batch of systems `a x = b` cannot be solved.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum SpdError {
    /// The shapes are not those of `batch` systems of the same size.
    #[error("spd: `a` must be [batch, n, n] and `b` [batch, n, k], got {a:?} and {b:?}")]
    Shapes {
        /// Of the matrices.
        a: [usize; 3],
        /// Of the right-hand sides.
        b: [usize; 3],
    },
    /// The tensors' dtypes differ.
    #[error("spd: `a` and `b` must have the same dtype, got {a:?} and {b:?}; `cast` one of them")]
    DTypes {
        /// Of the matrices.
        a: DType,
        /// Of the right-hand sides.
        b: DType,
    },
    /// Some matrices have a pivot that is not a positive number.
    #[error(
        "spd: {} of {batch} matrices not positive definite (index {}); add to their diagonal, as `spd_solve_damped` does",
        .matrices.len(),
        listed(.matrices)
    )]
    NotPositiveDefinite {
        /// Their indices in the batch.
        matrices: Vec<usize>,
        /// The number of matrices in all.
        batch: usize,
    },
    /// Some matrices have no usable factor even with the largest damping.
    #[error(
        "spd: {} of {batch} matrices singular even with {limit} of the mean diagonal added (index {}); \
         look for NaN, for zero matrices and for large negative eigenvalues",
        .matrices.len(),
        listed(.matrices)
    )]
    NotDamped {
        /// Their indices in the batch.
        matrices: Vec<usize>,
        /// The number of matrices in all.
        batch: usize,
        /// The share of the mean diagonal that damping ends at.
        limit: f64,
    },
}

/// The first few indices.
fn listed(matrices: &[usize]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<String> = matrices.iter().take(SHOWN).map(usize::to_string).collect();
    let more = if matrices.len() > SHOWN { ", …" } else { "" };
    shown.join(", ") + more
}
