//! Matrix products out of packed panels, for structures that a general GEMM serves badly.
//!
//! A structured product is a chain of many small products with something in between. A general GEMM packs its operands
//! anew in every call, leaves its result in memory in one order and takes the next operand in that order alone. Here the
//! pieces are separate: a strip of a factor is packed (`pack.rs`) once into panels, and a tile (`tile.rs`) of rows meets a
//! panel wherever its rows lie and wherever its result has to go. On one core of an AVX2 processor the tiles reach 95 to 98 % of
//! the arithmetic peak out of its caches.
//!
//! # Panels
//!
//! A panel holds [`width`] columns of a factor, term by term: element `(k, c)` at `k · width + c`. Columns missing from the last
//! panel are zero. `width` is two vector registers, so that a tile of six rows (twelve where there are 32 registers) fills
//! the registers with sums and every loaded value is used as often as possible.

mod ahead;
mod blocks;
mod output;
mod over_tokens;
mod pack;
pub(crate) mod prefetch;
mod product;
mod rows;
mod tile;
mod tiling;
mod transpose;

pub(crate) use ahead::{Ahead, Beside};
pub(crate) use blocks::{side_by_side, tasks_wanted};
pub(crate) use output::{Landing, SharedOutput, Target, filled};
pub(crate) use over_tokens::{over_tokens, turn_around, turned_stride};
pub(crate) use product::{multiply_panels, pack_and_multiply};
pub(crate) use rows::Rows;
pub(crate) use tiling::{PLACES_BYTES, competing_stride, even_share, steps, tile_of};
pub(crate) use transpose::transpose;

use super::Scalar;
use pulp::Simd;

/// Columns of a panel.
#[inline(always)]
pub(crate) fn width<S: Simd, E: Scalar>() -> usize {
    2 * E::lanes::<S>()
}

/// Rows of the largest tile.
#[inline(always)]
pub(crate) fn tile_rows<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 12 } else { 6 }
}

/// [`width`] and [`tile_rows`] of the instruction set that [`pulp::Arch`] chooses on this processor.
pub(crate) fn shape<E: Scalar>() -> (usize, usize) {
    struct Shape<E>(std::marker::PhantomData<E>);

    impl<E: Scalar> pulp::WithSimd for Shape<E> {
        type Output = (usize, usize);

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> Self::Output {
            (width::<S, E>(), tile_rows::<S>())
        }
    }

    pulp::Arch::new().dispatch(Shape::<E>(std::marker::PhantomData))
}
