//! All gradients at once, one rank block at a time.
//!
//! As in the forward pass, a component of the rank is on its own until the sums over the rank, so one task takes a rank block through
//! everything between `dy` and the two products that end the backward pass:
//!
//! ```text
//! dt_i[block] = dy_i U_i[block]                 out of packed panels, never written to memory
//! ds_ij[block] = Σ_tokens dt_i ∘ z_j            dt is in cache, z is read once
//! dz_j[block] = Σ_i s_ij ∘ dt_i                 stored in panels
//! t_i[block] = Σ_j s_ij ∘ z_j                   coupled again instead of kept, stored in panels
//!
//! dx_j = dz_j V_jᵀ        as the forward pass ends
//! dV_j = x_jᵀ dz_j        dU_i = dy_iᵀ t_i      the panels are the right operand in place
//! ```

use super::coupling::{Couplings, couple_panel, coupling_gradient_panel, pack_rows};
use super::expansion;
use super::layout::{PanelLayout, PanelRows};
use super::projection::{RankBlock, kc};
use super::tiling::{Task, Tiling};
use crate::blast::Sizes;
use crate::cpu::gemm::{
    self, Epilogue, Finish, Rows, TASK_TILES, Target, gemm_packed, transpose_into, transposed_stride,
};
use crate::cpu::{Matrix, Output, Scalar, SharedOutput, ThreadTeam, Workspace, alloc_uninit_with, split_aligned};
use burn_flex::FlexTensor;

/// The operands of the gradients.
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
    /// The same, as the left operand of a product.
    pub dy_rows: Rows<'a, E>,
}

/// The gradients of `x [tokens, n]`, `u`, `s` and `v`, computed `token_chunk` tokens at a time.
pub(super) fn gradients<E: Scalar>(
    team: &ThreadTeam,
    sizes: Sizes,
    operands: Operands<'_, E>,
    token_chunk: usize,
) -> [Vec<E>; 4] {
    let Sizes { tokens, b1, b2, p, q, r } = sizes;
    let (mut du, mut dv) = (Vec::new(), Vec::new());
    let mut ds = vec![E::ZERO; b1 * b2 * r];
    // SAFETY: every chunk of tokens writes its rows of `dx`, the first all of `du` and `dv`, to which the others are added.
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
    dx: Output<'a, E>,
    du: Output<'a, E>,
    ds: &'a mut [E],
    dv: Output<'a, E>,
}

/// Writes all gradients.
fn write<E: Scalar>(
    team: &ThreadTeam,
    sizes: Sizes,
    operands: Operands<'_, E>,
    gradients: Gradients<'_, E>,
    token_chunk: usize,
) {
    let Sizes { b1, b2, q, r, .. } = sizes;
    let n = b2 * q;
    let Gradients { mut dx, mut du, ds, mut dv } = gradients;
    E::with_buffer(Workspace::Shared, |buffer| {
        for start in (0..sizes.tokens).step_by(token_chunk) {
            let tokens = token_chunk.min(sizes.tokens - start);
            let layouts = [PanelLayout::new::<E>(r, b2, tokens), PanelLayout::new::<E>(r, b1, tokens)];
            let [dz, t] = split_aligned(buffer, layouts.map(PanelLayout::len));
            let operands = Operands {
                x: operands.x.rows(start, tokens),
                z: &operands.z[start * b2 * r..(start + tokens) * b2 * r],
                dy: operands.dy.rows(start, tokens),
                dy_rows: operands.dy_rows.range(start, tokens),
                ..operands
            };
            rank_blocks(team, sizes, operands, layouts, [&mut *dz, &mut *t], ds);
            let nothing = Finish::bias(None);
            expansion::expand(team, tokens, dz, layouts[0], operands.v, nothing, dx.part(start * n, tokens * n));
            // SAFETY: the first chunk stores to all elements.
            unsafe {
                factor_gradient(team, operands.x, dz, layouts[0], r, dv.share(), start > 0);
                factor_gradient(team, operands.dy, t, layouts[1], r, du.share(), start > 0);
            }
        }
    });
}

