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
use super::expansion;
use super::layout::CoupledLayout;
use super::projection::{Packed, StripOfFactor};
use super::strips::{projected_tokens, strip_and_tile};
use crate::blast::Sizes;
use crate::cpu::panel::{self, Landing, Rows, SharedOutput, Target, multiply_panels, transpose};
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

/// Where they go; all but `dx [tokens, n]` must be zero.
pub(super) struct Gradients<'a, E> {
    pub dx: &'a mut [E],
    pub du: &'a mut [E],
    pub ds: &'a mut [E],
    pub dv: &'a mut [E],
}

/// Computes the gradients, `portion` tokens at a time.
pub(super) fn run<E: Scalar>(
    crew: &Crew,
    sizes: Sizes,
    operands: Operands<'_, E>,
    gradients: Gradients<'_, E>,
    portion: usize,
) {
    let Sizes { b1, b2, q, r, .. } = sizes;
    let n = b2 * q;
    let Gradients { dx, du, ds, dv } = gradients;
    E::with_buffer(Slot::Shared, |buffer| {
        for (index, dx) in dx.chunks_mut(portion * n).enumerate() {
            let (start, tokens) = (index * portion, dx.len() / n);
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
            expansion::of_tokens(crew, tokens, dz, layouts[0], operands.v, None, SharedOutput::new(dx));
            factor(crew, operands.x, dz, layouts[0], r, dv);
            factor(crew, operands.dy, t, layouts[1], r, du);
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
    let (panels, tile) = strip_and_tile::<E>(sizes.b1 * sizes.p, layouts[0], tokens);
    let strips = layouts[0].panels.div_ceil(panels);
    let (dz, t) = (SharedOutput::new(dz), SharedOutput::new(t));
    // Tasks of one strip and several tiles of tokens each have a sum of their own.
    let mut sums: Vec<Vec<E>> = vec![vec![E::ZERO; ds.len()]; tokens.div_ceil(tile)];
    let shared: Vec<SharedOutput<'_, E>> = sums.iter_mut().map(|sum| SharedOutput::new(sum)).collect();
    crew.each(strips * shared.len(), |task| {
        let (strip, start) = (task % strips, task / strips * tile);
        let first = strip * panels * layouts[0].width;
        let cols = (panels * layouts[0].width).min(sizes.r - first);
        let tokens = tile.min(tokens - start);
        let ds = shared[task / strips];
        E::with_buffer(Slot::Task, |buffer| {
            let strip = Strip { sizes, operands, layouts, dz, t, ds, first, cols, start, tokens, buffer };
            pulp::Arch::new().dispatch(strip);
        });
    });
    for sum in sums {
        ds.iter_mut().zip(sum).for_each(|(ds, sum)| *ds += sum);
    }
}

/// One strip of the rank for one tile of tokens.
struct Strip<'a, E: Scalar> {
    sizes: Sizes,
    operands: Operands<'a, E>,
    layouts: [CoupledLayout; 2],
    dz: SharedOutput<'a, E>,
    t: SharedOutput<'a, E>,
    ds: SharedOutput<'a, E>,
    first: usize,
    cols: usize,
    start: usize,
    tokens: usize,
    buffer: &'a mut Vec<E>,
}

impl<E: Scalar> pulp::WithSimd for Strip<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sizes, operands, layouts, dz, t, ds, first, cols, start, tokens, buffer } = self;
        let Sizes { b1, b2, p, r, .. } = sizes;
        let (width, rows) = (layouts[0].width, panel::tile_rows::<S>());
        let panels = cols.div_ceil(width);
        let strip = panels * width;
        let (dt_row, z_row) = (b1 * strip, b2 * strip);
        let tile = projected_tokens::<E>(dt_row + z_row, rows, tokens);
        let lengths = [b1 * p * strip, b1 * z_row, b1 * z_row, b1 * z_row, tile * dt_row, tile * z_row];
        let [packed, forward, backward, gradient, dt, z] = portions(buffer, lengths);
        operands.s.pack(b1, b2, first, cols, width, forward);
        operands.s.transposed().pack(b2, b1, first, cols, width, backward);
        let of_u = StripOfFactor { factor: operands.u, blocks: b1, terms: p, first, cols };
        // What this thread is likely to take next.
        let later = first + rayon::current_num_threads() * strip;
        let following = (later < r).then(|| StripOfFactor { first: later, cols: strip.min(r - later), ..of_u });
        gradient.fill(E::ZERO);

        for from in (0..tokens).step_by(tile) {
            let tokens = tile.min(tokens - from);
            let dy = operands.dy_rows.range(start + from, tokens);
            let out = SharedOutput::new(dt);
            // SAFETY: the buffer is this task's alone.
            unsafe {
                // The first tile of tokens packs for all.
                if from == 0 {
                    of_u.pack_and_project(simd, dy, packed, Packed::Kept, strip, out, following);
                } else {
                    of_u.project(simd, dy, packed, strip, out);
                }
            }
            for token in 0..tokens {
                for j in 0..b2 {
                    let source = &operands.z[((start + from + token) * b2 + j) * r + first..][..cols];
                    let z = &mut z[token * z_row + j * strip..][..strip];
                    for (z, value) in z.iter_mut().zip(source) {
                        *z = *value;
                    }
                    for z in &mut z[cols..] {
                        *z = E::ZERO;
                    }
                }
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
                    let (couplings, strides) = (&backward[of.clone()], layouts[0].strides());
                    couple_strip::<S, E>(
                        simd,
                        dt,
                        [tokens, b1, b2],
                        dt_strides,
                        couplings,
                        dz,
                        at(layouts[0]),
                        strides,
                    );
                    let (couplings, strides) = (&forward[of], layouts[1].strides());
                    couple_strip::<S, E>(simd, z, [tokens, b2, b1], z_strides, couplings, t, at(layouts[1]), strides);
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

/// `dF_j += x_jᵀ z_j` for `x [tokens, b q]` and panels `z` of width `r`, into `[b, q, r]`.
fn factor<E: Scalar>(crew: &Crew, x: Matrix<'_, E>, z: &[E], layout: CoupledLayout, r: usize, out: &mut [E]) {
    let q = x.cols / layout.blocks;
    if q == 0 {
        return;
    }
    let (_, tile_rows) = panel::shape::<E>();
    let rows = (FACTOR_TILES * tile_rows).min(q);
    let groups = q.div_ceil(rows);
    let out = SharedOutput::new(out);
    crew.each(layout.blocks * groups, |task| {
        let (block, first) = (task / groups, task % groups * rows);
        let x = x.cols(block * q + first, rows.min(q - first));
        let z = &z[block * layout.block_stride()..][..layout.block_stride()];
        E::with_buffer(Slot::Task, |buffer| {
            let offset = (block * q + first) * r;
            pulp::Arch::new().dispatch(FactorGradient { x, z, layout, r, out, offset, buffer });
        });
    });
}

/// A few rows of the gradient of one block's factor.
struct FactorGradient<'a, E: Scalar> {
    x: Matrix<'a, E>,
    z: &'a [E],
    layout: CoupledLayout,
    r: usize,
    out: SharedOutput<'a, E>,
    offset: usize,
    buffer: &'a mut Vec<E>,
}

impl<E: Scalar> pulp::WithSimd for FactorGradient<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, z, layout, r, out, offset, buffer } = self;
        let (tokens, width) = (x.rows, layout.width);
        // Rows a power of two apart would compete for the same few places of a cache.
        let stride = tokens.next_multiple_of(width) + width;
        let [rows] = portions(buffer, [x.cols * stride]);
        transpose::<S, E>(x, rows, stride);
        let rows = Rows::in_runs(rows, [x.cols, tokens], stride, tokens.max(1), 0);
        for panel in 0..layout.panels {
            let first = panel * width;
            let cols = width.min(r - first);
            let z = &z[panel * layout.panel_stride()..][..tokens * width];
            let target = Target { out, offset: offset + first, stride: r, landing: Landing::AddTo };
            // SAFETY: no other task has these rows.
            unsafe { multiply_panels(simd, rows, z, cols, target, None) };
        }
    }
}
