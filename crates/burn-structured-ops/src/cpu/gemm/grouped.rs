//! Products that have nothing to do with each other, shared out between the threads.

use super::{Epilogue, ExtraPrefetch, Rows, SharedOutput, Target, balanced_chunk, nr, pack_and_multiply, shape};
use crate::cpu::{Matrix, Scalar, ThreadTeam, Workspace, split_aligned};
use gemm_common::cache::CACHE_INFO;
use pulp::Simd;

/// Tasks a thread should have, so that the last one to finish is not long alone.
const TASKS_PER_THREAD: usize = 8;
/// Bytes of a task's packed panels at the least and at the most, …
const GROUP_BYTES: [usize; 2] = [160 << 10, 512 << 10];
/// … and what part of a second-level cache in between: they stay there, and the next ones beside them.
const GROUP_SHARE: usize = 4;
/// Terms at a time at most: so many of a tile of rows stay in the first-level cache.
const KC: usize = 512;

/// Tasks that all threads with_grouped should have.
pub(crate) fn tasks_wanted() -> usize {
    TASKS_PER_THREAD * rayon::current_num_threads()
}

/// Terms at a time, of so many.
pub(super) fn kc(terms: usize) -> usize {
    balanced_chunk(terms, KC)
}

/// Columns of a factor that are packed with_grouped, of so many, so many terms at a time: as even as possible, in full_tile panels.
pub(super) fn nc<E: Scalar>(terms: usize, cols: usize) -> usize {
    let (nr, _) = shape::<E>();
    let [least, most] = GROUP_BYTES;
    let bytes = (CACHE_INFO[1].cache_bytes / GROUP_SHARE).clamp(least, most);
    let longest = (bytes / (terms.max(1) * nr * size_of::<E>())).clamp(1, cols.div_ceil(nr)) * nr;
    cols.div_ceil(cols.div_ceil(longest)).next_multiple_of(nr)
}

/// `y = [rows_0 F_0 | rows_1 F_1 | …] + bias`, with `blocks` factors `[terms, cols]` and `tokens` rows each.
pub(crate) fn grouped_gemm<'a, E: Scalar>(
    team: &ThreadTeam,
    [blocks, tokens, terms, cols]: [usize; 4],
    rows: impl Fn(usize) -> Rows<'a, E> + Sync,
    factor: impl Fn(usize) -> Matrix<'a, E> + Sync,
    bias: Option<&[E]>,
    y: SharedOutput<'_, E>,
) {
    let (_, mr) = shape::<E>();
    if blocks * tokens * cols == 0 {
        return;
    }
    let run = if rows(0).is_single_run() { kc(terms) } else { terms };
    let group = nc::<E>(run, cols);
    let groups = cols.div_ceil(group);
    // A tile of rows where there are too few columns for the threads.
    let tiles = tasks_wanted().div_ceil(2 * blocks * groups).min(tokens.div_ceil(4 * mr)).max(1);
    let tile = tokens.div_ceil(tiles).next_multiple_of(mr);
    let of_factors = blocks * groups;
    let columns = |task: usize| {
        let first = task % groups * group;
        (task % of_factors / groups, first, group.min(cols - first))
    };
    let stride = blocks * cols;
    team.parallel_for(of_factors * tokens.div_ceil(tile), |task| {
        let start = task / of_factors * tile;
        let (block, first, here) = columns(task);
        let column = block * cols + first;
        let epilogue = bias.map_or(Epilogue::Store, |bias| Epilogue::Bias(&bias[column..column + here]));
        let rows = rows(block).range(start, tile.min(tokens - start));
        // What this thread is likely to take next, if it is not one of those columns that another tile of rows has met.
        let next = task + rayon::current_num_threads();
        let ahead = (next < of_factors).then(|| {
            let (block, first, count) = columns(next);
            factor(block).cols(first, count)
        });
        let factor = factor(block).cols(first, here);
        E::with_buffer(Workspace::Task, |buffer| {
            let [panels] = split_aligned(buffer, [run * group]);
            let target = Target { out: y, offset: start * stride + column, stride, epilogue };
            pulp::Arch::new().dispatch(Group { rows, factor, run, target, ahead, panels });
        });
    });
}

/// A group of columns for one tile of rows, a run of terms at a time. Nothing else may access these elements of its target.
pub(super) struct Group<'a, E: Scalar> {
    pub rows: Rows<'a, E>,
    pub factor: Matrix<'a, E>,
    /// Terms at a time.
    pub run: usize,
    pub target: Target<'a, E>,
    /// The next factor.
    pub ahead: Option<Matrix<'a, E>>,
    /// Room for a run of terms in full_tile panels.
    pub panels: &'a mut [E],
}

impl<E: Scalar> pulp::WithSimd for Group<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, factor: all, run, target, ahead, panels } = self;
        assert_eq!(rows.terms, all.rows, "sizes of a product");
        let nr = all.cols.next_multiple_of(nr::<S, E>());
        let mut start = 0;
        loop {
            let here = run.min(all.rows - start);
            let after = start + here;
            let ahead = match ahead {
                _ if after < all.rows => Some(all.rows(after, run.min(all.rows - after))),
                other => other.map(|next| next.rows(0, run.min(next.rows))),
            };
            let (rows, target) = match here {
                full_tile if full_tile == all.rows => (rows, target),
                _ if start == 0 => (rows.terms(start, here), target),
                _ => (rows.terms(start, here), target.accumulate()),
            };
            let (factor, panels) = (all.rows(start, here), &mut panels[..here * nr]);
            // SAFETY: whoever makes a group is alone with its rows and columns, and has written what it adds to; what later runs add
            // to, the first one has.
            unsafe {
                pack_and_multiply(simd, rows, factor, panels, factor.cols, target, ahead, &mut ExtraPrefetch::default())
            };
            start = after;
            if start == all.rows {
                break;
            }
        }
    }
}