/// Computes `dz` and `t`, and adds to `ds`.
fn rank_blocks<E: Scalar>(
    team: &ThreadTeam,
    sizes: Sizes,
    operands: Operands<'_, E>,
    layouts: [PanelLayout; 2],
    [dz, t]: [&mut [E]; 2],
    ds: &mut [E],
) {
    let tokens = operands.dy_rows.count;
    let r = sizes.r;
    let tiling = Tiling::backward::<E>(sizes, tokens);
    let tasks = tiling.spanning::<E>(r, tokens).tasks::<E>(r, tokens);
    let [dz, t] = [dz, t].map(SharedOutput::new);
    // Tasks of one rank block each have a sum of their own.
    let mut seen = vec![0; layouts[0].panels];
    let sum_of_task = |task: &Task| {
        seen[task.panel] += 1;
        seen[task.panel] - 1
    };
    let sum_of: Vec<usize> = tasks.iter().map(sum_of_task).collect();
    let mut sums: Vec<Vec<E>> = vec![vec![E::ZERO; ds.len()]; sum_of.iter().max().map_or(0, |last| last + 1)];
    let shared: Vec<SharedOutput<'_, E>> = sums.iter_mut().map(|sum| SharedOutput::new(sum)).collect();
    team.parallel_for(tasks.len(), |index| {
        let task = tasks[index];
        let first = task.panel * layouts[0].nr;
        let block = RankBlock { factor: operands.u, first, cols: (task.panels * layouts[0].nr).min(r - first) };
        // SAFETY: no other task has these tokens and components, or these components of this sum.
        unsafe { rank_block_task(sizes, operands, layouts, [dz, t, shared[sum_of[index]]], block, task, tiling.tile) };
    });
    for sum in sums {
        ds.iter_mut().zip(sum).for_each(|(ds, sum)| *ds += sum);
    }
}

