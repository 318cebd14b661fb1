//! All gradients at once, a strip of the rank at a time.
//!
//! As in the forward pass, a component of the rank is on its own until the sums over the rank, so one task takes a strip through
//! everything between `dy` and the two products that end the backward pass:
//!
//! ```text
//! dt_i[strip] = dy_i U_i[strip]                 out of packed panels, never written to memory
//! ds_ij[strip] = Σ_tokens dt_i ∘ z_j            from dt where it is, and z read once
//! dz_j[strip] = Σ_i s_ij ∘ dt_i                 left in panels
//! t_i[strip] = Σ_j s_ij ∘ z_j                   coupled again instead of kept, left in panels
//!
//! dx_j = dz_j V_jᵀ        as the forward pass ends
//! dV_j = x_jᵀ dz_j        dU_i = dy_iᵀ t_i      the panels are the right operand as they are
//! ```

use super::coupling::{Couplings, couple_panel, coupling_gradient_panel};
use super::expansion;
use super::layout::CoupledLayout;
use super::projection::{RankBlock, kc};
use super::tiling::{GemmShape, Task, Tiling};
use crate::blast::Sizes;
use crate::cpu::gemm::{
    self, Epilogue, ExtraPrefetch, PrefetchCursor, Rows, SharedOutput, Target, alloc_uninit_with, multiply_panels,
    tasks_wanted, transpose_into, transposed_stride,
};
use crate::cpu::{Matrix, Scalar, ThreadTeam, Workspace, split_aligned};
use burn_flex::FlexTensor;
use pulp::Simd;

/// Rows of a factor whose gradient is one task, in tiles.
const FACTOR_TILES: usize = 8;

/// What the gradients are made of.
#[derive(Clone, Copy)]
pub(super) struct Operands<'a, E: Scalar> {
    /// `[tokens, n]`.
    pub x: Matrix<'a, E>,
    pub u: &'a FlexTensor,
    pub s: Couplings<'a, E>,
    pub v: &'a FlexTensor,
    /// `[tokens, b2, r]`.
    pub z: &'a [E],
    /// `[tokens, m]`.
    pub dy: Matrix<'a, E>,
    /// The same, as the left operand of a product out of panels.
    pub dy_rows: Rows<'a, E>,
}

/// The gradients of `x [tokens, n]`, `u`, `s` and `v`, computed `token_chunk` tokens at a time.
pub(super) fn run<E: Scalar>(
    team: &ThreadTeam,
    sizes: Sizes,
    operands: Operands<'_, E>,
    token_chunk: usize,
) -> [Vec<E>; 4] {
    let Sizes { tokens, b1, b2, p, q, r } = sizes;
    let (mut du, mut dv) = (Vec::new(), Vec::new());
    let mut ds = vec![E::ZERO; b1 * b2 * r];
    // SAFETY: every token_chunk of tokens writes its rows of `dx`, the first all of `du` and `dv`, to which the others add.
    let dx = unsafe {
        alloc_uninit_with(tokens * b2 * q, |dx| {
            du = alloc_uninit_with(b1 * p * r, |du| {
                dv = alloc_uninit_with(b2 * q * r, |dv| {
                    write(team, sizes, operands, Gradients { dx, du, ds: &mut ds, dv }, token_chunk)
                });
            });
        })
    };
    [dx, du, ds, dv]
}

/// Where the gradients go; `ds` must be zero.
struct Gradients<'a, E> {
    dx: SharedOutput<'a, E>,
    du: SharedOutput<'a, E>,
    ds: &'a mut [E],
    dv: SharedOutput<'a, E>,
}

/// Writes all gradients, `token_chunk` tokens at a time.
fn write<E: Scalar>(
    team: &ThreadTeam,
    sizes: Sizes,
    operands: Operands<'_, E>,
    gradients: Gradients<'_, E>,
    token_chunk: usize,
) {
    let Sizes { b1, b2, q, r, .. } = sizes;
    let n = b2 * q;
    let Gradients { dx, du, ds, dv } = gradients;
    E::with_buffer(Workspace::Shared, |buffer| {
        for start in (0..sizes.tokens).step_by(token_chunk) {
            let tokens = token_chunk.min(sizes.tokens - start);
            let layouts = [CoupledLayout::new::<E>(r, b2, tokens), CoupledLayout::new::<E>(r, b1, tokens)];
            let [dz, t] = split_aligned(buffer, layouts.map(CoupledLayout::len));
            let operands = Operands {
                x: operands.x.rows(start, tokens),
                z: &operands.z[start * b2 * r..(start + tokens) * b2 * r],
                dy: operands.dy.rows(start, tokens),
                dy_rows: operands.dy_rows.range(start, tokens),
                ..operands
            };
            strips(team, sizes, operands, layouts, dz, t, ds);
            expansion::of_tokens(team, tokens, dz, layouts[0], operands.v, None, dx.part(start * n, tokens * n));
            let epilogue = if start == 0 { Epilogue::Store } else { Epilogue::Accumulate };
            factor(team, operands.x, dz, layouts[0], r, dv, epilogue);
            factor(team, operands.dy, t, layouts[1], r, du, epilogue);
        }
    });
}

