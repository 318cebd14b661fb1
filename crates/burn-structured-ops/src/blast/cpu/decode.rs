//! The product for a handful of tokens: bound by reading the factors, so it reads each once, in the order they lie in.
//!
//! ```text
//! z_j = x_j V_j     rows of V_j, scaled by elements of x_j, added up       tasks: blocks j × runs of rows
//! t_i = Σ_j s_ij ∘ z_j,  y_i = t_i U_iᵀ    rows of U_i times t_i          tasks: blocks i × runs of rows
//! ```
//!
//! Nothing is packed, and the coupling, a small fraction of the work, is repeated by every task that needs it, so there is one
//! meeting point between the threads. There the sums of the runs of a block are added up.

use super::coupling::Couplings;
use crate::blast::Sizes;
use crate::cpu::gemm::SharedOutput;
use crate::cpu::gemv::{RowChunks, SumRows, dot_rows};
use crate::cpu::{Matrix, Scalar, ThreadTeam, Workspace, split_aligned};
use burn_flex::FlexTensor;
use pulp::Simd;

/// Writes `y [tokens, m]`, and the projections into `saved [tokens, b2, r]` if wanted; `x` is `[tokens, n]`, row by row.
#[allow(clippy::too_many_arguments)]
pub(super) fn product<E: Scalar>(
    team: &ThreadTeam,
    sizes: Sizes,
    x: &[E],
    u: &FlexTensor,
    s: Couplings<'_, E>,
    v: &FlexTensor,
    bias: Option<&[E]>,
    y: SharedOutput<'_, E>,
    saved: Option<SharedOutput<'_, E>>,
) {
    let Sizes { tokens, b2, q, r, .. } = sizes;
    let len = tokens * b2 * r;
    let (of_v, of_u) = (RowChunks::of(v), RowChunks::of(u));
    let threads = rayon::current_num_threads();
    E::with_buffer(Workspace::Shared, |buffer| {
        let [z] = split_aligned(buffer, [of_v.cuts * len]);
        let shared = SharedOutput::new(z);
        team.parallel_for(of_v.count, |task| {
            let (j, cut) = of_v.place(task);
            let factor = of_v.get(task).expect("a run of the factor");
            let next = of_v.get(task + threads).or_else(|| of_u.get(task + threads - of_v.count));
            let (x, offset) = (&x[j * q + cut * of_v.rows_of_run..], cut * len + j * r);
            // No other task has this block in this cut.
            pulp::Arch::new().dispatch(SumRows {
                tokens,
                x,
                x_stride: b2 * q,
                factor,
                next,
                out: shared,
                offset,
                stride: b2 * r,
            });
        });
        let (z, others) = z.split_at_mut(len);
        for other in others.chunks_exact(len) {
            z.iter_mut().zip(other).for_each(|(z, other)| *z += *other);
        }
        if let Some(saved) = saved {
            // SAFETY: the threads are done with the stage before, and have nothing to do with this.
            unsafe { saved.uninit_slice(0, len) }.write_copy_of_slice(z);
        }

        let z = &*z;
        team.parallel_for(of_u.count, |task| {
            let (block, cut) = of_u.place(task);
            let (first, factor) = (cut * of_u.rows_of_run, of_u.get(task).expect("a run of the factor"));
            let next = of_u.get(task + threads);
            E::with_buffer(Workspace::Task, |t| {
                pulp::Arch::new().dispatch(CoupleAndExpand { sizes, z, s, block, factor, first, next, bias, y, t });
            });
        });
    });
}

/// `t_i`, and from it a run of the rows of `y_i`, for every token.
struct CoupleAndExpand<'a, E: Scalar> {
    sizes: Sizes,
    z: &'a [E],
    s: Couplings<'a, E>,
    block: usize,
    factor: Matrix<'a, E>,
    first: usize,
    next: Option<Matrix<'a, E>>,
    bias: Option<&'a [E]>,
    y: SharedOutput<'a, E>,
    t: &'a mut Vec<E>,
}

impl<E: Scalar> pulp::WithSimd for CoupleAndExpand<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sizes: Sizes { tokens, b1, b2, p, r, .. }, z, s, block, factor, first, next, bias, y, t } = self;
        if t.len() < tokens * r {
            t.resize(tokens * r, E::ZERO);
        }
        for (token, t) in t[..tokens * r].chunks_exact_mut(r).enumerate() {
            t.fill(E::ZERO);
            for j in 0..b2 {
                let z = &z[(token * b2 + j) * r..][..r];
                for ((t, s), z) in t.iter_mut().zip(s.at(block, j, 0, r)).zip(z) {
                    *t = s.mul_add(*z, *t);
                }
            }
        }
        let (offset, stride) = (block * p + first, b1 * p);
        let bias = bias.map(|bias| &bias[offset..][..factor.rows]);
        // SAFETY: no other task has these columns.
        unsafe { dot_rows(simd, tokens, t, r, factor, next, bias, y, offset, stride) };
    }
}
