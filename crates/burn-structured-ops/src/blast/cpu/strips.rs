//! The product a strip of the rank at a time, for more than a few tokens.
//!
//! Component `k` of the rank goes through projection and coupling by itself: `t_i[k]` needs `z_j[k]` for every `j` and nothing
//! else. So one task takes a strip of the rank, a panel or a few wide, and a tile of tokens through both stages:
//!
//! ```text
//! for each tile of tokens:   z_j[strip] = x_j V_j[strip]   for every j      packed once, read for every tile
//!                            t_i[strip] = Σ_j s_ij ∘ z_j   for every i      z has not left the second-level cache
//! ```
//!
//! `z` is never written to memory unless the backward pass wants it. `t` is ([`CoupledLayout`]): the expansion sums over the whole
//! rank, and is a second set of tasks, one for each group of output columns (`expansion.rs`).
//!
//! With few tokens the strips of `V` come from memory about as fast as they are multiplied. So every block is packed right before
//! it is first used, and the next one is asked for meanwhile. Where the projections of all tokens stay in cache, nothing needs
//! the block again, and the next takes its place ([`Cut::by_block`]).

use super::coupling::{Couplings, couple_strip};
use super::expansion::{self, Expansion};
use super::layout::CoupledLayout;
use super::projection::{Packed, StripOfFactor, run_terms};
use crate::blast::Sizes;
use crate::cpu::panel::{self, Rows, SharedOutput};
use crate::cpu::{Crew, Scalar, Slot, portions};
use burn_flex::FlexTensor;
use pulp::Simd;

/// Bytes of a packed strip, and of the projections of a tile: they share a second-level cache.
const STRIP_BYTES: usize = 256 << 10;
const PROJECTION_BYTES: usize = 128 << 10;
/// Bytes of `t` at a time; more tokens are taken one portion after the other.
const COUPLED_BYTES: usize = 16 << 20;
/// Bytes of the projections of all tokens of a task and of one packed block, where that is all of a strip that is kept.
const BLOCK_BYTES: usize = 400 << 10;
/// Panels of a strip at most.
const STRIP_PANELS: usize = 4;

/// Tokens whose projections, `row` elements each, stay in cache: whole tiles of `tile_rows`.
pub(super) fn projected_tokens<E: Scalar>(row: usize, tile_rows: usize, tokens: usize) -> usize {
    (PROJECTION_BYTES / (row * size_of::<E>()) / tile_rows * tile_rows).clamp(tile_rows, tokens.max(tile_rows))
}

/// `y [tokens, m]`, and the projections into `z [tokens, b2, r]` if wanted, `portion` tokens at a time.
#[allow(clippy::too_many_arguments)]
pub(super) fn product<E: Scalar>(
    crew: &Crew,
    sizes: Sizes,
    x: Rows<'_, E>,
    u: &FlexTensor,
    s: Couplings<'_, E>,
    v: &FlexTensor,
    bias: Option<&[E]>,
    y: &mut [E],
    mut z: Option<&mut [E]>,
    portion: usize,
) {
    let row = sizes.b1 * sizes.p;
    E::with_buffer(Slot::Shared, |buffer| {
        for (index, y) in y.chunks_mut(portion * row).enumerate() {
            let start = index * portion;
            let tokens = y.len() / row;
            let layout = CoupledLayout::new::<E>(sizes.r, sizes.b1, tokens);
            let way = Expansion::choose(tokens, u);
            let turned_len = if way == Expansion::OfRows { expansion::turned_len(tokens, layout, sizes.r) } else { 0 };
            let [t, turned] = portions(buffer, [layout.len(), turned_len]);
            let z_row = sizes.b2 * sizes.r;
            let z = z.as_deref_mut().map(|z| SharedOutput::new(&mut z[start * z_row..(start + tokens) * z_row]));
            project_and_couple(crew, sizes, x.range(start, tokens), s, v, layout, SharedOutput::new(t), z);
            let y = SharedOutput::new(y);
            match way {
                Expansion::OfTokens => expansion::of_tokens(crew, tokens, t, layout, u, bias, y),
                Expansion::OfRows => expansion::of_rows(crew, tokens, t, turned, layout, u, bias, y),
            }
        }
    });
}

