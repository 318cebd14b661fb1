//! The element types with native code, and their vectors.

use burn::tensor::Element;
use pulp::Simd;
use std::cell::RefCell;
use std::ops::{Add, AddAssign, Mul, Sub, SubAssign};

/// An element type with native code.
pub(crate) trait Scalar:
    Element
    + bytemuck::Pod
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + AddAssign
    + SubAssign
    + Send
    + Sync
{
    const ZERO: Self;
    const ONE: Self;
    const NAN: Self;

    /// One register of the instruction set `S`.
    type Vector<S: Simd>: bytemuck::Pod;

    /// `self · a + b`, in one instruction where every current processor of the architecture has it.
    fn mul_add(self, a: Self, b: Self) -> Self;

    /// `value` in every lane.
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S>;

    /// `a + b` in every lane.
    fn plus<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;

    /// `a · b + c` in every lane.
    fn fused<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>, c: Self::Vector<S>) -> Self::Vector<S>;

    /// The sum of all lanes.
    fn sum<S: Simd>(simd: S, a: Self::Vector<S>) -> Self;

    /// Elements of a register.
    #[inline(always)]
    fn lanes<S: Simd>() -> usize {
        size_of::<Self::Vector<S>>() / size_of::<Self>()
    }

    /// RowChunks `body` with the buffer that this thread keeps under `slot`.
    ///
    /// Buffers keep their allocation, so that a product does not pay for fresh pages each time. The contents are whatever
    /// was left there. `body` may run other work on this thread (as a join of rayon does) that asks for the same slot; it is
    /// then handed an empty buffer.
    fn with_buffer<R>(slot: Workspace, body: impl FnOnce(&mut Vec<Self>) -> R) -> R;
}

/// The buffers a thread keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Workspace {
    /// Intermediates that one call shares between its threads.
    Shared,
    /// The result of one call that another one goes on from.
    Product,
    /// What one task needs for itself.
    Task,
}

/// Cuts a buffer, grown if need be, into split_aligned of the given lengths, each of which begins with a cache line: a vector that lies
/// across two lines is read twice.
pub(crate) fn split_aligned<E: Scalar, const N: usize>(buffer: &mut Vec<E>, lengths: [usize; N]) -> [&mut [E]; N] {
    let line = LINE / size_of::<E>();
    let total = lengths.iter().map(|len| len.next_multiple_of(line)).sum::<usize>() + line;
    if buffer.len() < total {
        buffer.resize(total, E::ZERO);
    }
    let aligned = buffer.as_ptr().align_offset(LINE).min(line);
    let mut rest = &mut buffer[aligned..];
    lengths.map(|len| {
        let token_chunk = rest.split_off_mut(..len.next_multiple_of(line)).expect("the buffer holds all split_aligned");
        &mut token_chunk[..len]
    })
}

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;
/// A buffer longer than this many bytes is given back after use.
const KEPT_BYTES: usize = 32 << 20;

macro_rules! impl_scalar {
    ($($E:ty, $vector:ident, $splat:ident, $plus:ident, $fused:ident, $sum:ident);*) => {$(
        impl Scalar for $E {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NAN: Self = <$E>::NAN;

            type Vector<S: Simd> = S::$vector;

            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
                    <$E>::mul_add(self, a, b)
                } else {
                    self * a + b
                }
            }

            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> S::$vector {
                simd.$splat(value)
            }

            #[inline(always)]
            fn plus<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
                simd.$plus(a, b)
            }

            #[inline(always)]
            fn fused<S: Simd>(simd: S, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                simd.$fused(a, b, c)
            }

            #[inline(always)]
            fn sum<S: Simd>(simd: S, a: S::$vector) -> Self {
                simd.$sum(a)
            }

            fn with_buffer<R>(slot: Workspace, body: impl FnOnce(&mut Vec<Self>) -> R) -> R {
                thread_local! {
                    static BUFFERS: RefCell<[Vec<$E>; 3]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
                }
                let mut buffer = BUFFERS.with_borrow_mut(|buffers| std::mem::take(&mut buffers[slot as usize]));
                let result = body(&mut buffer);
                if buffer.capacity() * size_of::<$E>() <= KEPT_BYTES {
                    BUFFERS.with_borrow_mut(|buffers| buffers[slot as usize] = buffer);
                }
                result
            }
        }
    )*};
}

impl_scalar!(
    f32, f32s, splat_f32s, add_f32s, mul_add_e_f32s, reduce_sum_f32s;
    f64, f64s, splat_f64s, add_f64s, mul_add_e_f64s, reduce_sum_f64s
);
