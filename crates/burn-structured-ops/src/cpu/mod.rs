//! The CPU engine behind every operation on Flex.
//!
//! `runtime` holds what products run on (thread team, workspace, matrix views, SIMD), `gemm` products out of packed panels, and `gemv`
//! products of up to 8 tokens that read a factor once without packing it. Imports run one way: runtime ← gemm ← gemv ← an operation's
//! own `cpu/`.

pub(crate) mod gemm;
pub(crate) mod gemv;
pub(crate) mod runtime;

pub(crate) use runtime::{
    LINE, Matrix, Output, Scalar, SharedOutput, ThreadTeam, Workspace, alloc_uninit_with, contiguous, dense_slice,
    from_native, in_native, load, load_at, on_pool, split_aligned, store, store_at, to_native, vectorized, with_native,
    with_rows,
};

/// Tokens from which packing a factor pays that is used in one product only.
pub(crate) const MIN_GEMM_TOKENS: usize = 6;
