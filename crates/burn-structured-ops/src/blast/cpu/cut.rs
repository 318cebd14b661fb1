//! How the work before the last product is shared out: strips of the rank by tiles of tokens.

use super::projection::run_terms;
use crate::cpu::Scalar;
use crate::cpu::panel::{self, tasks_wanted};
use gemm_common::cache::CACHE_INFO;

/// Bytes that a task may keep at the least and at the most, …
const KEPT_BYTES: [usize; 2] = [400 << 10, 1200 << 10];
/// … and what it leaves of a second-level cache, in which they have to stay, to the rows and the factor that pass through.
const PASSING_BYTES: usize = 624 << 10;
/// Panels of a strip at most.
const STRIP_PANELS: usize = 4;
/// Tiles of rows to take at least, whatever has to be kept for them.
const LEAST_TILES: usize = 8;
/// Tiles of rows of a task that is one thread's share of another.
const SHARED_TILES: usize = 3;
/// What an element of a factor costs beside one of the rows that meet it: it is read in short pieces, and packed.
const FACTOR_COST: usize = 8;

/// Bytes that a task may keep on this processor.
fn kept_bytes() -> usize {
    let [least, most] = KEPT_BYTES;
    CACHE_INFO[1].cache_bytes.saturating_sub(PASSING_BYTES).clamp(least, most)
}

/// What is shared out: rows by a factor in blocks of `terms` rows and `r` columns; there is at least one of each.
#[derive(Clone, Copy)]
pub(super) struct Work {
    pub terms: usize,
    pub r: usize,
    pub tokens: usize,
    /// Values that a task keeps for every component of its strip and each token, …
    pub kept_by_token: usize,
    /// … and for all tokens together.
    pub kept: usize,
}

/// What a task is: so many panels of the rank, and so many tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cut {
    pub panels: usize,
    pub tokens: usize,
}

/// A task: so many panels of the rank from `panel` on, for so many tokens from `start` on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Piece {
    pub panel: usize,
    pub panels: usize,
    pub start: usize,
    pub tokens: usize,
}

/// Tasks from which on more are not worth narrower strips or fewer tokens.
pub(super) fn enough_tasks() -> usize {
    tasks_wanted() / 2
}

impl Cut {
    /// The cut that reads least: rows are read once for every strip, and the factor once for every tile of tokens. If there are such,
    /// it is one whose tasks stay in cache and are enough for every thread to have several.
    pub fn new<E: Scalar>(work: Work) -> Self {
        let Work { terms, r, tokens, kept_by_token, kept } = work;
        let (width, tile_rows) = panel::shape::<E>();
        let of_rank = r.div_ceil(width);
        let (least, enough) = (LEAST_TILES * tile_rows, enough_tasks());
        let strips = |panels: usize| of_rank.div_ceil(panels);
        // Tokens that stay in cache.
        let most = |panels: usize| {
            let room = kept_bytes() / (panels * width * size_of::<E>());
            let by_tokens = room.saturating_sub(run_terms(terms) + kept);
            by_tokens / kept_by_token / tile_rows * tile_rows
        };
        let tiles = |panels: usize| {
            let fewest = tokens.div_ceil(most(panels).max(least));
            let enough = enough.div_ceil(strips(panels)).min(tokens.div_ceil(4 * tile_rows));
            [fewest, fewest.max(enough)]
        };
        let cut = |panels, tiles| Self { panels, tokens: tokens.div_ceil(tiles).next_multiple_of(tile_rows) };
        let factor = FACTOR_COST * of_rank * width;
        (1..=STRIP_PANELS.min(of_rank))
            // What fits nowhere has to go in the narrowest strips.
            .filter(|panels| *panels == 1 || most(*panels) >= least)
            .flat_map(|panels| tiles(panels).map(|tiles| cut(panels, tiles)))
            .min_by_key(|cut| {
                let (strips, tiles) = (strips(cut.panels), tokens.div_ceil(cut.tokens));
                let missing = enough.saturating_sub(strips * tiles);
                (missing, strips * tokens + tiles * factor)
            })
            .expect("a panel and a token at least")
    }

