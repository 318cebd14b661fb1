//! The whole product: choosing a path, and the blocked one.

use super::coupling::{Couplings, couple_block};
use super::{stages, token_major};
use crate::blast::{BlastStrategy, Sizes};
use crate::cpu::{Matrix, Output, Scalar, contiguous, dense_slice, fill_bias, multiply, vectorized};
use burn::tensor::Shape;
use burn_flex::FlexTensor;
use rayon::prelude::*;

/// Tokens of a tile at most. Its GEMMs pack a whole factor, which a long tile pays for; measured on two cores with 1 MiB of
/// second-level cache, 256 tokens beat 32, 64 and 128 at 4 blocks.
const TILE_TOKENS: usize = 256;
/// The same for more than [`FEW_BLOCKS`]: the coupling reads the tile's `z` once for every output block, so `z` should stay
/// in the second-level cache.
const TILE_TOKENS_OF_MANY_BLOCKS: usize = 64;
/// See [`TILE_TOKENS_OF_MANY_BLOCKS`].
const FEW_BLOCKS: usize = 8;
/// Tokens of a tile at least, unless there are fewer.
const MIN_TILE_TOKENS: usize = 16;

fn longest_tile(sizes: Sizes) -> usize {
    if sizes.b1 > FEW_BLOCKS { TILE_TOKENS_OF_MANY_BLOCKS } else { TILE_TOKENS }
}

#[derive(Debug, PartialEq)]
enum Path {
    Staged,
    Blocked { tile: usize },
}

impl Path {
    fn choose(sizes: Sizes, strategy: BlastStrategy, threads: usize) -> Self {
        let tile = sizes.tokens.div_ceil(threads).clamp(MIN_TILE_TOKENS, longest_tile(sizes)).min(sizes.tokens);
        match strategy {
            BlastStrategy::Staged | BlastStrategy::Portable => Self::Staged,
            BlastStrategy::Blocked => Self::Blocked { tile },
            _ if sizes.tokens.div_ceil(tile) < threads => Self::Staged,
            _ => Self::Blocked { tile },
        }
    }
}

/// `y [tokens, m]`, and `z [b2, tokens, r]` if `save`.
#[allow(clippy::too_many_arguments)]
pub(super) fn run<E: Scalar>(
    sizes: Sizes,
    x: &FlexTensor,
    u: &FlexTensor,
    s: &FlexTensor,
    v: &FlexTensor,
    bias: Option<&FlexTensor>,
    strategy: BlastStrategy,
    save: bool,
) -> (FlexTensor, Option<FlexTensor>) {
    let bias = bias.map(FlexTensor::to_contiguous);
    let bias = bias.as_ref().map(dense_slice::<E>);
    let Path::Blocked { tile } = Path::choose(sizes, strategy, rayon::current_num_threads()) else {
        let z = stages::project::<E>(x, v);
        let t = stages::couple::<E>(z.clone(), s.clone());
        let y = stages::expand::<E>(t, u, bias);
        return (y, save.then_some(z));
    };

    let s = s.to_contiguous();
    let s = Couplings { values: dense_slice::<E>(&s), output_stride: sizes.b2 * sizes.r, input_stride: sizes.r };
    let m = sizes.b1 * sizes.p;
    let mut y = vec![E::ZERO; sizes.tokens * m];
    let mut z = vec![E::ZERO; if save { sizes.tokens * sizes.b2 * sizes.r } else { 0 }];
    blocked::<E>(sizes, tile, x, u, s, v, bias, &mut y, save.then_some(&mut z));
    (contiguous(y, Shape::new([sizes.tokens, m])), save.then(|| token_major(z, [sizes.b2, sizes.tokens, sizes.r])))
}

#[allow(clippy::too_many_arguments)]
fn blocked<E: Scalar>(
    sizes: Sizes,
    tile: usize,
    x: &FlexTensor,
    u: &FlexTensor,
    s: Couplings<'_, E>,
    v: &FlexTensor,
    bias: Option<&[E]>,
    y: &mut [E],
    z: Option<&mut [E]>,
) {
    let m = sizes.b1 * sizes.p;
    let z_row = sizes.b2 * sizes.r;
    match z {
        Some(z) => y.par_chunks_mut(tile * m).zip(z.par_chunks_mut(tile * z_row)).enumerate().for_each_init(
            || vec![E::ZERO; tile * sizes.r],
            |t, (index, (y, z))| tile_product(sizes, index * tile, x, u, s, v, bias, y, z, t),
        ),
        None => y.par_chunks_mut(tile * m).enumerate().for_each_init(
            || (vec![E::ZERO; tile * sizes.r], vec![E::ZERO; tile * z_row]),
            |(t, z), (index, y)| {
                let tokens = y.len() / m;
                tile_product(sizes, index * tile, x, u, s, v, bias, y, &mut z[..tokens * z_row], t);
            },
        ),
    }
}

/// The tokens from `start` on, as many as `y` holds, through all three stages.
#[allow(clippy::too_many_arguments)]
fn tile_product<E: Scalar>(
    sizes: Sizes,
    start: usize,
    x: &FlexTensor,
    u: &FlexTensor,
    s: Couplings<'_, E>,
    v: &FlexTensor,
    bias: Option<&[E]>,
    y: &mut [E],
    z: &mut [E],
    t: &mut [E],
) {
    let Sizes { b1, b2, p, q, r, .. } = sizes;
    let m = b1 * p;
    let tokens = y.len() / m;
    let x = Matrix::<E>::of(x, 0).rows(start, tokens);
    for j in 0..b2 {
        let factor = Matrix::of(v, j);
        multiply(&mut z[j * r..], b2 * r, Output::Overwrite, x.cols(j * q, q), factor, gemm::Parallelism::None);
    }
    let mode = fill_bias(y, bias);
    for i in 0..b1 {
        vectorized(
            #[inline(always)]
            || couple_block(z, b2, r, s, i, t, r),
        );
        let coupled = Matrix::row_major(t, tokens, r, r);
        let factor = Matrix::of(u, i).transposed();
        multiply(&mut y[i * p..], m, mode, coupled, factor, gemm::Parallelism::None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(tokens: usize) -> Sizes {
        Sizes { tokens, b1: 2, b2: 2, p: 8, q: 8, r: 4 }
    }

    #[test]
    fn too_few_tiles_for_the_threads_are_staged() {
        assert_eq!(Path::choose(sizes(32), BlastStrategy::Auto, 8), Path::Staged);
        assert_eq!(Path::choose(sizes(1), BlastStrategy::Auto, 8), Path::Staged);
    }

    #[test]
    fn many_tokens_are_blocked_with_every_thread_busy() {
        assert_eq!(Path::choose(sizes(64), BlastStrategy::Auto, 2), Path::Blocked { tile: 32 });
        assert_eq!(Path::choose(sizes(4096), BlastStrategy::Auto, 2), Path::Blocked { tile: TILE_TOKENS });
    }

    #[test]
    fn a_tile_is_never_longer_than_the_input() {
        assert_eq!(Path::choose(sizes(1), BlastStrategy::Blocked, 2), Path::Blocked { tile: 1 });
    }
}
