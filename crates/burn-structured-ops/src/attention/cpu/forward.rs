//! The forward pass: a task takes some queries of a head through all keys.
//!
//! ```text
//! for each block of keys, packed once            Kᵀ and V in panels, in the L2 cache
//!     for each tile of queries                   S = Q Kᵀ, in the L1 cache
//!         P = exp(S − max), the sums scaled      softmax.rs
//!         O += P V                               in the output, as it is stored in the end
//! ```

use super::exp::Exponential;
use super::few;
use super::for_each_task;
use super::heads::{Head, Heads, rows};
use super::pack::pack_transposed;
use super::softmax::{SoftmaxRows, Sums};
use crate::attention::shapes::Sizes;
use crate::cpu::gemm::{
    self, Epilogue, Rows, Target, balanced_chunk, gemm_packed, pack_panels, tasks_wanted, transposed_stride,
};
use crate::cpu::{Output, SharedOutput, ThreadTeam, Workspace, alloc_uninit_with, split_aligned};
use std::ops::Range;

/// Bytes of a packed block of keys and values: half of a small L2 cache.
const BLOCK_BYTES: usize = 256 << 10;
/// Bytes of the scores of a tile of queries: part of an L1 cache.
const SCORE_BYTES: usize = 24 << 10;
/// Queries of a task at the least, as every task packs the keys and values.
const MIN_QUERIES: usize = 96;

/// The output `[batch, queries, heads, d_value]` and, if it is saved, the log-sum-exp `[batch, heads, queries]`.
pub(super) fn forward<E: Exponential>(
    team: Option<&ThreadTeam>,
    heads: &Heads<'_, E>,
    saved: bool,
) -> (Vec<E>, Option<Vec<E>>) {
    let Sizes { batch, heads: count, queries, d_value, .. } = heads.sizes;
    let mut log_sum_exp = None;
    // SAFETY: `write` writes every element of both.
    let output = unsafe {
        alloc_uninit_with(batch * queries * count * d_value, |output| {
            if saved {
                log_sum_exp =
                    Some(alloc_uninit_with(batch * count * queries, |sums| write(team, heads, output, Some(sums))));
            } else {
                write(team, heads, output, None);
            }
        })
    };
    (output, log_sum_exp)
}

/// Writes every element of the output and of the log-sum-exp.
fn write<E: Exponential>(
    team: Option<&ThreadTeam>,
    heads: &Heads<'_, E>,
    mut output: Output<'_, E>,
    mut log_sum_exp: Option<Output<'_, E>>,
) {
    let Sizes { batch, heads: count, queries, .. } = heads.sizes;
    let results =
        Results { sizes: heads.sizes, output: output.share(), log_sum_exp: log_sum_exp.as_mut().map(Output::share) };
    let chunks = if team.is_none() { 1 } else { tasks_wanted().div_ceil(2 * batch * count) };
    let chunk = balanced_chunk(queries, queries.div_ceil(chunks).max(MIN_QUERIES));
    let chunks = queries.div_ceil(chunk);
    for_each_task(team, batch * count * chunks, |task| {
        let head = heads.get(task / chunks);
        // The last queries see the most keys of a causal mask.
        let start = (chunks - 1 - task % chunks) * chunk;
        let range = start..(start + chunk).min(queries);
        if queries <= few::MAX_QUERIES {
            few::attend(heads, head, range, results);
        } else {
            attend(heads, head, range, results);
        }
    });
}

/// Where results go. A task has its rows for itself.
#[derive(Clone, Copy)]
pub(super) struct Results<'a, E> {
    sizes: Sizes,
    output: SharedOutput<'a, E>,
    log_sum_exp: Option<SharedOutput<'a, E>>,
}

impl<'a, E: Exponential> Results<'a, E> {
    /// The first element of the output of a query.
    fn offset(self, head: &Head<'_, E>, query: usize) -> usize {
        let Sizes { heads, queries, d_value, .. } = self.sizes;
        ((head.batch * queries + query) * heads + head.head) * d_value
    }

