//! The dense product of a few tokens, which reads the factor once.
//!
//! ```text
//! W by rows      y = Σ_k x[k] · row k      tasks: chunks of rows, whose sums are added up at the end
//! W by columns   y[i] = x · column i       tasks: chunks of columns
//! ```

use crate::cpu::gemm::Finish;
use crate::cpu::gemv::{self, AxpyRows, RowChunks};
use crate::cpu::{Matrix, Output, Scalar, SharedOutput, ThreadTeam, Workspace, alloc_uninit_with, split_aligned};
use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn_flex::FlexTensor;

/// The sums of all chunks take at most this part of the factor, …
const SUMS_SHARE: usize = 4;
/// … and so many chunks at most, however many threads there are.
const MAX_CHUNKS: usize = 64;
/// Elements of all sums for one of the tasks that add them up.
const ADDED_ELEMENTS: usize = 1 << 16;

/// `y [tokens, m] = x W`, and what follows, of at least one token, whose elements are contiguous.
pub(super) fn product<E: Scalar>(x: Matrix<'_, E>, w: &FlexTensor, finish: Finish<'_, E>) -> Vec<E> {
    let m = w.layout().shape()[1];
    let team = ThreadTeam::default();
    // SAFETY: either way writes every element of the output.
    unsafe {
        alloc_uninit_with(x.rows * m, |y| {
            if w.layout().strides()[0] == 1 {
                gemv::block_diagonal_gemv(&team, x, &Flex::float_swap_dims(w.clone(), 0, 1), finish, y);
            } else if gemv::reads(w) {
                by_rows(&team, x, w, finish, y);
            } else {
                by_rows(&team, x, &w.to_contiguous(), finish, y);
            }
        })
    }
}

/// Rows of `w`, which are contiguous, scaled by the columns of `x` and added up.
fn by_rows<E: Scalar>(
    team: &ThreadTeam,
    x: Matrix<'_, E>,
    w: &FlexTensor,
    finish: Finish<'_, E>,
    mut y: Output<'_, E>,
) {
    let y = y.share();
    let tokens = x.rows;
    let [n, m] = w.layout().shape().dims();
    let chunks = RowChunks::at_most(w, (n / (SUMS_SHARE * tokens)).min(MAX_CHUNKS));
    E::with_buffer(Workspace::Shared, |buffer| {
        let [sums] = split_aligned(buffer, [chunks.count * tokens * m]);
        let shared = SharedOutput::new(&mut *sums);
        team.parallel_for(chunks.count, |chunk| {
            let factor = chunks.get(chunk);
            let x = x.cols(chunk * chunks.rows, factor.rows);
            // SAFETY: no other task has these sums, and the buffer is initialised.
            let out = unsafe { shared.slice(chunk * tokens * m, tokens * m) };
            let (x, x_stride) = (x.storage_from_first(), x.row_stride as usize);
            pulp::Arch::new().dispatch(AxpyRows { x, x_stride, factor, next: chunks.after(chunk), out });
        });
        let sums = &*sums;
        let share = m.div_ceil((sums.len() / ADDED_ELEMENTS).clamp(1, rayon::current_num_threads()));
        team.parallel_for(m.div_ceil(share), |task| {
            let first = task * share;
            let cols = share.min(m - first);
            for token in 0..tokens {
                let of_chunk = |chunk: usize| &sums[(chunk * tokens + token) * m + first..][..cols];
                // SAFETY: no other task has these columns.
                let y = unsafe { y.uninit_slice(token * m + first, cols) }.write_copy_of_slice(of_chunk(0));
                for chunk in 1..chunks.count {
                    y.iter_mut().zip(of_chunk(chunk)).for_each(|(y, sum)| *y += *sum);
                }
                if let Some(bias) = finish.bias {
                    y.iter_mut().zip(&bias[first..]).for_each(|(y, bias)| *y += *bias);
                }
                finish.apply(y, token * m + first);
            }
        });
    });
}