    /// The tasks of a rank of `r`, every strip of it for one tile of tokens after the other.
    ///
    /// What is left of them once all threads had equally many is cut again, a tile of tokens for each thread: of nine tasks on two
    /// threads, the last would take as long alone.
    pub fn pieces<E: Scalar>(self, r: usize, tokens: usize) -> Vec<Piece> {
        let (width, tile_rows) = panel::shape::<E>();
        let of_rank = r.div_ceil(width);
        let tiles = (0..tokens).step_by(self.tokens);
        let strips = (0..of_rank).step_by(self.panels);
        let mut pieces: Vec<Piece> = tiles
            .flat_map(|start| strips.clone().map(move |panel| (start, panel)))
            .map(|(start, panel)| Piece {
                panel,
                panels: self.panels.min(of_rank - panel),
                start,
                tokens: self.tokens.min(tokens - start),
            })
            .collect();
        let threads = rayon::current_num_threads();
        for piece in pieces.split_off(pieces.len() - pieces.len() % threads) {
            let step = piece.tokens.div_ceil(threads).next_multiple_of(tile_rows).max(SHARED_TILES * tile_rows);
            let cut = |at: usize| Piece { start: piece.start + at, tokens: step.min(piece.tokens - at), ..piece };
            pieces.extend((0..piece.tokens).step_by(step).map(cut));
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut([terms, tokens, kept_by_token, kept, r]: [usize; 5]) -> Cut {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
        pool.install(|| Cut::new::<f32>(Work { terms, r, tokens, kept_by_token, kept }))
    }

    #[test]
    fn tasks_stay_in_cache_and_are_enough() {
        for [blocks, terms, tokens, r] in
            [[4, 192, 512, 305], [16, 192, 512, 288], [4, 1024, 64, 1022], [2, 48, 9, 33], [4, 768, 5000, 64]]
        {
            let kept = blocks * blocks;
            let Cut { panels, tokens: tile } = cut([terms, tokens, blocks, kept, r]);
            let (width, tile_rows) = panel::shape::<f32>();
            assert!(panels >= 1 && tile % tile_rows == 0, "{panels} panels, {tile} tokens");
            let values = panels * width * (run_terms(terms) + kept + blocks * tile);
            assert!(values * 4 <= kept_bytes(), "{panels} panels, {tile} tokens");
            let tasks = r.div_ceil(width).div_ceil(panels) * tokens.div_ceil(tile);
            assert!(tasks >= 8 || tokens < 8 * tile_rows, "{tasks} tasks");
        }
    }

    #[test]
    fn pieces_are_all_of_the_work_and_what_is_left_is_shared() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
        let (width, tile_rows) = panel::shape::<f32>();
        for (panels, of_rank, tile, tokens, count) in
            [(1, 9, 64, 64, 10), (2, 9, 64, 64, 6), (1, 10, 512, 512, 10), (3, 7, 60, 100, 6), (1, 1, 12, 9, 1)]
        {
            let cut = Cut { panels, tokens: tile };
            let pieces = pool.install(|| cut.pieces::<f32>(of_rank * width, tokens));
            assert_eq!(pieces.len(), count, "{pieces:?}");
            let mut taken = vec![0; of_rank * tokens];
            for Piece { panel, panels, start, tokens: here } in pieces.iter().copied() {
                assert!(panels >= 1 && here >= 1 && start % tile % tile_rows == 0);
                for panel in panel..panel + panels {
                    taken[panel * tokens + start..][..here].iter_mut().for_each(|taken| *taken += 1);
                }
            }
            assert!(taken.iter().all(|taken| *taken == 1), "{pieces:?}");
        }
    }

    #[test]
    fn what_fits_nowhere_is_still_taken_in_large_pieces() {
        let (_, tile_rows) = panel::shape::<f32>();
        let Cut { panels, tokens } = cut([12, 512, 128, 3 * 64 * 64, 288]);
        assert_eq!(panels, 1);
        assert!(tokens >= 4 * tile_rows, "{tokens} tokens");
    }
}
