//! How the work before the last product is shared out: strips of the rank by tiles of tokens.

use super::projection::kc;
use crate::cpu::Scalar;
use crate::cpu::gemm;
use gemm_common::cache::CACHE_INFO;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Tiles of rows to take at least, whatever has to be kept for them.
const LEAST_TILES: usize = 8;
/// Tiles of rows of a task that is one thread's share of another.
const SHARED_TILES: usize = 3;

/// What a cut goes by. The figures were measured, on a processor of either kind.
#[derive(Clone, Copy, Debug)]
struct Processor {
    /// Bytes that a task may keep in the second-level cache, beside the rows and the factor that pass through.
    kept_bytes: usize,
    /// What reading an element of the rows costs, …
    row: usize,
    /// … one of the factor that meets them, which is read in short tasks and packed, …
    factor: usize,
    /// … and a thread that has nothing to do while another multiplies an element of the rows by a panel.
    idle: usize,
    /// Panels of a strip at most.
    strip_panels: usize,
    /// Tasks of a thread at the least.
    tasks: usize,
}

/// Where a thread's share of the second-level cache is small and the third one near: many narrow strips, so that no thread waits long
/// for the last one.
const SMALL_L2: Processor = Processor { kept_bytes: 400 << 10, row: 1, factor: 8, idle: 0, strip_panels: 4, tasks: 4 };
/// Where it is large and the third one far away: wide strips, for which rows are read less often, and the factor in longer tasks.
const LARGE_L2: Processor =
    Processor { kept_bytes: 1200 << 10, row: 2, factor: 3, idle: 5, strip_panels: 16, tasks: 1 };
/// What they leave of a second-level cache to what passes through, …
const STREAM_RESERVE: usize = 624 << 10;
/// … and how many bytes of one are a large one. Of a cache that two threads of a core share, each has half: these go by the first kind.
const LARGE_CACHE: usize = 1536 << 10;

impl Processor {
    /// With so many bytes of second-level cache for a thread.
    fn with_cache(bytes: usize) -> Self {
        let kind = if bytes < LARGE_CACHE { SMALL_L2 } else { LARGE_L2 };
        Self {
            kept_bytes: bytes.saturating_sub(STREAM_RESERVE).clamp(SMALL_L2.kept_bytes, LARGE_L2.kept_bytes),
            ..kind
        }
    }

    fn this() -> Self {
        Self::with_cache(CACHE_INFO[1].cache_bytes)
    }

    /// What tasks cost for each of their terms, in elements of the rows.
    fn cost<E: Scalar>(self, tasks: &[Task]) -> usize {
        let (nr, _) = gemm::shape::<E>();
        let mut busy = BinaryHeap::from(vec![Reverse(0); rayon::current_num_threads()]);
        let mut read = 0;
        for Task { panels, tokens, .. } in tasks.iter().copied() {
            read += self.row * tokens + self.factor * panels * nr;
            let Reverse(least) = &mut *busy.peek_mut().expect("a thread at least");
            *least += panels * tokens;
        }
        let longest = busy.iter().map(|Reverse(busy)| *busy).max().expect("a thread at least");
        read + self.idle * busy.iter().map(|Reverse(busy)| longest - busy).sum::<usize>()
    }
}

/// What is shared out: rows by a factor in blocks of `terms` rows and `r` columns; there is at least one of each.
#[derive(Clone, Copy)]
pub(super) struct GemmShape {
    pub terms: usize,
    pub r: usize,
    pub tokens: usize,
    /// Values that a task keeps for every component of its strip and each token, …
    pub kept_by_token: usize,
    /// … and for all tokens with_grouped.
    pub kept: usize,
}

/// What a task is: so many panels of the rank, and so many tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tiling {
    pub panels: usize,
    pub tokens: usize,
}

/// A task: so many panels of the rank from `panel` on, for so many tokens from `start` on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Task {
    pub panel: usize,
    pub panels: usize,
    pub start: usize,
    pub tokens: usize,
}

impl Tiling {
    /// The cut that costs least. If there are such, it is one whose tasks stay in cache, and are enough.
    pub fn new<E: Scalar>(work: GemmShape) -> Self {
        Self::on::<E>(Processor::this(), work)
    }

    fn on<E: Scalar>(processor: Processor, work: GemmShape) -> Self {
        let GemmShape { terms, r, tokens, kept_by_token, kept } = work;
        let (nr, mr) = gemm::shape::<E>();
        let of_rank = r.div_ceil(nr);
        let (least, enough) = (LEAST_TILES * mr, processor.tasks * rayon::current_num_threads());
        // Tokens that stay in cache.
        let most = |panels: usize| {
            let room = processor.kept_bytes / (panels * nr * size_of::<E>());
            let by_tokens = room.saturating_sub(kc(terms) + kept);
            by_tokens / kept_by_token / mr * mr
        };
        let tiles = |panels: usize| {
            let fewest = tokens.div_ceil(most(panels).max(least));
            let enough = enough.div_ceil(of_rank.div_ceil(panels)).min(tokens.div_ceil(4 * mr));
            [Some(fewest), (enough > fewest).then_some(enough)].into_iter().flatten()
        };
        let cut = |panels, tiles| Self { panels, tokens: tokens.div_ceil(tiles).next_multiple_of(mr) };
        let missing = |cut: &Self| {
            let tasks = of_rank.div_ceil(cut.panels) * tokens.div_ceil(cut.tokens);
            enough.saturating_sub(tasks)
        };
        let cuts = (1..=processor.strip_panels.min(of_rank))
            // What fits none has to go in the narrowest strips.
            .filter(|panels| *panels == 1 || most(*panels) >= least.min(tokens))
            .flat_map(|panels| tiles(panels).map(move |tiles| cut(panels, tiles)));
        let fewest_missing = cuts.clone().map(|cut| missing(&cut)).min();
        cuts.filter(|cut| Some(missing(cut)) == fewest_missing)
            .min_by_key(|cut| processor.cost::<E>(&cut.tasks::<E>(r, tokens)))
            .expect("a panel and a token at least")
    }

