//! The element types with native code, and their SIMD vectors.

use super::math::Math;
use super::workspace::{MAX_KEPT_BYTES, Workspace};
use burn::tensor::Element;
use pulp::Simd;
use std::cell::RefCell;
use std::ops::{Add, AddAssign, Mul, Sub, SubAssign};

/// An element type with native code.
pub(crate) trait Scalar:
    Element
    + Math
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
    #[cfg(any(test, feature = "faer"))]
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

    /// Runs `body` with the buffer that this thread keeps as `workspace`.
    ///
    /// Its contents are whatever was left there. If `body` runs other work on this thread (as a join of rayon does) that takes the same
    /// workspace, that work gets an empty buffer.
    fn with_buffer<R>(workspace: Workspace, body: impl FnOnce(&mut Vec<Self>) -> R) -> R;
}

macro_rules! impl_scalar {
    ($($E:ty, $vector:ident, $splat:ident, $plus:ident, $fused:ident, $sum:ident);*) => {$(
        impl Scalar for $E {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[cfg(any(test, feature = "faer"))]
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

            fn with_buffer<R>(workspace: Workspace, body: impl FnOnce(&mut Vec<Self>) -> R) -> R {
                thread_local! {
                    static BUFFERS: RefCell<[Vec<$E>; 3]> = const { RefCell::new([Vec::new(), Vec::new(), Vec::new()]) };
                }
                let mut buffer = BUFFERS.with_borrow_mut(|buffers| std::mem::take(&mut buffers[workspace as usize]));
                let result = body(&mut buffer);
                if buffer.capacity() * size_of::<$E>() <= MAX_KEPT_BYTES {
                    BUFFERS.with_borrow_mut(|buffers| buffers[workspace as usize] = buffer);
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
