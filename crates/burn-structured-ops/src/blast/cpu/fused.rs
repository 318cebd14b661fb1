//! The product by rank blocks, for more than a few tokens: projection and coupling together, then the expansion.
//!
//! Component `k` of the rank goes through projection and coupling by itself: `t_i[k]` needs `z_j[k]` for every `j` and nothing else. So
//! one task takes a rank block, a few panels wide, and a tile of tokens through both stages:
//!
//! ```text
//! z_j[block] = x_j V_j[block]   for every j      V is packed by the first tile of rows
//! t_i[block] = Σ_j s_ij ∘ z_j   for every i      z has not left the L2 cache
//! ```
//!
//! `z` is written to memory only for the backward pass, `t` in [panels](PanelLayout). The expansion sums over the whole rank, and is a
//! second set of tasks.

use super::coupling::{Couplings, couple_panel};
use super::expansion::expand;
use super::layout::{PanelLayout, PanelRows};
use super::projection::{RankBlock, kc};
use super::tiling::Tiling;
use crate::blast::Sizes;
use crate::cpu::gemm::{self, Finish, Rows};
use crate::cpu::{Output, Scalar, SharedOutput, ThreadTeam, Workspace, split_aligned};
use burn_flex::FlexTensor;

/// Bytes of `t` at a time; more tokens are taken in chunks.
const COUPLED_BYTES: usize = 16 << 20;
/// Tokens of a chunk at least.
const MIN_TOKENS: usize = 64;

/// The operands of a product, apart from `x`.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a, E> {
    pub u: &'a FlexTensor,
    pub s: Couplings<'a, E>,
    pub v: &'a FlexTensor,
    /// What follows the product.
    pub finish: Finish<'a, E>,
}

/// Tokens to take at a time, of so many, if each has so many coupled components.
pub(super) fn token_chunk<E: Scalar>(tokens: usize, components: usize) -> usize {
    gemm::balanced_chunk(tokens, (COUPLED_BYTES / (components * size_of::<E>())).max(MIN_TOKENS))
}

/// Writes `y [tokens, m]`, and the projections into `z [tokens, b2, r]` if wanted, `token_chunk` tokens at a time, which are tiled as
/// `tiling` says.
#[allow(clippy::too_many_arguments)]
pub(super) fn forward<E: Scalar>(
    team: &ThreadTeam,
    sizes: Sizes,
    x: Rows<'_, E>,
    weights: Weights<'_, E>,
    mut y: Output<'_, E>,
    mut z: Option<Output<'_, E>>,
    token_chunk: usize,
    tiling: impl Fn(usize) -> Tiling,
) {
    let (m, z_row) = (sizes.b1 * sizes.p, sizes.b2 * sizes.r);
    E::with_buffer(Workspace::Shared, |buffer| {
        for start in (0..sizes.tokens).step_by(token_chunk) {
            let tokens = token_chunk.min(sizes.tokens - start);
            let layout = PanelLayout::new::<E>(sizes.r, sizes.b1, tokens);
            let [t] = split_aligned(buffer, [layout.len()]);
            let z = z.as_mut().map(|z| z.part(start * z_row, tokens * z_row));
            let x = x.range(start, tokens);
            project_and_couple(team, sizes, tiling(tokens), x, weights, (Output::of_slice(&mut *t), layout), z);
            let finish = weights.finish.rows_from(start, m);
            expand(team, tokens, t, layout, weights.u, finish, y.part(start * m, tokens * m));
        }
    });
}

