//! Loops compiled for the processor at hand.

/// Runs `body` compiled for the widest vector instructions of this processor.
///
/// `body` and what it calls must be `inline(always)`. (A plain closure given to `pulp` goes through a `call_once` adapter
/// that is not, and is then compiled for the least processor of the architecture.)
pub(crate) fn vectorized(body: impl FnMut()) {
    struct Vectorized<F>(F);

    impl<F: FnMut()> pulp::WithSimd for Vectorized<F> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(mut self, _simd: S) {
            (self.0)();
        }
    }

    pulp::Arch::new().dispatch(Vectorized(body));
}