    /// The outputs of `count` queries.
    ///
    /// # Safety
    ///
    /// As [`Target::new`].
    unsafe fn target(self, head: &Head<'_, E>, first: usize, count: usize, epilogue: Epilogue<'a, E>) -> Target<'a, E> {
        let Sizes { heads, d_value, .. } = self.sizes;
        // SAFETY: as the caller says.
        unsafe { Target::new(self.output, self.offset(head, first), [count, d_value], heads * d_value, epilogue) }
    }

    /// The output of a query.
    ///
    /// # Safety
    ///
    /// It must be initialised, and this task's alone.
    pub unsafe fn row(self, head: &Head<'_, E>, query: usize) -> &'a mut [E] {
        // SAFETY: as the caller says.
        unsafe { self.output.slice(self.offset(head, query), self.sizes.d_value) }
    }

    /// Multiplies the outputs of queries from `first` on by a factor each.
    ///
    /// # Safety
    ///
    /// They must be initialised unless their factor is 1, and this task's alone.
    unsafe fn rescale(self, head: &Head<'_, E>, first: usize, factors: &[E]) {
        for (index, factor) in factors.iter().enumerate() {
            if *factor != E::ONE {
                // SAFETY: as the caller says.
                let row = unsafe { self.row(head, first + index) };
                pulp::Arch::new().dispatch(ScaleRow(row, *factor));
            }
        }
    }

    /// Writes zeros to the output of a query.
    ///
    /// # Safety
    ///
    /// It must be this task's alone.
    pub unsafe fn clear(self, head: &Head<'_, E>, query: usize) {
        // SAFETY: as the caller says.
        let row = unsafe { self.output.uninit_slice(self.offset(head, query), self.sizes.d_value) };
        row.iter_mut().for_each(|value| _ = value.write(E::ZERO));
    }

    /// Divides the outputs of queries from `first` on by the sums of their exponentials; writes their log-sum-exp.
    ///
    /// # Safety
    ///
    /// Both must be this task's alone, and the outputs initialised of queries whose sum is not 0.
    pub unsafe fn finish(self, head: &Head<'_, E>, first: usize, sums: &Sums<'_, E>, scale: E) {
        for (index, sum) in sums.sum.iter().enumerate() {
            // SAFETY: as the caller says.
            unsafe {
                if *sum == E::ZERO {
                    self.clear(head, first + index);
                } else {
                    self.rescale(head, first + index, &[sum.reciprocal()]);
                }
            }
        }
        if let Some(log_sum_exp) = self.log_sum_exp {
            let Sizes { heads, queries, .. } = self.sizes;
            let offset = (head.batch * heads + head.head) * queries + first;
            // SAFETY: as the caller says.
            let values = unsafe { log_sum_exp.uninit_slice(offset, sums.sum.len()) };
            for ((value, sum), largest) in values.iter_mut().zip(&*sums.sum).zip(&*sums.largest) {
                // Of a query that sees no key: such that its probabilities are 0.
                value.write(if *sum == E::ZERO { E::INFINITY } else { largest.mul_add(scale, sum.log()) });
            }
        }
    }
}

