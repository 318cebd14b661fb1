//! Products side by side, shared out between the threads.

use super::{Beside, Landing, Rows, SharedOutput, Target, pack_and_multiply, shape, width};
use crate::cpu::{Crew, Matrix, Scalar, Slot, portions};
use gemm_common::cache::CACHE_INFO;
use pulp::Simd;

/// Tasks a thread should have, so that the last one to finish is not long alone.
const TASKS_PER_THREAD: usize = 8;
/// Bytes of a task's packed panels at the least and at the most, …
const GROUP_BYTES: [usize; 2] = [160 << 10, 512 << 10];
/// … and what part of a second-level cache in between: they stay there, and the next ones beside them.
const GROUP_SHARE: usize = 4;

/// Tasks that all threads together should have.
pub(crate) fn tasks_wanted() -> usize {
    TASKS_PER_THREAD * rayon::current_num_threads()
}

/// Bytes that a task's packed panels may have on this processor.
fn group_bytes() -> usize {
    let [least, most] = GROUP_BYTES;
    (CACHE_INFO[1].cache_bytes / GROUP_SHARE).clamp(least, most)
}

/// `y = [rows_0 F_0 | rows_1 F_1 | …] + bias`, with `blocks` factors `[terms, cols]` and `tokens` rows each.
///
/// A task packs a group of columns of one factor and multiplies all rows by them, or a tile of rows where there are too few columns
/// for the threads.
pub(crate) fn side_by_side<'a, E: Scalar>(
    crew: &Crew,
    [blocks, tokens, terms, cols]: [usize; 4],
    rows: impl Fn(usize) -> Rows<'a, E> + Sync,
    factor: impl Fn(usize) -> Matrix<'a, E> + Sync,
    bias: Option<&[E]>,
    y: SharedOutput<'_, E>,
) {
    if blocks * tokens * cols == 0 {
        return;
    }
    let (width, tile_rows) = shape::<E>();
    let wanted = tasks_wanted();
    let longest = (group_bytes() / (terms.max(1) * width * size_of::<E>())).clamp(1, cols.div_ceil(width)) * width;
    // As even as possible, in whole panels.
    let group = cols.div_ceil(cols.div_ceil(longest)).next_multiple_of(width);
    let groups = cols.div_ceil(group);
    let tiles = wanted.div_ceil(2 * blocks * groups).min(tokens.div_ceil(4 * tile_rows)).max(1);
    let tile = tokens.div_ceil(tiles).next_multiple_of(tile_rows);
    let of_factors = blocks * groups;
    let columns = |task: usize| {
        let first = task % groups * group;
        (task % of_factors / groups, first, group.min(cols - first))
    };
    let tasks = of_factors * tokens.div_ceil(tile);
    crew.each(tasks, |task| {
        let start = task / of_factors * tile;
        let (block, first, here) = columns(task);
        let column = block * cols + first;
        let landing = bias.map_or(Landing::Overwrite, |bias| Landing::Bias(&bias[column..column + here]));
        let rows = rows(block).range(start, tile.min(tokens - start));
        // What this thread is likely to take next, if it is not one of those columns that another tile of rows has met.
        let next = task + rayon::current_num_threads();
        let ahead = (next < of_factors).then(|| {
            let (block, first, count) = columns(next);
            factor(block).cols(first, count)
        });
        let factor = factor(block).cols(first, here);
        E::with_buffer(Slot::Task, |buffer| {
            let stride = blocks * cols;
            let target = Target { out: y, offset: start * stride + column, stride, landing };
            pulp::Arch::new().dispatch(Group { rows, factor, target, ahead, buffer });
        });
    });
}

/// A group of columns for one tile of rows.
struct Group<'a, E: Scalar> {
    rows: Rows<'a, E>,
    factor: Matrix<'a, E>,
    target: Target<'a, E>,
    /// The next factor.
    ahead: Option<Matrix<'a, E>>,
    buffer: &'a mut Vec<E>,
}

impl<E: Scalar> pulp::WithSimd for Group<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, factor, target, ahead, buffer } = self;
        let [panels] = portions(buffer, [factor.rows * factor.cols.next_multiple_of(width::<S, E>())]);
        // SAFETY: no other task has these rows and columns.
        unsafe { pack_and_multiply(simd, rows, factor, panels, factor.cols, target, ahead, &mut Beside::default()) };
    }
}
