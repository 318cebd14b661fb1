//! The product of up to 8 tokens: bound by reading the factors, so each is read once, in memory order.
//!
//! ```text
//! z_j = x_j V_j     rows of V_j, scaled by elements of x_j, added up       tasks: blocks j × chunks of rows
//! t_i = Σ_j s_ij ∘ z_j,  y_i = t_i U_iᵀ    rows of U_i times t_i          tasks: blocks i × chunks of rows
//! ```
//!
//! Nothing is packed. The coupling is a small part of the work and is repeated by every task that needs it, so there is one barrier
//! between the threads, at which the sums of the chunks of a block are added up.

use super::coupling::Couplings;
use super::fused::Weights;
use crate::blast::Sizes;
use crate::cpu::gemm::Target;
use crate::cpu::gemv::{AxpyRows, DotRows, RowChunks};
use crate::cpu::{Matrix, Output, Scalar, SharedOutput, ThreadTeam, Workspace, split_aligned, vectorized};

/// Writes `y [tokens, m]`, and the projections into `saved [b2, tokens, r]` if wanted; `x` is `[tokens, n]`, row by row.
pub(super) fn forward<E: Scalar>(
    team: &ThreadTeam,
    sizes: Sizes,
    x: &[E],
    weights: Weights<'_, E>,
    mut y: Output<'_, E>,
    mut saved: Option<Output<'_, E>>,
) {
    let y = y.share();
    let Sizes { tokens, b1, b2, p, q, r } = sizes;
    let (block_len, len) = (tokens * r, b2 * tokens * r);
    let (of_v, of_u) = (RowChunks::of(weights.v), RowChunks::of(weights.u));
    E::with_buffer(Workspace::Shared, |buffer| {
        let [z] = split_aligned(buffer, [of_v.per_block * len]);
        let shared = SharedOutput::new(&mut *z);
        team.parallel_for(of_v.count, |task| {
            let (j, place) = of_v.place(task);
            let x = &x[j * q + place * of_v.rows..];
            // SAFETY: no other task has this block in this place, and the buffer is initialised.
            let out = unsafe { shared.slice(place * len + j * block_len, block_len) };
            pulp::Arch::new().dispatch(AxpyRows {
                x,
                x_stride: b2 * q,
                factor: of_v.get(task),
                next: of_v.after(task),
                out,
            });
        });
        let (z, others) = z.split_at_mut(len);
        for other in others.chunks_exact(len) {
            z.iter_mut().zip(other).for_each(|(z, other)| *z += *other);
        }
        if let Some(saved) = &mut saved {
            // SAFETY: no stage is running.
            unsafe { saved.share().uninit_slice(0, len) }.write_copy_of_slice(z);
        }

        let z = &*z;
        team.parallel_for(of_u.count, |task| {
            let (block, place) = of_u.place(task);
            let factor: Matrix<'_, E> = of_u.get(task);
            let column = block * p + place * of_u.rows;
            let epilogue = weights.finish.epilogue(column, factor.rows);
            // SAFETY: no other task has these columns.
            let target = unsafe { Target::new(y, column, [tokens, factor.rows], b1 * p, epilogue) };
            E::with_buffer(Workspace::Task, |buffer| {
                let [t] = split_aligned(buffer, [tokens * r]);
                couple(z, weights.s, block, b2, r, t);
                pulp::Arch::new().dispatch(DotRows { t, t_stride: r, factor, next: of_u.after(task), y: target });
            });
            // SAFETY: the product has just been stored.
            unsafe { target.finish(weights.finish, [0, column]) };
        });
    });
}

/// `t [tokens, r]` of output block `i`, from `z [b2, tokens, r]`.
fn couple<E: Scalar>(z: &[E], s: Couplings<'_, E>, i: usize, b2: usize, r: usize, t: &mut [E]) {
    let tokens = t.len() / r;
    vectorized(
        #[inline(always)]
        || {
            for (token, t) in t.chunks_exact_mut(r).enumerate() {
                t.fill(E::ZERO);
                for j in 0..b2 {
                    let z = &z[(j * tokens + token) * r..][..r];
                    for ((t, s), z) in t.iter_mut().zip(s.at(i, j, 0, r)).zip(z) {
                        *t = s.mul_add(*z, *t);
                    }
                }
            }
        },
    );
}