/// One rank block for some tokens, at most `tile` at a time: its components of `dz`, `t` and `ds`.
///
/// # Safety
///
/// Nothing else may access these tokens and components of `dz` and `t`, and these components of `ds`, which is initialised.
unsafe fn rank_block_task<E: Scalar>(
    Sizes { b1, b2, p, r, .. }: Sizes,
    operands: Operands<'_, E>,
    layouts: [PanelLayout; 2],
    [dz, t, ds]: [SharedOutput<'_, E>; 3],
    block: RankBlock<'_>,
    task: Task,
    tile: usize,
) {
    let RankBlock { first, cols, .. } = block;
    let (nr, tile, end) = (layouts[0].nr, tile.min(task.tokens), task.start + task.tokens);
    let (panels, stride) = (cols.div_ceil(nr), cols.next_multiple_of(nr));
    let (couplings_len, dt_row, z_row) = (b1 * b2 * stride, b1 * stride, b2 * stride);
    E::with_buffer(Workspace::Task, |buffer| {
        let lengths = [kc(p) * stride, couplings_len, couplings_len, couplings_len, tile * dt_row, tile * z_row];
        let [packed, forward, backward, gradient, dt, z] = split_aligned(buffer, lengths);
        operands.s.pack([b1, b2], first, cols, nr, forward);
        operands.s.transposed().pack([b2, b1], first, cols, nr, backward);
        gradient.fill(E::ZERO);
        for start in (task.start..end).step_by(tile) {
            let tokens = tile.min(end - start);
            let next = if start + tokens < end { Some(block) } else { block.next() };
            block.project(operands.dy_rows.range(start, tokens), packed, stride, dt, next);
            let saved = Matrix::row_major(&operands.z[start * b2 * r..], tokens * b2, r, r);
            pack_rows(saved.cols(first, cols), stride, z);
            for panel in 0..panels {
                let range = panel * b1 * b2 * nr..(panel + 1) * b1 * b2 * nr;
                let dt = PanelRows::new(&dt[panel * nr..], [tokens, b1], [dt_row, stride], nr);
                let z = PanelRows::new(&z[panel * nr..], [tokens, b2], [z_row, stride], nr);
                coupling_gradient_panel(dt, z, &mut gradient[range.clone()]);
                // SAFETY: as the caller says.
                let [dz, t] = [(layouts[0], dz), (layouts[1], t)]
                    .map(|(layout, out)| unsafe { layout.target(out, first / nr + panel, [start, tokens]) });
                couple_panel(dt, &backward[range.clone()], dz);
                couple_panel(z, &forward[range], t);
            }
        }
        for (panel, gradient) in gradient.chunks_exact(b1 * b2 * nr).enumerate() {
            let here = nr.min(cols - panel * nr);
            for (pair, gradient) in gradient.chunks_exact(nr).enumerate() {
                // SAFETY: as the caller says.
                let ds = unsafe { ds.slice(pair * r + first + panel * nr, here) };
                ds.copy_from_slice(&gradient[..here]);
            }
        }
    });
}

/// `dF_j = x_jᵀ z_j` for `x [tokens, b q]` and panels `z` of the rank `r`, into `[b, q, r]`; added to what is there if `accumulate`.
///
/// # Safety
///
/// Nothing else may access `out` meanwhile. If `accumulate`, its elements must be initialised.
unsafe fn factor_gradient<E: Scalar>(
    team: &ThreadTeam,
    x: Matrix<'_, E>,
    z: &[E],
    layout: PanelLayout,
    r: usize,
    out: SharedOutput<'_, E>,
    accumulate: bool,
) {
    let q = x.cols / layout.blocks;
    if q == 0 {
        return;
    }
    let (_, mr) = gemm::shape::<E>();
    let task_rows = (TASK_TILES * mr).min(q);
    let row_tasks = q.div_ceil(task_rows);
    team.parallel_for(layout.blocks * row_tasks, |task| {
        let (block, row) = (task / row_tasks, task % row_tasks * task_rows);
        let x = x.cols(block * q + row, task_rows.min(q - row));
        let z = &z[block * layout.block_stride()..][..layout.block_stride()];
        let epilogue = if accumulate { Epilogue::Accumulate } else { Epilogue::Store };
        // SAFETY: no other task has these rows, and nothing else accesses `out`, as the caller says.
        let target = unsafe { Target::new(out, (block * q + row) * r, [x.cols, r], r, epilogue) };
        E::with_buffer(Workspace::Task, |buffer| {
            let [rows] = split_aligned(buffer, [x.cols * transposed_stride::<E>(x.rows)]);
            let rows = transpose_into(x, rows);
            for (panel, first) in (0..r).step_by(layout.nr).enumerate() {
                let z = &z[panel * layout.panel_stride()..][..x.rows * layout.nr];
                gemm_packed(rows, z, target.cols(first, layout.nr.min(r - first)));
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blast::BlastStrategy;
    use crate::blast::backward::staged_gradients;
    use crate::blast::cpu::{forward, fused, staged};
    use crate::cpu::{contiguous, dense_slice};
    use burn::backend::Flex;
    use burn::tensor::Shape;

    const SIZES: Sizes = if cfg!(miri) {
        Sizes { tokens: 13, b1: 2, b2: 2, p: 5, q: 3, r: 3 }
    } else {
        Sizes { tokens: 53, b1: 3, b2: 2, p: 5, q: 7, r: 19 }
    };
    /// Several tiles of tokens for a task, several packed blocks, and a last rank block narrower than the others.
    const MANY_TILES: Sizes = if cfg!(miri) {
        Sizes { tokens: 25, b1: 2, b2: 1, p: 5, q: 2, r: 3 }
    } else {
        Sizes { tokens: 700, b1: 3, b2: 2, p: 300, q: 5, r: 261 }
    };

    fn drawn<const D: usize>(shape: [usize; D], seed: usize) -> FlexTensor {
        let count = shape.iter().product();
        let values: Vec<f64> = (0..count).map(|index| ((index * 31 + seed) % 17) as f64 / 8.0 - 1.0).collect();
        contiguous(values, Shape::new(shape))
    }

    /// `y`, `z` and the four gradients, so many tokens at a time.
    fn outcome(token_chunk: usize) -> [Vec<f64>; 6] {
        let Sizes { tokens, b1, b2, p, q, r } = SIZES;
        let (x, dy) = (drawn([tokens, b2 * q], 1), drawn([tokens, b1 * p], 2));
        let (u, s, v) = (drawn([b1, p, r], 3), drawn([b1, b2, r], 4), drawn([b2, q, r], 5));
        let (x_matrix, dy_matrix) = (Matrix::<f64>::of(&x, 0), Matrix::<f64>::of(&dy, 0));
        let couplings = Couplings::of(&s);
        let rows = Rows::of(x_matrix).expect("contiguous rows");
        let team = ThreadTeam::default();
        let [mut y, mut z] = [tokens * b1 * p, tokens * b2 * r].map(|len| vec![0.0; len]);
        {
            let [y, z] = [&mut y, &mut z].map(|out| Output::of_slice(out));
            let weights = fused::Weights { u: &u, s: couplings, v: &v, finish: Finish::bias(None) };
            let tiling = |tokens| Tiling::forward::<f64>(SIZES, tokens);
            fused::forward(&team, SIZES, rows, weights, y, Some(z), token_chunk, tiling);
        }
        let operands = Operands {
            x: x_matrix,
            u: &u,
            s: couplings,
            v: &v,
            z: &z,
            dy: dy_matrix,
            dy_rows: Rows::of(dy_matrix).expect("contiguous rows"),
        };
        let [dx, du, ds, dv] = gradients(&team, SIZES, operands, token_chunk);
        [y, z, dx, du, ds, dv]
    }

    #[test]
    fn token_chunks_give_the_same_product_and_gradients() {
        let (once, in_chunks) = (outcome(SIZES.tokens), outcome(SIZES.tokens * 2 / 5));
        for (once, in_chunks) in once.iter().flatten().zip(in_chunks.iter().flatten()) {
            // Sums over tokens are added up in another order.
            assert!((once - in_chunks).abs() <= 1e-12 * once.abs().max(1.0), "{once} and {in_chunks}");
        }
        assert!(once.iter().all(|values| values.iter().any(|value| *value != 0.0)));
    }

    #[test]
    fn gradients_equal_staged_ones_with_many_tiles() {
        let Sizes { tokens, b1, b2, p, q, r } = MANY_TILES;
        // Whole numbers, so that no order of summation rounds.
        let drawn = |count: usize, seed: usize| (0..count).map(|at| ((at * 7 + seed) % 19) as f64 - 9.0).collect();
        let tensor = |shape: Shape, seed| contiguous::<f64>(drawn(shape.num_elements(), seed), shape);
        let (x, dy) = (tensor(Shape::new([tokens, b2 * q]), 1), tensor(Shape::new([tokens, b1 * p]), 2));
        let (u, s) = (tensor(Shape::new([b1, p, r]), 3), tensor(Shape::new([b1, b2, r]), 4));
        let v = tensor(Shape::new([b2, q, r]), 5);
        let z = staged::project::<f64>(x.clone(), &v);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
        let fused =
            pool.install(|| forward::gradients(&x, &u, &s, &v, &z, &dy, BlastStrategy::Fused)).expect("by rank blocks");
        let (dx, du, ds, dv) = staged_gradients::<Flex>(x, u, s, v, z, dy, BlastStrategy::Staged);
        for (name, fused, staged) in [("x", 0, dx), ("u", 1, du), ("s", 2, ds), ("v", 3, dv)]
            .map(|(name, index, staged)| (name, &fused[index], staged.to_contiguous()))
        {
            assert!(dense_slice::<f64>(fused) == dense_slice::<f64>(&staged), "the gradient of {name}");
        }
    }
}