/// Tokens to take at a time, if each has so many coupled components.
pub(super) fn portion<E: Scalar>(components: usize) -> usize {
    (COUPLED_BYTES / (components * size_of::<E>())).max(64)
}

/// Panels of a strip, and tokens of a task: few enough for every thread to have several.
pub(super) fn strip_and_tile<E: Scalar>(terms: usize, layout: CoupledLayout, tokens: usize) -> (usize, usize) {
    let wanted = panel::tasks_wanted();
    let panel_bytes = terms * layout.width * size_of::<E>();
    let panels = (1..=STRIP_PANELS)
        .rev()
        .find(|panels| panels * panel_bytes <= STRIP_BYTES && layout.panels.div_ceil(*panels) >= wanted)
        .unwrap_or(1);
    let (_, tile_rows) = panel::shape::<E>();
    let tiles = wanted.div_ceil(2 * layout.panels.div_ceil(panels)).min(tokens.div_ceil(4 * tile_rows)).max(1);
    (panels, tokens.div_ceil(tiles).next_multiple_of(tile_rows))
}

/// How the projection and the coupling are shared out.
struct Cut {
    /// Panels of a strip.
    panels: usize,
    /// Tokens of a task.
    tokens: usize,
    /// Whether all of them go through a block of the strip before the next is packed, so that one is packed at a time: `x` is read
    /// once a strip, and with less to keep strips can be wider.
    by_block: bool,
}

impl Cut {
    fn new<E: Scalar>(sizes: Sizes, layout: CoupledLayout, tokens: usize) -> Self {
        let (panels, tile) = strip_and_tile::<E>(sizes.b2 * sizes.q, layout, tokens);
        // Wide strips may be fewer.
        let wanted = panel::tasks_wanted() / 2;
        let wider = (panels + 1..=STRIP_PANELS).rev().find(|panels| {
            let kept =
                panels * layout.width * (sizes.b2 * tokens + run_terms::<E>(sizes.q, layout.width)) * size_of::<E>();
            kept <= BLOCK_BYTES && layout.panels.div_ceil(*panels) >= wanted
        });
        match wider {
            Some(panels) => Self { panels, tokens, by_block: true },
            None => Self { panels, tokens: tile, by_block: false },
        }
    }
}

#[allow(clippy::too_many_arguments)]
fn project_and_couple<E: Scalar>(
    crew: &Crew,
    sizes: Sizes,
    x: Rows<'_, E>,
    s: Couplings<'_, E>,
    v: &FlexTensor,
    layout: CoupledLayout,
    t: SharedOutput<'_, E>,
    z: Option<SharedOutput<'_, E>>,
) {
    let tokens = x.count;
    let Cut { panels: strip_panels, tokens: tile, by_block } = Cut::new::<E>(sizes, layout, tokens);
    let strips = layout.panels.div_ceil(strip_panels);
    crew.each(strips * tokens.div_ceil(tile), |task| {
        let (strip, start) = (task % strips, task / strips * tile);
        let first = strip * strip_panels * layout.width;
        let cols = (strip_panels * layout.width).min(sizes.r - first);
        let tokens = tile.min(tokens - start);
        E::with_buffer(Slot::Task, |buffer| {
            pulp::Arch::new().dispatch(Strip {
                sizes,
                x: x.range(start, tokens),
                s,
                v,
                layout,
                t,
                z,
                first,
                cols,
                start,
                by_block,
                buffer,
            });
        });
    });
}

/// One strip of the rank for one tile of tokens, from `x` to `t`.
struct Strip<'a, E: Scalar> {
    sizes: Sizes,
    x: Rows<'a, E>,
    s: Couplings<'a, E>,
    v: &'a FlexTensor,
    layout: CoupledLayout,
    t: SharedOutput<'a, E>,
    z: Option<SharedOutput<'a, E>>,
    /// Components of the rank.
    first: usize,
    cols: usize,
    /// The first token.
    start: usize,
    by_block: bool,
    buffer: &'a mut Vec<E>,
}