/// The results of some queries of a head.
fn attend<E: Exponential>(heads: &Heads<'_, E>, head: Head<'_, E>, range: Range<usize>, results: Results<'_, E>) {
    let Sizes { d_head, d_value, .. } = heads.sizes;
    let ((nr, mr), count) = (gemm::shape::<E>(), range.len());
    let lanes = nr / 2;
    let keys = head.seen_by(range.end - 1);
    let most = (BLOCK_BYTES / ((d_head + d_value) * size_of::<E>())).next_multiple_of(nr);
    let block = balanced_chunk(keys.max(1), most).next_multiple_of(lanes);
    let stride = transposed_stride::<E>(block);
    let tile = (SCORE_BYTES / (stride * size_of::<E>() * mr)).max(1) * mr;
    let tile = tile.min(count);
    E::with_buffer(Workspace::Task, |buffer| {
        let padded = [block, d_value].map(|cols| cols.next_multiple_of(nr));
        let lengths = [padded[0] * d_head, padded[1] * block, tile * stride, count, count, tile, block, lanes * d_head];
        let [key_panels, value_panels, scores, largest, sum, factors, hidden, filled] = split_aligned(buffer, lengths);
        largest.fill(E::MIN);
        sum.fill(E::ZERO);
        for start in (0..keys.max(1)).step_by(block) {
            let in_block = block.min(keys - start);
            let key_panels = &mut key_panels[..in_block.next_multiple_of(nr) * d_head];
            pack_transposed(head.key.rows(start, in_block), key_panels, filled);
            let value_panels = &mut value_panels[..padded[1] * in_block];
            pack_panels(head.value.rows(start, in_block), value_panels);
            let hidden = hide(&head, start, in_block, hidden);
            for first in (0..count).step_by(tile) {
                let queries = tile.min(count - first);
                let query = range.start + first;
                let seen = head.seen_by(query + queries - 1);
                let depth = seen.saturating_sub(start).min(in_block);
                let sums =
                    Sums { largest: &mut largest[first..first + queries], sum: &mut sum[first..first + queries] };
                if depth > 0 {
                    let cols = depth.next_multiple_of(lanes);
                    let target = Target::of_slice(scores, [queries, cols], stride);
                    gemm_packed(rows(head.query.rows(query, queries)), key_panels, target);
                    let softmax = SoftmaxRows {
                        scores: &mut scores[..queries * stride],
                        stride,
                        cols,
                        scale: heads.scale,
                        seen: |row| head.seen_by(query + row).saturating_sub(start).min(in_block),
                        hidden,
                        sums: Sums { largest: &mut *sums.largest, sum: &mut *sums.sum },
                        factors: &mut factors[..queries],
                    };
                    pulp::Arch::new().dispatch(softmax);
                    let probabilities = Rows::in_runs(scores, [queries, depth], stride, depth, 0);
                    // SAFETY: no other task has these queries; the first block of keys is stored, so the others find it initialised.
                    unsafe {
                        if start > 0 {
                            results.rescale(&head, query, &factors[..queries]);
                        }
                        let epilogue = if start > 0 { Epilogue::Accumulate } else { Epilogue::Store };
                        let target = results.target(&head, query, queries, epilogue);
                        gemm_prefix(probabilities, value_panels, in_block, nr, target);
                    }
                }
                if seen <= start + in_block && (depth > 0 || start == 0) {
                    // SAFETY: no other task has these queries, and those that see a key have been stored.
                    unsafe { results.finish(&head, query, &sums, heads.scale) };
                }
            }
        }
    });
}

/// Stores `rows` times the first depths of panels that are `depth` deep.
fn gemm_prefix<E: Exponential>(rows: Rows<'_, E>, panels: &[E], depth: usize, nr: usize, target: Target<'_, E>) {
    if rows.depth == depth {
        return gemm_packed(rows, panels, target);
    }
    for (panel, first) in panels.chunks_exact(depth * nr).zip((0..target.cols).step_by(nr)) {
        gemm_packed(rows, &panel[..rows.depth * nr], target.cols(first, nr.min(target.cols - first)));
    }
}

/// Of each key of a block, −1 if it is padding; empty if none is.
pub(super) fn hide<'a, E: Exponential>(head: &Head<'_, E>, start: usize, count: usize, hidden: &'a mut [E]) -> &'a [E] {
    if !head.has_hidden() {
        return &[];
    }
    for (index, hidden) in hidden[..count].iter_mut().enumerate() {
        *hidden = if head.is_hidden(start + index) { E::ZERO - E::ONE } else { E::ZERO };
    }
    hidden[count..].fill(E::ZERO);
    hidden
}

/// Multiplies a row by a factor.
struct ScaleRow<'a, E>(&'a mut [E], E);

impl<E: Exponential> pulp::WithSimd for ScaleRow<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) {
        let Self(row, factor) = self;
        for value in row {
            *value = *value * factor;
        }
    }
}
