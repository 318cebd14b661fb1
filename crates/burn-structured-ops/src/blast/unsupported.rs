//! Why a strategy cannot run for a product.

use super::{BlastCandidate, BlastStrategy, Sizes};
use burn::tensor::{DType, Tensor};
use thiserror::Error;

/// Why a [`BlastStrategy`] cannot run as named.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnsupportedStrategy {
    /// The backend has no such kernels.
    #[error("only CubeCL devices have kernels for it")]
    Backend,
    /// More tokens than the decoding kernels take.
    #[error("{tokens} tokens, and it takes at most {most}")]
    Tokens {
        /// Tokens of the product.
        tokens: usize,
        /// Tokens at most.
        most: usize,
    },
    /// The backward pass needs `z`, which the decoding kernels never write.
    #[error("the projections have to be kept for the backward pass")]
    KeepsProjections,
    /// The device has no matrix instructions for the dtype whose registers a kernel can load itself.
    #[error("the device has no tensor cores for {dtype:?} that kernels can load themselves")]
    TensorCores {
        /// The product's type.
        dtype: DType,
    },
    /// Vectors would cross from one block into the next.
    #[error("the sides of the blocks and the rank must be multiples of {multiple}, and one of them is {size}")]
    Alignment {
        /// The side of a block, or the rank.
        size: usize,
        /// What it should be a multiple of.
        multiple: usize,
    },
    /// A cube would have more units than the device allows.
    #[error("a cube would have {needed} units, and the device allows {available}")]
    Units {
        /// Units of the cube.
        needed: usize,
        /// Units that the device allows.
        available: usize,
    },
    /// A cube would need more shared memory than the device has.
    #[error("a cube would need {needed} bytes of shared memory, and the device has {available}")]
    SharedMemory {
        /// Bytes that the cube needs.
        needed: usize,
        /// Bytes that the device has.
        available: usize,
    },
}

/// Why `strategy` would not run as named for the inference product of these operands, if it would not.
///
/// Such a product is computed by [`BlastStrategy::Staged`].
///
/// # Panics
///
/// If the shapes do not fit each other, as for [`blast_linear`](super::blast_linear); `x` is `[tokens, n]`.
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_structured_ops::blast::{BlastCandidate, BlastStrategy, UnsupportedStrategy, blast_unsupported};
///
/// let device = Device::flex();
/// let (x, u) = (Tensor::<2>::zeros([5, 12], &device), Tensor::<3>::zeros([2, 10, 4], &device));
/// let (s, v) = (Tensor::<3>::zeros([2, 3, 4], &device), Tensor::<3>::zeros([3, 4, 4], &device));
/// assert_eq!(blast_unsupported(&x, &u, &s, &v, BlastStrategy::Fused), None);
/// let autotuned = BlastStrategy::Candidate(BlastCandidate::Autotuned);
/// assert_eq!(blast_unsupported(&x, &u, &s, &v, autotuned), Some(UnsupportedStrategy::Backend));
/// ```
pub fn blast_unsupported(
    x: &Tensor<2>,
    u: &Tensor<3>,
    s: &Tensor<3>,
    v: &Tensor<3>,
    strategy: BlastStrategy,
) -> Option<UnsupportedStrategy> {
    use BlastCandidate::{Autotuned, TensorCore};
    use BlastStrategy::{Candidate, Decode, Fused};
    let ([tokens, n], [b1, p, r], [b2, q, _]) = (x.dims(), u.dims(), v.dims());
    super::check_operands(n, u, s, v);
    let sizes = Sizes { tokens, b1, b2, p, q, r };
    let device = x.device().without_autodiff();
    #[cfg(feature = "cube")]
    if let burn::backend::DispatchDevice::Cube(device) = device.as_dispatch() {
        return super::cube::unsupported(strategy, sizes, x.dtype(), device);
    }
    let _ = (sizes, &device);
    #[cfg(feature = "flex")]
    if let burn::backend::DispatchDevice::Flex(_) = device.as_dispatch() {
        return matches!(strategy, Candidate(TensorCore | Autotuned)).then_some(UnsupportedStrategy::Backend);
    }
    matches!(strategy, Fused | Decode | Candidate(TensorCore | Autotuned)).then_some(UnsupportedStrategy::Backend)
}
