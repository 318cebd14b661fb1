//! The product a strip of the rank at a time, for more than a few tokens.
//!
//! Component `k` of the rank goes through projection and coupling by itself: `t_i[k]` needs `z_j[k]` for every `j` and nothing
//! else. So one task takes a strip of the rank, a panel or a few wide, and a tile of tokens through both stages:
//!
//! ```text
//! z_j[strip] = x_j V_j[strip]   for every j      V packed on the way
//! t_i[strip] = Σ_j s_ij ∘ z_j   for every i      z has not left the second-level cache
//! ```
//!
//! `z` is never written to memory unless the backward pass wants it. `t` is ([`CoupledLayout`], or with few tokens
//! [`TransposedPanels`]): the expansion sums over the full_tile rank, and is a second set of tasks, one for each group of output columns
//! (`expansion.rs`).

use super::coupling::{Couplings, couple_panel};
use super::expansion::{self, Expansion};
use super::layout::CoupledLayout;
use super::projection::{RankBlock, kc};
use super::tiling::{GemmShape, Task, Tiling};
use super::transposed::{TransposedPanels, couple_transposed, scratch_len};
use crate::blast::Sizes;
use crate::cpu::gemm::{self, ExtraPrefetch, PrefetchCursor, Rows, SharedOutput};
use crate::cpu::{Scalar, ThreadTeam, Workspace, split_aligned};
use burn_flex::FlexTensor;
use pulp::Simd;

/// Bytes of `t` at a time; more tokens are taken one token_chunk after the other.
const COUPLED_BYTES: usize = 16 << 20;
/// Tokens that are never too many to be taken at a time.
const LEAST_TOKENS: usize = 64;

/// Writes `y [tokens, m]`, and the projections into `z [tokens, b2, r]` if wanted, `token_chunk` tokens at a time, of
/// which so many go as `cut` says.
#[allow(clippy::too_many_arguments)]
pub(super) fn product<E: Scalar>(
    team: &ThreadTeam,
    sizes: Sizes,
    x: Rows<'_, E>,
    u: &FlexTensor,
    s: Couplings<'_, E>,
    v: &FlexTensor,
    bias: Option<&[E]>,
    y: SharedOutput<'_, E>,
    z: Option<SharedOutput<'_, E>>,
    token_chunk: usize,
    cut: impl Fn(usize) -> Tiling,
) {
    let (row, z_row) = (sizes.b1 * sizes.p, sizes.b2 * sizes.r);
    E::with_buffer(Workspace::Shared, |buffer| {
        for start in (0..sizes.tokens).step_by(token_chunk) {
            let tokens = token_chunk.min(sizes.tokens - start);
            let x = x.range(start, tokens);
            let z = z.map(|z| z.part(start * z_row, tokens * z_row));
            let y = y.part(start * row, tokens * row);
            let cut = cut(tokens);
            match Expansion::choose(tokens, u) {
                Expansion::OfTokens => {
                    let layout = CoupledLayout::new::<E>(sizes.r, sizes.b1, tokens);
                    let [t] = split_aligned(buffer, [layout.len()]);
                    let t_out = Coupled::InPanels(SharedOutput::new(&mut *t), layout);
                    project_and_couple(team, sizes, cut, x, s, v, t_out, z);
                    expansion::of_tokens(team, tokens, t, layout, u, bias, y);
                }
                Expansion::OfRows => {
                    let layout = TransposedPanels::new::<E>(sizes.r, sizes.b1, tokens);
                    let [t] = split_aligned(buffer, [layout.len()]);
                    let t_out = Coupled::Transposed(SharedOutput::new(&mut *t), layout);
                    project_and_couple(team, sizes, cut, x, s, v, t_out, z);
                    expansion::of_rows(team, tokens, t, layout, u, bias, y);
                }
            }
        }
    });
}

/// Where a strip leaves coupled components, and how they lie there.
#[derive(Clone, Copy)]
enum Coupled<'a, E> {
    InPanels(SharedOutput<'a, E>, CoupledLayout),
    Transposed(SharedOutput<'a, E>, TransposedPanels),
}

/// Tokens to take at a time, of so many, if each has so many coupled components.
pub(super) fn token_chunk<E: Scalar>(tokens: usize, components: usize) -> usize {
    let most = (COUPLED_BYTES / (components * size_of::<E>())).max(LEAST_TOKENS);
    gemm::balanced_chunk(tokens, most)
}

/// The cut of so many tokens that costs least.
pub(super) fn cut<E: Scalar>(sizes: Sizes, tokens: usize) -> Tiling {
    let Sizes { b1, b2, q, r, .. } = sizes;
    Tiling::new::<E>(GemmShape { terms: q, r, tokens, kept_by_token: b2, kept: b1 * b2 })
}

#[allow(clippy::too_many_arguments)]
fn project_and_couple<E: Scalar>(
    team: &ThreadTeam,
    sizes: Sizes,
    cut: Tiling,
    x: Rows<'_, E>,
    s: Couplings<'_, E>,
    v: &FlexTensor,
    t: Coupled<'_, E>,
    z: Option<SharedOutput<'_, E>>,
) {
    let tokens = x.count;
    let (nr, _) = gemm::shape::<E>();
    let tasks = cut.tasks::<E>(sizes.r, tokens);
    team.parallel_for(tasks.len(), |task| {
        let Task { panel, panels, start, tokens } = tasks[task];
        let first = panel * nr;
        let cols = (panels * nr).min(sizes.r - first);
        E::with_buffer(Workspace::Task, |buffer| {
            let x = x.range(start, tokens);
            pulp::Arch::new().dispatch(Strip { sizes, x, s, v, t, z, first, cols, start, buffer });
        });
    });
}

/// One strip of the rank for one tile of tokens, from `x` to `t`.
struct Strip<'a, E: Scalar> {
    sizes: Sizes,
    x: Rows<'a, E>,
    s: Couplings<'a, E>,
    v: &'a FlexTensor,
    t: Coupled<'a, E>,
    z: Option<SharedOutput<'a, E>>,
    /// Components of the rank.
    first: usize,
    cols: usize,
    /// The first token.
    start: usize,
    buffer: &'a mut Vec<E>,
}

