//! Matrix products out of packed panels, for structures that a general GEMM serves badly.
//!
//! A structured product is a chain of many small products with something in between. A general GEMM packs its operands
//! anew in every call, leaves its result in memory in one order and takes the next operand in that order alone. Here the
//! tasks are separate: a strip of a factor is packed (`pack.rs`) once into panels, and a tile (`tile.rs`) of rows meets a
//! panel wherever its rows lie and wherever its result has to go. On one core of an AVX2 processor the tiles reach 95 to 98 % of
//! the arithmetic peak out of its caches.
//!
//! # Panels
//!
//! A panel holds [`nr`] columns of a factor, term by term: element `(k, c)` at `k · nr + c`. Columns missing from the last
//! panel are zero. `nr` is two vector registers, so that a tile of six rows (twelve where there are 32 registers) fills
//! the registers with sums and every loaded value is used as often as possible.

mod blocking;
mod epilogue;
mod gemm_tn;
mod grouped;
mod macrokernel;
mod microkernel;
mod pack;
mod prefetch;
mod rows;
mod transpose;

pub(crate) use blocking::{L1_SET_STRIDE, balanced_chunk, prefetch_steps, stride_aliases_in_l1, tile_of};
pub(crate) use epilogue::{Epilogue, SharedOutput, Target, alloc_uninit_with};
pub(crate) use gemm_tn::{gemm_tn, transpose_into, transposed_stride};
pub(crate) use grouped::{grouped_gemm, tasks_wanted};
pub(crate) use macrokernel::{multiply_panels, pack_and_multiply};
pub(crate) use prefetch::{ExtraPrefetch, PrefetchCursor};
pub(crate) use rows::Rows;
pub(crate) use transpose::transpose;

use super::Scalar;
use pulp::Simd;

/// Columns of a panel.
#[inline(always)]
pub(crate) fn nr<S: Simd, E: Scalar>() -> usize {
    2 * E::lanes::<S>()
}

/// Rows of the largest tile.
#[inline(always)]
pub(crate) fn mr<S: Simd>() -> usize {
    if S::REGISTER_COUNT >= 32 { 12 } else { 6 }
}

/// [`nr`] and [`mr`] of the instruction set that [`pulp::Arch`] chooses on this processor.
pub(crate) fn shape<E: Scalar>() -> (usize, usize) {
    struct Shape<E>(std::marker::PhantomData<E>);

    impl<E: Scalar> pulp::WithSimd for Shape<E> {
        type Output = (usize, usize);

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> Self::Output {
            (nr::<S, E>(), mr::<S>())
        }
    }

    pulp::Arch::new().dispatch(Shape::<E>(std::marker::PhantomData))
}
