//! How the work before the last product is shared out: strips of the rank by tiles of tokens.

use super::layout::CoupledLayout;
use super::projection::run_terms;
use crate::cpu::Scalar;
use crate::cpu::panel::{self, tasks_wanted};

/// Bytes that a task may keep: they have to stay in a second-level cache.
const KEPT_BYTES: usize = 400 << 10;
/// Panels of a strip at most.
const STRIP_PANELS: usize = 4;
/// Tiles of rows to take at least, whatever has to be kept for them.
const LEAST_TILES: usize = 8;
/// What an element of a factor costs beside one of the rows that meet it: it is read in short pieces, and packed.
const FACTOR_COST: usize = 8;

/// What a task works on: `blocks` blocks of `terms` columns each, of rows and of a factor.
#[derive(Clone, Copy)]
pub(super) struct Work {
    pub blocks: usize,
    pub terms: usize,
    pub tokens: usize,
    /// Values that it keeps for every component of its strip, each token, …
    pub kept_by_token: usize,
    /// … and all tokens together.
    pub kept: usize,
}

/// What a task is: so many panels of the rank, and so many tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cut {
    pub panels: usize,
    pub tokens: usize,
}

impl Cut {
    /// The cut that reads least: rows are read once for every strip, and the factor once for every tile of tokens. If there are such,
    /// it is one whose tasks stay in cache and are enough for every thread to have several.
    pub fn new<E: Scalar>(work: Work, layout: CoupledLayout) -> Self {
        let Work { blocks, terms, tokens, kept_by_token, kept } = work;
        let (_, tile_rows) = panel::shape::<E>();
        let factor = FACTOR_COST * layout.panels * layout.width;
        let mut best = (Self { panels: 1, tokens }, usize::MAX, 0);
        for panels in 1..=STRIP_PANELS.min(layout.panels) {
            let column_bytes = panels * layout.width * size_of::<E>();
            let room = (KEPT_BYTES / column_bytes).saturating_sub(run_terms::<E>(terms, layout.width) + kept);
            let most = (room / kept_by_token.max(1) / tile_rows * tile_rows).max(if panels == 1 {
                LEAST_TILES * tile_rows
            } else {
                0
            });
            if most < LEAST_TILES * tile_rows {
                continue;
            }
            let strips = layout.panels.div_ceil(panels);
            let fewest = tokens.div_ceil(most);
            let wanted = (tasks_wanted() / 2).div_ceil(strips).min(tokens.div_ceil(4 * tile_rows));
            for tiles in [fewest, fewest.max(wanted)] {
                let tile = tokens.div_ceil(tiles.max(1)).next_multiple_of(tile_rows);
                let tasks = (strips * tokens.div_ceil(tile)).min(tasks_wanted() / 2);
                let cost = (strips * tokens + tokens.div_ceil(tile) * factor) * blocks * terms;
                if (tasks, std::cmp::Reverse(cost)) > (best.2, std::cmp::Reverse(best.1)) {
                    best = (Self { panels, tokens: tile }, cost, tasks);
                }
            }
        }
        best.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut([blocks, terms, tokens, kept_by_token, kept, r]: [usize; 6]) -> Cut {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
        let work = Work { blocks, terms, tokens, kept_by_token, kept };
        pool.install(|| Cut::new::<f32>(work, CoupledLayout::new::<f32>(r, blocks, tokens)))
    }

    #[test]
    fn tasks_stay_in_cache_and_are_enough() {
        for [blocks, terms, tokens, r] in
            [[4, 192, 512, 305], [16, 192, 512, 288], [4, 1024, 64, 1022], [2, 48, 9, 33], [4, 768, 5000, 64]]
        {
            let kept = blocks * blocks;
            let Cut { panels, tokens: tile } = cut([blocks, terms, tokens, blocks, kept, r]);
            let layout = CoupledLayout::new::<f32>(r, blocks, tokens);
            let (_, tile_rows) = panel::shape::<f32>();
            assert!(panels >= 1 && tile % tile_rows == 0, "{panels} panels, {tile} tokens");
            let values = panels * layout.width * (run_terms::<f32>(terms, layout.width) + kept + blocks * tile);
            assert!(values * 4 <= KEPT_BYTES, "{panels} panels, {tile} tokens");
            let tasks = layout.panels.div_ceil(panels) * tokens.div_ceil(tile);
            assert!(tasks >= 8 || tokens < 8 * tile_rows, "{tasks} tasks");
        }
    }

    #[test]
    fn what_fits_nowhere_is_still_taken_in_large_pieces() {
        let (_, tile_rows) = panel::shape::<f32>();
        let Cut { panels, tokens } = cut([64, 12, 512, 128, 3 * 64 * 64, 288]);
        assert_eq!(panels, 1);
        assert!(tokens >= 4 * tile_rows, "{tokens} tokens");
    }
}