impl<E: Scalar> pulp::WithSimd for Strip<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sizes: Sizes { b1, b2, q, r, .. }, x, s, v, t, z, first, cols, start, buffer } = self;
        let (nr, tokens) = (gemm::nr::<S, E>(), x.count);
        let panels = cols.div_ceil(nr);
        let (strip, z_row) = (panels * nr, b2 * panels * nr);
        let (scratch, write) = match t {
            // What is written is as much as all else that a task keeps; no gain was measured.
            Coupled::InPanels(..) => (0, PrefetchCursor::default()),
            Coupled::Transposed(t, layout) => {
                (scratch_len::<S, E>(b1), layout.to_write(t, [first, cols], [start, tokens]))
            }
        };
        let lengths = [kc(q) * strip, b1 * b2 * strip, tokens * z_row, scratch];
        let [packed, couplings, projected, scratch] = split_aligned(buffer, lengths);

        let of_v = RankBlock { factor: v, first, cols };
        // Half a panel may be all that is left of the rank.
        let computed = cols.next_multiple_of(E::lanes::<S>());
        let following = of_v.following();
        let beside = ExtraPrefetch { read: s.ahead(b1, b2, first, cols), write };
        // SAFETY: the buffer is this task's alone.
        unsafe { of_v.project(simd, x, packed, computed, SharedOutput::new(projected), following, beside) };
        s.pack(b1, b2, first, cols, nr, couplings);
        if let Some(z) = z {
            for token in 0..tokens {
                for j in 0..b2 {
                    // SAFETY: no other task has these tokens and components.
                    let z = unsafe { z.uninit_slice(((start + token) * b2 + j) * r + first, cols) };
                    z.write_copy_of_slice(&projected[token * z_row + j * strip..][..cols]);
                }
            }
        }
        for panel in 0..panels {
            let couplings = &couplings[panel * b1 * b2 * nr..][..b1 * b2 * nr];
            let (projected, sizes, z_strides) = (&projected[panel * nr..], [tokens, b2, b1], [z_row, strip]);
            // SAFETY: no other task has these tokens and components.
            unsafe {
                match t {
                    Coupled::InPanels(t, layout) => {
                        let offset = (first / nr + panel) * layout.panel_stride() + start * nr;
                        let strides = layout.strides();
                        couple_panel::<S, E>(simd, projected, sizes, z_strides, couplings, t, offset, strides);
                    }
                    Coupled::Transposed(t, layout) => {
                        let (first, cols) = (first + panel * nr, nr.min(cols - panel * nr));
                        let here = [start, first, cols];
                        couple_transposed::<S, E>(
                            simd, projected, sizes, z_strides, couplings, t, layout, here, scratch,
                        );
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Matrix, contiguous};
    use burn::tensor::Shape;

    /// `y` and `z` in a pool of two threads, in strips of so many panels and so many tiles of tokens.
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
            let [y, z] = [&mut y, &mut z].map(|out| SharedOutput::new(out));
            let (_, mr) = gemm::shape::<f64>();
            let cut = |tokens: usize| Tiling { panels, tokens: tokens.div_ceil(tiles).next_multiple_of(mr) };
            super::product(&ThreadTeam::default(), sizes, rows, &u, s, &v, None, y, Some(z), tokens, cut);
        });
        [y, z]
    }

    /// Whole numbers, so that no order of summation rounds.
    fn operands(Sizes { tokens, b1, b2, p, q, r }: Sizes) -> [Vec<f64>; 4] {
        let number = |at: usize| (at * 7 % 19) as f64 - 9.0;
        [tokens * b2 * q, b1 * p * r, b1 * b2 * r, b2 * q * r].map(|len| (0..len).map(number).collect())
    }

    #[test]
    fn one_tile_and_several_narrow_and_wide_strips_give_the_product() {
        // Several runs of terms; several tiles; neither; tiles of few tokens, as there are many blocks.
        let cases = [[20, 3, 4, 5, 600, 259], [900, 2, 3, 3, 2, 259], [20, 3, 2, 5, 7, 19], [130, 2, 150, 3, 2, 40]];
        // So few tokens that they are transposed around, in tasks that begin within a panel of them, and in several tiles.
        let transposed = [[9, 3, 2, 19, 7, 19], [64, 2, 3, 130, 70, 259], [130, 2, 150, 261, 2, 40]];
        // Rows of x, and of U, that compete for a place in the cache; fewer of them than a tile has.
        let competing = [[29, 2, 2, 5, 256, 19], [21, 2, 2, 45, 256, 512], [9, 2, 1, 20, 512, 40]];
        // Panels of a strip, and tiles of tokens.
        let cuts = [[4, 1], [2, 2], [1, 1], [1, 2], [1, 1], [3, 1], [1, 2], [1, 1], [16, 1], [2, 1]];
        for (dims, cut) in cases.into_iter().chain(transposed).chain(competing).zip(cuts) {
            let [tokens, b1, b2, p, q, r] = dims;
            let [y, z] = product(dims, cut);
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
