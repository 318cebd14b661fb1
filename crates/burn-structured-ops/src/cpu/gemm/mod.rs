//! Products out of packed panels.
//!
//! A structured product is a chain of small products with something in between. A general GEMM library packs its operands anew in every
//! call, stores its result in one order and reads the next operand in that order alone. Here these are separate, with the words of BLIS
//! (Van Zee, van de Geijn, *BLIS: A Framework for Rapidly Instantiating BLAS Functionality*, ACM TOMS 2015):
//!
//! ```text
//! pack.rs          a factor into panels: NR columns wide, depth after depth, missing columns zero
//! microkernel.rs   MR rows times one panel, summed in registers
//! macrokernel.rs   rows times panels, tile after tile, packing the factor as the first tile reads it
//! epilogue.rs      what happens to a tile as it is stored: store, accumulate, bias
//! finish.rs        what follows when its sums are complete: activation, gate, residual
//! prefetch.rs      prefetches the next factor
//! blocking.rs      KC, NC and tasks, from the caches and the threads
//! grouped.rs       grouped GEMM; gemm_tn.rs: products over the tokens
//! ```
//!
//! Rows are read in place, and may lie in several runs. `NR` is two vector registers and `MR` 6 rows (12 with 32 registers), so that
//! the register tile fills the registers and each loaded value is used as often as possible.

mod blocking;
mod epilogue;
mod finish;
mod gemm_tn;
mod grouped;
mod macrokernel;
mod microkernel;
mod pack;
mod prefetch;
mod rows;
mod transpose;

pub(crate) use blocking::{L1_SET_STRIDE, balanced_chunk, stride_aliases_in_l1, tasks_wanted};
pub(crate) use epilogue::{Epilogue, Target};
pub(crate) use finish::Finish;
pub(crate) use gemm_tn::{TASK_TILES, gemm_tn, product_over_tokens, transpose_into, transpose_to, transposed_stride};
pub(crate) use grouped::{blocked_gemm, grouped_gemm, grouped_product, packed_len};
pub(crate) use macrokernel::{gemm_packed, pack_and_gemm};
pub(crate) use pack::pack_panels;
pub(crate) use rows::Rows;
pub(crate) use transpose::transpose;

use crate::cpu::Scalar;
use pulp::Simd;

/// Columns of a panel and of the register tile.
#[inline(always)]
pub(crate) fn nr<S: Simd, E: Scalar>() -> usize {
    2 * E::lanes::<S>()
}

/// Rows of the register tile.
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