/// Writes `t`, and `z` if wanted.
fn project_and_couple<E: Scalar>(
    team: &ThreadTeam,
    sizes: Sizes,
    tiling: Tiling,
    x: Rows<'_, E>,
    Weights { s, v, .. }: Weights<'_, E>,
    (mut t, layout): (Output<'_, E>, PanelLayout),
    mut z: Option<Output<'_, E>>,
) {
    let (t, z) = ((t.share(), layout), z.as_mut().map(Output::share));
    let tasks = tiling.tasks::<E>(sizes.r, x.count);
    team.parallel_for(tasks.len(), |index| {
        let task = tasks[index];
        let first = task.panel * t.1.nr;
        let block = RankBlock { factor: v, first, cols: (task.panels * t.1.nr).min(sizes.r - first) };
        // SAFETY: no other task has these tokens and components.
        unsafe { project_and_couple_task(sizes, x.range(task.start, task.tokens), s, block, t, z, task.start) };
    });
}

/// One rank block of one tile of tokens, from `x` to `t`.
///
/// # Safety
///
/// Nothing else may access these tokens and components of `t` and `z`.
unsafe fn project_and_couple_task<E: Scalar>(
    Sizes { b1, b2, q, r, .. }: Sizes,
    x: Rows<'_, E>,
    s: Couplings<'_, E>,
    block: RankBlock<'_>,
    (t, layout): (SharedOutput<'_, E>, PanelLayout),
    z: Option<SharedOutput<'_, E>>,
    start: usize,
) {
    let RankBlock { first, cols, .. } = block;
    let (nr, tokens) = (layout.nr, x.count);
    let stride = cols.next_multiple_of(nr);
    E::with_buffer(Workspace::Task, |buffer| {
        let [packed, couplings, projected] =
            split_aligned(buffer, [kc(q) * stride, b1 * b2 * stride, tokens * b2 * stride]);
        // Half of a panel may be all that is left of the rank.
        block.project(x, packed, cols.next_multiple_of(nr / 2), projected, block.next());
        s.pack([b1, b2], first, cols, nr, couplings);
        if let Some(z) = z {
            for (row, projected) in projected.chunks_exact(stride).enumerate() {
                // SAFETY: as the caller says.
                let z = unsafe { z.uninit_slice((start * b2 + row) * r + first, cols) };
                z.write_copy_of_slice(&projected[..cols]);
            }
        }
        for panel in 0..cols.div_ceil(nr) {
            let couplings = &couplings[panel * b1 * b2 * nr..][..b1 * b2 * nr];
            let z = PanelRows::new(&projected[panel * nr..], [tokens, b2], [b2 * stride, stride], nr);
            // SAFETY: as the caller says.
            couple_panel(z, couplings, unsafe { layout.target(t, first / nr + panel, [start, tokens]) });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Matrix, contiguous};
    use burn::tensor::Shape;

    /// `y` and `z` in a pool of two threads, in rank blocks of so many panels and so many tiles of tokens.
    fn product([tokens, b1, b2, p, q, r]: [usize; 6], [panels, tiles]: [usize; 2]) -> [Vec<f64>; 2] {
        let sizes = Sizes { tokens, b1, b2, p, q, r };
        let [x, u, s, v] = operands(sizes);
        let [u, s, v] = [(u, [b1, p, r]), (s, [b1, b2, r]), (v, [b2, q, r])]
            .map(|(values, dims)| contiguous(values, Shape::new(dims)));
        let (mut y, mut z) = (vec![f64::NAN; tokens * b1 * p], vec![f64::NAN; tokens * b2 * r]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
        pool.install(|| {
            let rows = Rows::of(Matrix::row_major(&x, tokens, b2 * q, b2 * q)).expect("contiguous rows");
            let s = Couplings::of(&s);
            let [y, z] = [&mut y, &mut z].map(|out| Output::of_slice(out));
            let (_, mr) = gemm::shape::<f64>();
            let tiling = |tokens: usize| Tiling { panels, tile: tokens.div_ceil(tiles).next_multiple_of(mr) };
            let weights = Weights { u: &u, s, v: &v, finish: Finish::bias(None) };
            forward(&ThreadTeam::default(), sizes, rows, weights, y, Some(z), tokens, tiling);
        });
        [y, z]
    }

    /// Whole numbers, so that no order of summation rounds.
    fn operands(Sizes { tokens, b1, b2, p, q, r }: Sizes) -> [Vec<f64>; 4] {
        let number = |at: usize| (at * 7 % 19) as f64 - 9.0;
        [tokens * b2 * q, b1 * p * r, b1 * b2 * r, b2 * q * r].map(|len| (0..len).map(number).collect())
    }

    /// Sizes `[tokens, b1, b2, p, q, r]`; panels of a rank block and tiles of tokens.
    #[cfg(not(miri))]
    const CASES: [([usize; 6], [usize; 2]); 10] = [
        // Several packed blocks; several tiles; neither; tiles of few tokens, as there are many blocks.
        ([20, 3, 4, 5, 600, 259], [4, 1]),
        ([900, 2, 3, 3, 2, 259], [2, 2]),
        ([20, 3, 2, 5, 7, 19], [1, 1]),
        ([130, 2, 150, 3, 2, 40], [1, 2]),
        // Few tokens, and few of them in each of several tiles.
        ([9, 3, 2, 19, 7, 19], [1, 1]),
        ([64, 2, 3, 130, 70, 259], [3, 1]),
        ([130, 2, 150, 261, 2, 40], [1, 2]),
        // Rows of x, and of U, that alias in the L1 cache; fewer of them than a register tile has.
        ([29, 2, 2, 5, 256, 19], [1, 1]),
        ([21, 2, 2, 45, 256, 512], [16, 1]),
        ([9, 2, 1, 20, 512, 40], [2, 1]),
    ];
    /// The same where panels are 2 wide and packed blocks 4 or 8 deep.
    #[cfg(miri)]
    const CASES: [([usize; 6], [usize; 2]); 4] = [
        ([13, 3, 2, 2, 11, 7], [2, 1]),
        ([26, 2, 3, 1, 2, 5], [1, 2]),
        ([9, 2, 5, 3, 1, 3], [1, 1]),
        ([7, 2, 1, 3, 16, 16], [4, 1]),
    ];

    #[test]
    fn forward_equals_the_product_for_every_tiling() {
        for (dims, tiling) in CASES {
            let [tokens, b1, b2, p, q, r] = dims;
            let [y, z] = product(dims, tiling);
            let [x, u, s, v] = operands(Sizes { tokens, b1, b2, p, q, r });
            let projection = |token: usize, j: usize, k: usize| -> f64 {
                (0..q).map(|feature| x[(token * b2 + j) * q + feature] * v[(j * q + feature) * r + k]).sum()
            };
            for (index, z) in z.iter().enumerate() {
                assert_eq!(*z, projection(index / (b2 * r), index / r % b2, index % r), "{dims:?}: z[{index}]");
            }
            for (index, y) in y.iter().enumerate() {
                let (token, i, row) = (index / (b1 * p), index / p % b1, index % p);
                let coupled =
                    |k: usize| -> f64 { (0..b2).map(|j| s[(i * b2 + j) * r + k] * z[(token * b2 + j) * r + k]).sum() };
                let expected: f64 = (0..r).map(|k| coupled(k) * u[(i * p + row) * r + k]).sum();
                assert_eq!(*y, expected, "{dims:?}: y[{index}]");
            }
        }
    }
}
