//! Loops compiled for the processor at hand.

use crate::cpu::Scalar;
use pulp::Simd;

/// The first register's worth of `values`.
#[inline(always)]
pub(crate) fn load<S: Simd, E: Scalar>(values: &[E]) -> E::Vector<S> {
    bytemuck::pod_read_unaligned(bytemuck::cast_slice(&values[..E::lanes::<S>()]))
}

/// The register's worth of elements from `start` on.
///
/// # Safety
///
/// They must be readable.
#[inline(always)]
pub(crate) unsafe fn load_at<S: Simd, E: Scalar>(start: *const E) -> E::Vector<S> {
    // SAFETY: as the caller says.
    unsafe { start.cast::<E::Vector<S>>().read_unaligned() }
}

/// Replaces the register's worth of elements from `start` on.
///
/// # Safety
///
/// They must be writable.
#[inline(always)]
pub(crate) unsafe fn store_at<S: Simd, E: Scalar>(start: *mut E, vector: E::Vector<S>) {
    // SAFETY: as the caller says.
    unsafe { start.cast::<E::Vector<S>>().write_unaligned(vector) };
}

/// Replaces the first register's worth of `values`.
#[inline(always)]
pub(crate) fn store<S: Simd, E: Scalar>(values: &mut [E], vector: E::Vector<S>) {
    bytemuck::cast_slice_mut(&mut values[..E::lanes::<S>()]).copy_from_slice(bytemuck::bytes_of(&vector));
}

/// Runs `body` compiled for the widest vector instructions of this processor.
///
/// `body` and what it calls must be `inline(always)`. (A plain closure given to `pulp` goes through a `call_once` adapter
/// that is not, and is then compiled for the least processor of the architecture.)
pub(crate) fn vectorized(body: impl FnMut()) {
    struct Vectorized<F>(F);

    impl<F: FnMut()> pulp::WithSimd for Vectorized<F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(mut self, _simd: S) {
            (self.0)();
        }
    }

    pulp::Arch::new().dispatch(Vectorized(body));
}

/// The output of `operation` with every instruction set of this processor that has code of its own, the scalar one first.
#[cfg(test)]
pub(crate) fn on_every_instruction_set<O: pulp::WithSimd + Copy>(operation: O) -> Vec<O::Output> {
    let mut outputs = vec![Simd::vectorize(pulp::Scalar::new(), operation)];
    #[cfg(target_arch = "x86_64")]
    {
        outputs.extend(pulp::x86::V3::try_new().map(|simd| Simd::vectorize(simd, operation)));
        outputs.extend(pulp::x86::V4::try_new().map(|simd| Simd::vectorize(simd, operation)));
    }
    #[cfg(target_arch = "aarch64")]
    outputs.push(pulp::Arch::new().dispatch(operation));
    outputs
}
