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

use super::coupling::{Couplings, couple_strip, gradient_strip};
use super::cut::{Cut, Piece, Work};
use super::expansion;
use super::layout::CoupledLayout;
use super::projection::{StripOfFactor, run_terms};
use crate::blast::Sizes;
use crate::cpu::panel::{
    self, Ahead, Beside, Landing, Rows, SharedOutput, Target, filled, multiply_panels, tasks_wanted, turn_around,
    turned_stride,
};
use crate::cpu::{Crew, Matrix, Scalar, Slot, portions};
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

/// The gradients of `x [tokens, n]`, `u`, `s` and `v`, computed `portion` tokens at a time.
pub(super) fn run<E: Scalar>(crew: &Crew, sizes: Sizes, operands: Operands<'_, E>, portion: usize) -> [Vec<E>; 4] {
    let Sizes { tokens, b1, b2, p, q, r } = sizes;
    let (mut du, mut dv) = (Vec::new(), Vec::new());
    let mut ds = vec![E::ZERO; b1 * b2 * r];
    // SAFETY: every portion of tokens writes its rows of `dx`, the first all of `du` and `dv`, to which the others add.
    let dx = unsafe {
        filled(tokens * b2 * q, |dx| {
            du = filled(b1 * p * r, |du| {
                dv = filled(b2 * q * r, |dv| {
                    write(crew, sizes, operands, Gradients { dx, du, ds: &mut ds, dv }, portion)
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

/// Writes all gradients, `portion` tokens at a time.
fn write<E: Scalar>(crew: &Crew, sizes: Sizes, operands: Operands<'_, E>, gradients: Gradients<'_, E>, portion: usize) {
    let Sizes { b1, b2, q, r, .. } = sizes;
    let n = b2 * q;
    let Gradients { dx, du, ds, dv } = gradients;
    E::with_buffer(Slot::Shared, |buffer| {
        for start in (0..sizes.tokens).step_by(portion) {
            let tokens = portion.min(sizes.tokens - start);
            let layouts = [CoupledLayout::new::<E>(r, b2, tokens), CoupledLayout::new::<E>(r, b1, tokens)];
            let [dz, t] = portions(buffer, layouts.map(CoupledLayout::len));
            let operands = Operands {
                x: operands.x.rows(start, tokens),
                z: &operands.z[start * b2 * r..(start + tokens) * b2 * r],
                dy: operands.dy.rows(start, tokens),
                dy_rows: operands.dy_rows.range(start, tokens),
                ..operands
            };
            strips(crew, sizes, operands, layouts, dz, t, ds);
            expansion::of_tokens(crew, tokens, dz, layouts[0], operands.v, None, dx.part(start * n, tokens * n));
            let landing = if start == 0 { Landing::Overwrite } else { Landing::AddTo };
            factor(crew, operands.x, dz, layouts[0], r, dv, landing);
            factor(crew, operands.dy, t, layouts[1], r, du, landing);
        }
    });
}

/// `dz`, `t` and, added to what is there, `ds`.
fn strips<E: Scalar>(
    crew: &Crew,
    sizes: Sizes,
    operands: Operands<'_, E>,
    layouts: [CoupledLayout; 2],
    dz: &mut [E],
    t: &mut [E],
    ds: &mut [E],
) {
    let tokens = operands.dy_rows.count;
    let Sizes { b1, b2, p, r, .. } = sizes;
    let work = Work { terms: p, r, tokens, kept_by_token: b1 + b2, kept: 3 * b1 * b2 };
    let Cut { panels, tokens: tile } = Cut::new::<E>(work);
    let strips = layouts[0].panels.div_ceil(panels);
    let (dz, t) = (SharedOutput::new(dz), SharedOutput::new(t));
    // A task takes several tiles of tokens, if there are tasks enough.
    let tiles = tokens.div_ceil(tile);
    let spans = (tasks_wanted() / 2).div_ceil(strips).min(tiles);
    let pieces = Cut { panels, tokens: tiles / spans * tile }.pieces::<E>(r, tokens);
    // Those of one strip each have a sum of their own.
    let mut before = vec![0; layouts[0].panels];
    let sum_of_piece = |piece: &Piece| {
        before[piece.panel] += 1;
        before[piece.panel] - 1
    };
    let sum_of: Vec<usize> = pieces.iter().map(sum_of_piece).collect();
    let mut sums: Vec<Vec<E>> = vec![vec![E::ZERO; ds.len()]; sum_of.iter().max().map_or(0, |last| last + 1)];
    let shared: Vec<SharedOutput<'_, E>> = sums.iter_mut().map(|sum| SharedOutput::new(sum)).collect();
    crew.each(pieces.len(), |task| {
        let Piece { panel, panels, start, tokens: span } = pieces[task];
        let first = panel * layouts[0].width;
        let cols = (panels * layouts[0].width).min(r - first);
        let ds = shared[sum_of[task]];
        E::with_buffer(Slot::Task, |buffer| {
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
        let width = layouts[0].width;
        let panels = cols.div_ceil(width);
        let strip = panels * width;
        let (dt_row, z_row) = (b1 * strip, b2 * strip);
        let run = run_terms(p);
        let lengths =
            [run * strip, b1 * z_row, b1 * z_row, b1 * z_row, tile.min(span) * dt_row, tile.min(span) * z_row];
        let [packed, forward, backward, gradient, dt, z] = portions(buffer, lengths);
        operands.s.pack(b1, b2, first, cols, width, forward);
        operands.s.transposed().pack(b2, b1, first, cols, width, backward);
        gradient.fill(E::ZERO);
        let of_u = StripOfFactor { factor: operands.u, first, cols };
        let following = of_u.following();
        for from in (0..span).step_by(tile) {
            let tokens = tile.min(span - from);
            let next = if from + tokens < span { Some(of_u) } else { following };
            let dy = operands.dy_rows.range(start + from, tokens);
            let projected =
                Matrix::row_major(&operands.z[(start + from) * b2 * r..], tokens * b2, r, r).cols(first, cols);
            let beside = Beside { read: Ahead::new(Some(projected)), write: Ahead::default() };
            // SAFETY: the buffer is this task's alone.
            unsafe { of_u.project(simd, dy, packed, strip, SharedOutput::new(&mut *dt), next, beside) };
            for (row, z) in z.chunks_exact_mut(strip).take(tokens * b2).enumerate() {
                let (z, padding) = z.split_at_mut(cols);
                z.copy_from_slice(projected.row_slice(row));
                padding.fill(E::ZERO);
            }
            for panel in 0..panels {
                let at =
                    |layout: CoupledLayout| (first / width + panel) * layout.panel_stride() + (start + from) * width;
                let of = panel * b1 * b2 * width..(panel + 1) * b1 * b2 * width;
                let (dt, z) = (&dt[panel * width..], &z[panel * width..]);
                let (dt_strides, z_strides) = ([dt_row, strip], [z_row, strip]);
                gradient_strip::<S, E>(simd, dt, dt_strides, z, z_strides, [tokens, b1, b2], &mut gradient[of.clone()]);
                // SAFETY: no other task has these tokens and components.
                unsafe {
                    let (sizes, couplings, strides) = ([tokens, b1, b2], &backward[of.clone()], layouts[0].strides());
                    couple_strip::<S, E>(simd, dt, sizes, dt_strides, couplings, dz, at(layouts[0]), strides);
                    let (sizes, couplings, strides) = ([tokens, b2, b1], &forward[of], layouts[1].strides());
                    couple_strip::<S, E>(simd, z, sizes, z_strides, couplings, t, at(layouts[1]), strides);
                }
            }
        }
        for (panel, gradient) in gradient.chunks_exact(b1 * b2 * width).enumerate() {
            let here = width.min(cols - panel * width);
            for (block, gradient) in gradient.chunks_exact(width).enumerate() {
                // SAFETY: no other task has these components of this sum.
                let ds = unsafe { ds.slice(block * r + first + panel * width, here) };
                ds.copy_from_slice(&gradient[..here]);
            }
        }
    }
}

/// `dF_j = x_jᵀ z_j`, or what is added to it, for `x [tokens, b q]` and panels `z` of width `r`, into `[b, q, r]`.
fn factor<E: Scalar>(
    crew: &Crew,
    x: Matrix<'_, E>,
    z: &[E],
    layout: CoupledLayout,
    r: usize,
    out: SharedOutput<'_, E>,
    landing: Landing<'_, E>,
) {
    let q = x.cols / layout.blocks;
    if q == 0 {
        return;
    }
    let (_, tile_rows) = panel::shape::<E>();
    let rows = (FACTOR_TILES * tile_rows).min(q);
    let groups = q.div_ceil(rows);
    crew.each(layout.blocks * groups, |task| {
        let (block, first) = (task / groups, task % groups * rows);
        let x = x.cols(block * q + first, rows.min(q - first));
        let z = &z[block * layout.block_stride()..][..layout.block_stride()];
        E::with_buffer(Slot::Task, |buffer| {
            let target = Target { out, offset: (block * q + first) * r, stride: r, landing };
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
        let (tokens, width) = (x.rows, layout.width);
        let [rows] = portions(buffer, [x.cols * turned_stride::<E>(tokens)]);
        let rows = turn_around::<S, E>(x, rows);
        for panel in 0..layout.panels {
            let first = panel * width;
            let cols = width.min(r - first);
            let z = &z[panel * layout.panel_stride()..][..tokens * width];
            // SAFETY: no other task has these rows.
            unsafe { multiply_panels(simd, rows, z, cols, target.cols_from(first), None, &mut Beside::default()) };
        }
    }
}