/// `dz`, `t` and, added to what is there, `ds`.
fn strips<E: Scalar>(
    team: &ThreadTeam,
    sizes: Sizes,
    operands: Operands<'_, E>,
    layouts: [CoupledLayout; 2],
    dz: &mut [E],
    t: &mut [E],
    ds: &mut [E],
) {
    let tokens = operands.dy_rows.count;
    let Sizes { b1, b2, p, r, .. } = sizes;
    let work = GemmShape { terms: p, r, tokens, kept_by_token: b1 + b2, kept: 3 * b1 * b2 };
    let Tiling { panels, tokens: tile } = Tiling::new::<E>(work);
    let strips = layouts[0].panels.div_ceil(panels);
    let (dz, t) = (SharedOutput::new(dz), SharedOutput::new(t));
    // A task takes several tiles of tokens, if there are tasks enough.
    let tiles = tokens.div_ceil(tile);
    let spans = (tasks_wanted() / 2).div_ceil(strips).min(tiles);
    let tasks = Tiling { panels, tokens: tiles / spans * tile }.tasks::<E>(r, tokens);
    // Those of one strip each have a sum of their own.
    let mut before = vec![0; layouts[0].panels];
    let sum_of_piece = |piece: &Task| {
        before[piece.panel] += 1;
        before[piece.panel] - 1
    };
    let sum_of: Vec<usize> = tasks.iter().map(sum_of_piece).collect();
    let mut sums: Vec<Vec<E>> = vec![vec![E::ZERO; ds.len()]; sum_of.iter().max().map_or(0, |last| last + 1)];
    let shared: Vec<SharedOutput<'_, E>> = sums.iter_mut().map(|sum| SharedOutput::new(sum)).collect();
    team.parallel_for(tasks.len(), |task| {
        let Task { panel, panels, start, tokens: span } = tasks[task];
        let first = panel * layouts[0].nr;
        let cols = (panels * layouts[0].nr).min(r - first);
        let ds = shared[sum_of[task]];
        E::with_buffer(Workspace::Task, |buffer| {
            let strip = Strip { sizes, operands, layouts, dz, t, ds, first, cols, start, span, tile, buffer };
            pulp::Arch::new().dispatch(strip);
        });
    });
    for sum in sums {
        ds.iter_mut().zip(sum).for_each(|(ds, sum)| *ds += sum);
    }
}

/// One strip of the rank for some tiles of tokens.
struct Strip<'a, E: Scalar> {
    sizes: Sizes,
    operands: Operands<'a, E>,
    layouts: [CoupledLayout; 2],
    dz: SharedOutput<'a, E>,
    t: SharedOutput<'a, E>,
    ds: SharedOutput<'a, E>,
    first: usize,
    cols: usize,
    /// The first token, and how many.
    start: usize,
    span: usize,
    /// Tokens at a time.
    tile: usize,
    buffer: &'a mut Vec<E>,
}

