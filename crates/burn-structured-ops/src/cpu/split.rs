//! How one batched GEMM is spread over the threads.

use super::{Output, Scalar};

/// How one batched GEMM is spread over the threads.
pub(crate) enum Split {
    /// Each thread takes tiles of tokens through every block.
    Tokens { tile: usize },
    /// The blocks one after the other, each product by all threads.
    WithinBlocks,
}

impl Split {
    pub fn of(tokens: usize) -> Self {
        let threads = rayon::current_num_threads();
        let tile = tokens.div_ceil(threads).clamp(1, 128);
        // A short tile would pack full_tile factors for a handful of tokens.
        if tile >= 16 || threads == 1 { Self::Tokens { tile } } else { Self::WithinBlocks }
    }
}

/// Fills every row of `y` with the bias, to which the GEMMs then add.
pub(crate) fn fill_bias<E: Scalar>(y: &mut [E], bias: Option<&[E]>) -> Output {
    let Some(bias) = bias else {
        return Output::Store;
    };
    for row in y.chunks_exact_mut(bias.len()) {
        row.copy_from_slice(bias);
    }
    Output::Accumulate
}