    /// The tasks of a rank of `r`, every strip of it for one tile of tokens after the other.
    ///
    /// What is left of them once all threads had equally many is cut again, a tile of tokens for each thread: of nine tasks on two
    /// threads, the last would take as long alone.
    pub fn tasks<E: Scalar>(self, r: usize, tokens: usize) -> Vec<Task> {
        let (nr, mr) = gemm::shape::<E>();
        let of_rank = r.div_ceil(nr);
        let tiles = (0..tokens).step_by(self.tokens);
        let strips = (0..of_rank).step_by(self.panels);
        let mut tasks: Vec<Task> = tiles
            .flat_map(|start| strips.clone().map(move |panel| (start, panel)))
            .map(|(start, panel)| Task {
                panel,
                panels: self.panels.min(of_rank - panel),
                start,
                tokens: self.tokens.min(tokens - start),
            })
            .collect();
        let threads = rayon::current_num_threads();
        for piece in tasks.split_off(tasks.len() - tasks.len() % threads) {
            let step = piece.tokens.div_ceil(threads).next_multiple_of(mr).max(SHARED_TILES * mr);
            let cut = |at: usize| Task { start: piece.start + at, tokens: step.min(piece.tokens - at), ..piece };
            tasks.extend((0..piece.tokens).step_by(step).map(cut));
        }
        tasks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a processor with a second-level cache of so many KiB.
    fn cut(cache: usize, [terms, tokens, kept_by_token, kept, r]: [usize; 5]) -> Tiling {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
        let work = GemmShape { terms, r, tokens, kept_by_token, kept };
        pool.install(|| Tiling::on::<f32>(Processor::with_cache(cache << 10), work))
    }

    #[test]
    fn tasks_stay_in_cache_and_are_enough() {
        for (cache, least) in [(512, 8), (1024, 8), (2048, 2), (4096, 2)] {
            for [blocks, terms, tokens, r] in
                [[4, 192, 512, 305], [16, 192, 512, 288], [4, 1024, 64, 1022], [2, 48, 9, 33], [4, 768, 5000, 64]]
            {
                let kept = blocks * blocks;
                let Tiling { panels, tokens: tile } = cut(cache, [terms, tokens, blocks, kept, r]);
                let (nr, mr) = gemm::shape::<f32>();
                assert!(panels >= 1 && tile % mr == 0, "{panels} panels, {tile} tokens");
                let values = panels * nr * (kc(terms) + kept + blocks * tile.min(tokens));
                let kept = Processor::with_cache(cache << 10).kept_bytes;
                assert!(values * 4 <= kept, "{panels} panels, {tile} tokens, {cache} KiB");
                let tasks = r.div_ceil(nr).div_ceil(panels) * tokens.div_ceil(tile);
                assert!(tasks >= least || tokens < 8 * mr, "{tasks} tasks, {cache} KiB");
            }
        }
    }

    #[test]
    fn few_tokens_on_a_large_cache_are_a_strip_for_each_thread() {
        let (nr, _) = gemm::shape::<f32>();
        for (panels, of_rank) in [(5, 10), (3, 6), (8, 16)] {
            assert_eq!(cut(2048, [768, 24, 4, 16, of_rank * nr]).panels, panels, "{of_rank} panels");
        }
    }

    #[test]
    fn pieces_are_all_of_the_work_and_what_is_left_is_shared() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
        let (nr, mr) = gemm::shape::<f32>();
        for (panels, of_rank, tile, tokens, count) in
            [(1, 9, 64, 64, 10), (2, 9, 64, 64, 6), (1, 10, 512, 512, 10), (3, 7, 60, 100, 6), (1, 1, 12, 9, 1)]
        {
            let cut = Tiling { panels, tokens: tile };
            let tasks = pool.install(|| cut.tasks::<f32>(of_rank * nr, tokens));
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

    #[test]
    fn what_fits_nowhere_is_still_taken_in_large_pieces() {
        let (nr, mr) = gemm::shape::<f32>();
        let kept = SMALL_L2.kept_bytes / (nr * size_of::<f32>());
        let Tiling { panels, tokens } = cut(1024, [12, 512, 128, kept, 9 * nr]);
        assert_eq!(panels, 1);
        assert!(tokens >= 4 * mr, "{tokens} tokens");
    }
}
