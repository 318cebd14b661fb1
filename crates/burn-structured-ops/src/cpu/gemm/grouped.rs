//! A grouped GEMM: independent products, side by side in one output.

use super::blocking::{kc, nc, tasks_wanted};
use super::{Finish, Rows, Target, pack_and_gemm, shape};
use crate::cpu::{Matrix, Output, Scalar, ThreadTeam, Workspace, alloc_uninit_with, split_aligned};

/// `y = [rows_0 F_0 | rows_1 F_1 | …]`, and what follows, with `blocks` factors `[depth, cols]` and `tokens` rows each.
///
/// A task packs some columns of a factor and multiplies all tokens by them, or some tokens where there are too few columns for the
/// threads.
///
/// # Panics
///
/// If an operand is not of these sizes, or `y` or what follows is too short.
pub(crate) fn grouped_gemm<'a, E: Scalar>(
    team: &ThreadTeam,
    [blocks, tokens, depth, cols]: [usize; 4],
    rows: impl Fn(usize) -> Rows<'a, E> + Sync,
    factor: impl Fn(usize) -> Matrix<'a, E> + Sync,
    finish: Finish<'_, E>,
    mut y: Output<'_, E>,
) {
    let y = y.share();
    let (_, mr) = shape::<E>();
    if blocks * tokens * cols == 0 {
        return;
    }
    assert_eq!(rows(0).depth, depth, "rows of that depth");
    let kc = block_depth(rows(0));
    let nc = nc::<E>(kc, cols);
    let groups = cols.div_ceil(nc);
    let chunks = tasks_wanted().div_ceil(2 * blocks * groups).min(tokens.div_ceil(4 * mr)).max(1);
    let chunk = tokens.div_ceil(chunks).next_multiple_of(mr);
    let stride = blocks * cols;
    let columns = |task: usize| {
        let (block, first) = (task / groups % blocks, task % groups * nc);
        (block, first, factor(block).cols(first, nc.min(cols - first)))
    };
    team.parallel_for(blocks * groups * tokens.div_ceil(chunk), |task| {
        let start = task / (blocks * groups) * chunk;
        let (block, first, factor) = columns(task);
        let rows = rows(block).range(start, chunk.min(tokens - start));
        // What this thread is likely to take next, unless another chunk of tokens has brought it into a cache.
        let next = task + rayon::current_num_threads();
        let next = (next < blocks * groups).then(|| columns(next).2);
        let column = block * cols + first;
        let epilogue = finish.epilogue(column, factor.cols);
        // SAFETY: no other task has these rows and columns.
        let target = unsafe { Target::new(y, start * stride + column, [rows.count, factor.cols], stride, epilogue) };
        E::with_buffer(Workspace::Task, |buffer| {
            let [panels] = split_aligned(buffer, [kc * nc]);
            blocked_gemm(rows, factor, target, next, panels);
        });
        // SAFETY: the product has just been stored.
        unsafe { target.finish(finish, [start, column]) };
    });
}

/// Stores `rows · factor` to the target on this thread, one packed block of depth after the other; `next`, the factor of the next
/// product, is prefetched. The target's epilogue goes with the first block, the others accumulate.
///
/// # Panics
///
/// If the operands do not fit each other or the target, or `panels` is shorter than [`packed_len`] (for rows in several runs, than the
/// whole factor in panels).
pub(crate) fn blocked_gemm<E: Scalar>(
    rows: Rows<'_, E>,
    factor: Matrix<'_, E>,
    target: Target<'_, E>,
    next: Option<Matrix<'_, E>>,
    panels: &mut [E],
) {
    let kc = block_depth(rows);
    let width = factor.cols.next_multiple_of(shape::<E>().0);
    let next = next.map(|next| next.rows(0, kc.min(next.rows)));
    if factor.rows <= kc {
        return pack_and_gemm(rows, factor, &mut panels[..factor.rows * width], target, next);
    }
    let block = |start: usize| factor.rows(start, kc.min(factor.rows - start));
    for start in (0..factor.rows).step_by(kc) {
        let (here, end) = (block(start), start + kc);
        // SAFETY: the first block has been stored to every element.
        let target = if start == 0 { target } else { unsafe { target.accumulate() } };
        let next = if end < factor.rows { Some(block(end)) } else { next };
        pack_and_gemm(rows.depths(start, here.rows), here, &mut panels[..here.rows * width], target, next);
    }
}

/// Depth of a packed block: all of it for rows in several runs.
fn block_depth<E: Scalar>(rows: Rows<'_, E>) -> usize {
    if rows.is_single_run() { kc(rows.depth) } else { rows.depth }
}

/// Elements of a packed block of a factor `[depth, cols]`.
pub(crate) fn packed_len<E: Scalar>(depth: usize, cols: usize) -> usize {
    kc(depth) * cols.next_multiple_of(shape::<E>().0)
}

/// The [`grouped_gemm`] as a vector `[tokens, blocks · cols]`.
///
/// # Panics
///
/// If an operand is not of these sizes, or what follows is too short.
pub(crate) fn grouped_product<'a, E: Scalar>(
    sizes: [usize; 4],
    rows: impl Fn(usize) -> Rows<'a, E> + Sync,
    factor: impl Fn(usize) -> Matrix<'a, E> + Sync,
    finish: Finish<'_, E>,
) -> Vec<E> {
    let [blocks, tokens, _, cols] = sizes;
    // SAFETY: the product writes every element of its output.
    unsafe {
        alloc_uninit_with(tokens * blocks * cols, |y| {
            grouped_gemm(&ThreadTeam::default(), sizes, rows, factor, finish, y);
        })
    }
}