impl<E: Scalar> pulp::WithSimd for Strip<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sizes, operands, layouts, dz, t, ds, first, cols, start, span, tile, buffer } = self;
        let Sizes { b1, b2, p, r, .. } = sizes;
        let nr = layouts[0].nr;
        let panels = cols.div_ceil(nr);
        let strip = panels * nr;
        let (dt_row, z_row) = (b1 * strip, b2 * strip);
        let run = kc(p);
        let lengths =
            [run * strip, b1 * z_row, b1 * z_row, b1 * z_row, tile.min(span) * dt_row, tile.min(span) * z_row];
        let [packed, forward, backward, gradient, dt, z] = split_aligned(buffer, lengths);
        operands.s.pack(b1, b2, first, cols, nr, forward);
        operands.s.transposed().pack(b2, b1, first, cols, nr, backward);
        gradient.fill(E::ZERO);
        let of_u = RankBlock { factor: operands.u, first, cols };
        let following = of_u.following();
        for from in (0..span).step_by(tile) {
            let tokens = tile.min(span - from);
            let next = if from + tokens < span { Some(of_u) } else { following };
            let dy = operands.dy_rows.range(start + from, tokens);
            let projected =
                Matrix::row_major(&operands.z[(start + from) * b2 * r..], tokens * b2, r, r).cols(first, cols);
            let beside = ExtraPrefetch { read: PrefetchCursor::new(Some(projected)), write: PrefetchCursor::default() };
            // SAFETY: the buffer is this task's alone.
            unsafe { of_u.project(simd, dy, packed, strip, SharedOutput::new(&mut *dt), next, beside) };
            for (row, z) in z.chunks_exact_mut(strip).take(tokens * b2).enumerate() {
                let (z, padding) = z.split_at_mut(cols);
                z.copy_from_slice(projected.row_slice(row));
                padding.fill(E::ZERO);
            }
            for panel in 0..panels {
                let at = |layout: CoupledLayout| (first / nr + panel) * layout.panel_stride() + (start + from) * nr;
                let of = panel * b1 * b2 * nr..(panel + 1) * b1 * b2 * nr;
                let (dt, z) = (&dt[panel * nr..], &z[panel * nr..]);
                let (dt_strides, z_strides) = ([dt_row, strip], [z_row, strip]);
                coupling_gradient_panel::<S, E>(
                    simd,
                    dt,
                    dt_strides,
                    z,
                    z_strides,
                    [tokens, b1, b2],
                    &mut gradient[of.clone()],
                );
                // SAFETY: no other task has these tokens and components.
                unsafe {
                    let (sizes, couplings, strides) = ([tokens, b1, b2], &backward[of.clone()], layouts[0].strides());
                    couple_panel::<S, E>(simd, dt, sizes, dt_strides, couplings, dz, at(layouts[0]), strides);
                    let (sizes, couplings, strides) = ([tokens, b2, b1], &forward[of], layouts[1].strides());
                    couple_panel::<S, E>(simd, z, sizes, z_strides, couplings, t, at(layouts[1]), strides);
                }
            }
        }
        for (panel, gradient) in gradient.chunks_exact(b1 * b2 * nr).enumerate() {
            let here = nr.min(cols - panel * nr);
            for (block, gradient) in gradient.chunks_exact(nr).enumerate() {
                // SAFETY: no other task has these components of this sum.
                let ds = unsafe { ds.slice(block * r + first + panel * nr, here) };
                ds.copy_from_slice(&gradient[..here]);
            }
        }
    }
}

/// `dF_j = x_jᵀ z_j`, or what is added to it, for `x [tokens, b q]` and panels `z` of nr `r`, into `[b, q, r]`.
fn factor<E: Scalar>(
    team: &ThreadTeam,
    x: Matrix<'_, E>,
    z: &[E],
    layout: CoupledLayout,
    r: usize,
    out: SharedOutput<'_, E>,
    epilogue: Epilogue<'_, E>,
) {
    let q = x.cols / layout.blocks;
    if q == 0 {
        return;
    }
    let (_, mr) = gemm::shape::<E>();
    let rows = (FACTOR_TILES * mr).min(q);
    let groups = q.div_ceil(rows);
    team.parallel_for(layout.blocks * groups, |task| {
        let (block, first) = (task / groups, task % groups * rows);
        let x = x.cols(block * q + first, rows.min(q - first));
        let z = &z[block * layout.block_stride()..][..layout.block_stride()];
        E::with_buffer(Workspace::Task, |buffer| {
            let target = Target { out, offset: (block * q + first) * r, stride: r, epilogue };
            pulp::Arch::new().dispatch(FactorGradient { x, z, layout, r, target, buffer });
        });
    });
}

/// A few rows of the gradient of one block's factor.
struct FactorGradient<'a, E: Scalar> {
    x: Matrix<'a, E>,
    z: &'a [E],
    layout: CoupledLayout,
    r: usize,
    target: Target<'a, E>,
    buffer: &'a mut Vec<E>,
}

impl<E: Scalar> pulp::WithSimd for FactorGradient<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, z, layout, r, target, buffer } = self;
        let (tokens, nr) = (x.rows, layout.nr);
        let [rows] = split_aligned(buffer, [x.cols * transposed_stride::<E>(tokens)]);
        let rows = transpose_into::<S, E>(x, rows);
        for panel in 0..layout.panels {
            let first = panel * nr;
            let cols = nr.min(r - first);
            let z = &z[panel * layout.panel_stride()..][..tokens * nr];
            // SAFETY: no other task has these rows.
            unsafe {
                multiply_panels(simd, rows, z, cols, target.cols_from(first), None, &mut ExtraPrefetch::default())
            };
        }
    }
}
