//! How the work before the expansion is shared out: rank blocks by tiles of tokens.

use super::projection::kc;
use crate::blast::Sizes;
use crate::cpu::Scalar;
use crate::cpu::gemm::{balanced_chunk, shape, tasks_wanted};
use gemm_common::cache::CACHE_INFO;

/// Panels of a rank block at most: wider ones leave threads without work at the end.
const MAX_PANELS: usize = 4;
/// Rank blocks a thread should have.
const BLOCKS_PER_THREAD: usize = 4;
/// Register tiles of tokens at least, whatever has to be kept for them.
const MIN_TILES: usize = if cfg!(miri) { 2 } else { 8 };
/// Register tiles of a task that is one thread's share of another.
const SHARED_TILES: usize = 3;

/// Panels of a rank block, and tokens of a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tiling {
    pub panels: usize,
    pub tile: usize,
}

/// A task: panels of the rank from `panel` on, for `tokens` tokens from `start` on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Task {
    pub panel: usize,
    pub panels: usize,
    pub start: usize,
    pub tokens: usize,
}

impl Tiling {
    /// Of the forward pass, in which a task keeps `z`.
    pub fn forward<E: Scalar>(Sizes { b1, b2, q, r, .. }: Sizes, tokens: usize) -> Self {
        Self::new::<E>(l2_bytes(), kc(q) + b1 * b2, b2, r, tokens)
    }

    /// Of the backward pass, in which a task keeps `dt`, `z`, and three times the couplings.
    pub fn backward<E: Scalar>(Sizes { b1, b2, p, r, .. }: Sizes, tokens: usize) -> Self {
        Self::new::<E>(l2_bytes(), kc(p) + 3 * b1 * b2, b1 + b2, r, tokens)
    }

    /// Half of an L2 cache of `l2_bytes` holds what a task keeps: `kept` values for each component, and `kept_by_token` more for each
    /// of its tokens.
    fn new<E: Scalar>(l2_bytes: usize, kept: usize, kept_by_token: usize, r: usize, tokens: usize) -> Self {
        let (nr, mr) = shape::<E>();
        let panels = r.div_ceil(nr).div_ceil(BLOCKS_PER_THREAD * rayon::current_num_threads()).clamp(1, MAX_PANELS);
        let room = (l2_bytes / 2 / (panels * nr * size_of::<E>())).saturating_sub(kept);
        let most = (room / kept_by_token.max(1) / mr).max(MIN_TILES) * mr;
        Self { panels, tile: balanced_chunk(tokens, most).next_multiple_of(mr).max(mr) }
    }

    /// Several tiles a task, if there are tasks enough: each task of a rank block has a gradient of the couplings of its own.
    pub fn spanning<E: Scalar>(self, r: usize, tokens: usize) -> Self {
        let blocks = r.div_ceil(shape::<E>().0).div_ceil(self.panels);
        let tiles = tokens.div_ceil(self.tile);
        let spans = (tasks_wanted() / 2).div_ceil(blocks).min(tiles);
        Self { tile: tiles / spans * self.tile, ..self }
    }

    /// The tasks for a rank of `r`: every rank block of one tile of tokens after the other.
    ///
    /// Those that are left over when all threads have equally many are split again, some tokens for each thread: of nine equal tasks on
    /// two threads, the last would take as long alone.
    pub fn tasks<E: Scalar>(self, r: usize, tokens: usize) -> Vec<Task> {
        let (nr, mr) = shape::<E>();
        let panels = r.div_ceil(nr);
        let blocks = (0..panels).step_by(self.panels);
        let mut tasks: Vec<Task> = (0..tokens)
            .step_by(self.tile)
            .flat_map(|start| blocks.clone().map(move |panel| (start, panel)))
            .map(|(start, panel)| Task {
                panel,
                panels: self.panels.min(panels - panel),
                start,
                tokens: self.tile.min(tokens - start),
            })
            .collect();
        let threads = rayon::current_num_threads();
        for task in tasks.split_off(tasks.len() - tasks.len() % threads) {
            let step = task.tokens.div_ceil(threads).next_multiple_of(mr).max(SHARED_TILES * mr);
            let share = |at: usize| Task { start: task.start + at, tokens: step.min(task.tokens - at), ..task };
            tasks.extend((0..task.tokens).step_by(step).map(share));
        }
        tasks
    }
}

/// Bytes of the L2 cache; none under Miri, whose small products are to have several tiles.
fn l2_bytes() -> usize {
    if cfg!(miri) { 0 } else { CACHE_INFO[1].cache_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_two_threads<R: Send>(body: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool").install(body)
    }

    #[test]
    #[cfg_attr(miri, ignore = "arithmetic without unsafe code")]
    fn tiling_keeps_a_task_in_half_of_the_l2_cache() {
        for l2_kib in [512, 1024, 2048, 4096] {
            for [blocks, depth, tokens, r] in
                [[4, 192, 512, 305], [16, 192, 512, 288], [4, 1024, 64, 1022], [2, 48, 9, 33], [4, 768, 5000, 64]]
            {
                let kept = kc(depth) + blocks * blocks;
                let Tiling { panels, tile } =
                    in_two_threads(|| Tiling::new::<f32>(l2_kib << 10, kept, blocks, r, tokens));
                let (nr, mr) = shape::<f32>();
                assert!(panels >= 1 && tile % mr == 0, "{panels} panels, {tile} tokens");
                let bytes = 4 * panels * nr * (kept + blocks * tile.min(tokens));
                assert!(
                    bytes <= l2_kib << 9 || tile <= MIN_TILES * mr,
                    "{bytes} bytes, {panels} panels, {tile} tokens, {l2_kib} KiB"
                );
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "arithmetic without unsafe code")]
    fn tasks_cover_every_panel_and_token_once() {
        let (nr, mr) = shape::<f32>();
        for (panels, of_rank, tile, tokens, count) in
            [(1, 9, 64, 64, 10), (2, 9, 64, 64, 6), (1, 10, 512, 512, 10), (3, 7, 60, 100, 6), (1, 1, 12, 9, 1)]
        {
            let tiling = Tiling { panels, tile };
            let tasks = in_two_threads(|| tiling.tasks::<f32>(of_rank * nr, tokens));
            assert_eq!(tasks.len(), count, "{tasks:?}");
            let mut taken = vec![0; of_rank * tokens];
            for Task { panel, panels, start, tokens: here } in tasks.iter().copied() {
                assert!(panels >= 1 && here >= 1 && start % tile % mr == 0);
                for panel in panel..panel + panels {
                    taken[panel * tokens + start..][..here].iter_mut().for_each(|taken| *taken += 1);
                }
            }
            assert!(taken.iter().all(|taken| *taken == 1), "{tasks:?}");
        }
    }
}
