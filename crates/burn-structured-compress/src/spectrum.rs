//! One singular value decomposition of a weight for all ranks: it takes longer than all else that a low-rank approximation does.

use crate::CompressError;
use crate::approximate::{CalibratedWeight, check_not_empty, read};
use crate::calibrate::Moment;
use crate::svd::{Truncated, randomized, truncated_in};
use burn::tensor::Tensor;

/// The singular value decomposition of a dense weight, in the metric of its inputs if they are known: the error of the best
/// low-rank matrix of every rank, and [where a factorization of any rank starts](crate::factorize::Start::Decomposed).
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_structured_compress::Spectrum;
///
/// let random = |shape| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex());
/// let spectrum = Spectrum::new(&random([24, 3]).matmul(random([3, 16])), None)?;
/// assert!(spectrum.relative_error(2) > 0.01 && spectrum.relative_error(3) < 1e-5);
/// # Ok::<(), burn_structured_compress::CompressError>(())
/// ```
#[derive(Debug)]
pub struct Spectrum {
    /// Of `W`, or of `W L` with `C = L Lᵀ`, whose right vectors are multiplied by `L⁻ᵀ`.
    pub(crate) found: Truncated,
    shape: [usize; 2],
}

impl Spectrum {
    /// The decomposition of `weight [d_output, d_input]`, for inputs of second moment `moment` if that is known.
    ///
    /// # Errors
    ///
    /// If an entry is not finite, the moment is of other features or not positive definite, or the decomposition does not
    /// converge.
    pub fn new(weight: &Tensor<2>, moment: Option<&Moment>) -> Result<Self, CompressError> {
        let [m, n] = weight.dims();
        Self::up_to(m.min(n), weight, moment)
    }

    /// The decomposition up to a rank, which for large matrices takes less time.
    pub(crate) fn up_to(rank: usize, weight: &Tensor<2>, moment: Option<&Moment>) -> Result<Self, CompressError> {
        let shape = weight.dims();
        check_not_empty(weight)?;
        let rank = rank.min(shape[0]).min(shape[1]);
        let found = match moment {
            None => randomized(read(weight)?.as_ref(), rank, 0)?,
            Some(moment) => {
                let CalibratedWeight { weight, moment, .. } = CalibratedWeight::new(weight, None, moment, shape)?;
                truncated_in(weight.as_ref(), moment.as_ref(), rank, 0)?
            }
        };
        Ok(Self { found, shape })
    }

    /// Rows and columns of the weight.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The singular values, the largest first.
    pub fn values(&self) -> &[f64] {
        &self.found.values
    }

    /// `‖W − Ŵ‖ / ‖W‖`, in the metric, of the best `Ŵ` of this rank: `(Σ_{i > rank} σ_i² / Σ_i σ_i²)^½`.
    pub fn relative_error(&self, rank: usize) -> f64 {
        self.found.truncation_error(rank)
    }
}