impl<E: Scalar> pulp::WithSimd for Strip<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sizes: Sizes { b1, b2, q, r, .. }, x, s, v, layout, t, z, first, cols, start, by_block, buffer } =
            self;
        let (width, rows) = (layout.width, panel::tile_rows::<S>());
        let panels = cols.div_ceil(width);
        let (strip, z_row) = (panels * width, b2 * panels * width);
        let tile = if by_block { x.count } else { projected_tokens::<E>(z_row, rows, x.count) };
        let kind = if by_block { Packed::Replaced } else { Packed::Kept };
        let lengths = [kind.len::<E>(b2, q, width, strip), b1 * b2 * strip, tile * z_row];
        let [packed, couplings, projected] = portions(buffer, lengths);

        s.pack(b1, b2, first, cols, width, couplings);
        let of_v = StripOfFactor { factor: v, blocks: b2, terms: q, first, cols };
        // What this thread is likely to take next.
        let later = first + rayon::current_num_threads() * strip;
        let following = (later < r).then(|| StripOfFactor { first: later, cols: strip.min(r - later), ..of_v });
        // Half a panel may be all that is left of the rank.
        let computed = cols.next_multiple_of(E::lanes::<S>());

        for from in (0..x.count).step_by(tile) {
            let tokens = tile.min(x.count - from);
            let x = x.range(from, tokens);
            let out = SharedOutput::new(projected);
            // SAFETY: the buffer is this task's alone.
            unsafe {
                // The first tile of tokens packs for all.
                if from == 0 {
                    of_v.pack_and_project(simd, x, packed, kind, computed, out, following);
                } else {
                    of_v.project(simd, x, packed, computed, out);
                }
            }
            if let Some(z) = z {
                for token in 0..tokens {
                    for j in 0..b2 {
                        // SAFETY: no other task has these tokens and components.
                        let z = unsafe { z.slice(((start + from + token) * b2 + j) * r + first, cols) };
                        z.copy_from_slice(&projected[token * z_row + j * strip..][..cols]);
                    }
                }
            }
            for panel in 0..panels {
                let offset = (first / width + panel) * layout.panel_stride() + (start + from) * width;
                let couplings = &couplings[panel * b1 * b2 * width..][..b1 * b2 * width];
                let projected = &projected[panel * width..];
                // SAFETY: no other task has these tokens and components.
                unsafe {
                    couple_strip::<S, E>(
                        simd,
                        projected,
                        [tokens, b2, b1],
                        [z_row, strip],
                        couplings,
                        t,
                        offset,
                        layout.strides(),
                    )
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Matrix, contiguous};
    use burn::tensor::Shape;

    /// `y` and `z` in a pool of two threads, and how they were cut.
    fn product([tokens, b1, b2, p, q, r]: [usize; 6]) -> (Vec<f64>, Vec<f64>, bool) {
        let sizes = Sizes { tokens, b1, b2, p, q, r };
        let [x, u, s, v] = operands(sizes);
        let [u, s, v] = [(u, [b1, p, r]), (s, [b1, b2, r]), (v, [b2, q, r])]
            .map(|(values, dims)| contiguous(values, Shape::new(dims)));
        let (mut y, mut z) = (vec![f64::NAN; tokens * b1 * p], vec![f64::NAN; tokens * b2 * r]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
        let by_block = pool.install(|| {
            let rows = Rows::of(Matrix::row_major(&x, tokens, b2 * q, b2 * q)).expect("contiguous rows");
            let s = Couplings::of(&s);
            super::product(&Crew::default(), sizes, rows, &u, s, &v, None, &mut y, Some(&mut z), tokens);
            Cut::new::<f64>(sizes, CoupledLayout::new::<f64>(r, b1, tokens), tokens).by_block
        });
        (y, z, by_block)
    }

    /// Whole numbers, so that no order of summation rounds.
    fn operands(Sizes { tokens, b1, b2, p, q, r }: Sizes) -> [Vec<f64>; 4] {
        let number = |at: usize| (at * 7 % 19) as f64 - 9.0;
        [tokens * b2 * q, b1 * p * r, b1 * b2 * r, b2 * q * r].map(|len| (0..len).map(number).collect())
    }

    #[test]
    fn strips_kept_whole_and_by_block_give_the_product() {
        let few = [20, 3, 4, 5, 600, 259];
        for (dims, expected) in [(few, true), ([900, 2, 3, 3, 2, 259], false), ([20, 3, 2, 5, 7, 19], false)] {
            let [tokens, b1, b2, p, q, r] = dims;
            let (y, z, by_block) = product(dims);
            assert_eq!(by_block, expected, "{dims:?}");
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
