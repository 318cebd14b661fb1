//! The product for a handful of tokens: bound by reading the factor, so it is read once, in the order it lies in.
//!
//! ```text
//! rows of W as they lie      y = Σ_k x[k] · row k      tasks: runs of rows, whose sums are added up at the end
//! columns of W as they lie   y[i] = x · column i       tasks: runs of columns
//! ```

use crate::cpu::gemm::{SharedOutput, alloc_uninit_with};
use crate::cpu::gemv::{self, RowChunks, SumRows};
use crate::cpu::{Matrix, Scalar, ThreadTeam, Workspace, split_aligned};
use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn_flex::FlexTensor;

/// What part of the factor the sums of all runs may come to, …
const SUMS_SHARE: usize = 4;
/// … and runs at most, however many threads there are.
const MOST_RUNS: usize = 64;
/// Elements of all sums for one of the tasks that add them up.
const ADDED_ELEMENTS: usize = 1 << 16;

/// `y [tokens, m] = x W + bias` of at least one token, whose elements are neighbours.
pub(super) fn product<E: Scalar>(x: Matrix<'_, E>, w: &FlexTensor, bias: Option<&[E]>) -> Vec<E> {
    let m = w.layout().shape()[1];
    let team = ThreadTeam::default();
    // SAFETY: either way writes every element of the output.
    unsafe {
        alloc_uninit_with(x.rows * m, |y| {
            if w.layout().strides()[0] == 1 {
                gemv::block_diagonal_gemv(&team, x, &Flex::float_swap_dims(w.clone(), 0, 1), bias, y);
            } else if gemv::reads(w) {
                of_rows(&team, x, w, bias, y);
            } else {
                of_rows(&team, x, &w.to_contiguous(), bias, y);
            }
        })
    }
}

/// Rows of `w`, whose elements are neighbours, scaled by the columns of `x` and added up.
///
/// # Safety
///
/// Nothing else may access `y` meanwhile.
unsafe fn of_rows<E: Scalar>(
    team: &ThreadTeam,
    x: Matrix<'_, E>,
    w: &FlexTensor,
    bias: Option<&[E]>,
    y: SharedOutput<'_, E>,
) {
    let (tokens, threads) = (x.rows, rayon::current_num_threads());
    let [n, m] = w.layout().shape().dims();
    let runs = RowChunks::at_most(w, (n / (SUMS_SHARE * tokens)).min(MOST_RUNS));
    E::with_buffer(Workspace::Shared, |buffer| {
        let [sums] = split_aligned(buffer, [runs.count * tokens * m]);
        let shared = SharedOutput::new(&mut *sums);
        team.parallel_for(runs.count, |run| {
            let factor = runs.get(run).expect("a run of the factor");
            let x = x.cols(run * runs.rows_of_run, factor.rows);
            // No other task has these sums.
            pulp::Arch::new().dispatch(SumRows {
                tokens,
                x: x.onwards(),
                x_stride: x.row_stride as usize,
                factor,
                next: runs.get(run + threads),
                out: shared,
                offset: run * tokens * m,
                stride: m,
            });
        });
        let sums = &*sums;
        let share = m.div_ceil((sums.len() / ADDED_ELEMENTS).clamp(1, threads));
        team.parallel_for(m.div_ceil(share), |task| {
            let first = task * share;
            let cols = share.min(m - first);
            for token in 0..tokens {
                let of_run = |run: usize| &sums[(run * tokens + token) * m + first..][..cols];
                // SAFETY: as the caller says, and no other task has these columns.
                let y = unsafe { y.uninit_slice(token * m + first, cols) }.write_copy_of_slice(of_run(0));
                for run in 1..runs.count {
                    y.iter_mut().zip(of_run(run)).for_each(|(y, sum)| *y += *sum);
                }
                if let Some(bias) = bias {
                    y.iter_mut().zip(&bias[first..]).for_each(|(y, bias)| *y += *bias);
                }
            }
        });
    });
}
