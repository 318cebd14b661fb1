//! Products without gradients: few tokens, for which there are kernels of their own, and every strategy.

use super::case::{Case, Sizes};
use super::reference::{Reference, check};
use super::run::{Tracked, forward_backward};
use crate::backends::{
    BackendTest, EVERY_STRATEGY, Scope, StructuredBackend, TestBackend, every_backend, public_devices,
};
use crate::tensors::Layout;
use burn::tensor::{DType, Tensor};
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_structured_ops::BlastStrategy;
use burn_structured_ops::blast::BlastCandidate;
use burn_structured_ops::blast::{UnsupportedStrategy, blast_unsupported};

const INFERENCE: Tracked = Tracked { x: false, u: false, s: false, v: false, bias: Some(false) };

impl<B: StructuredBackend> TestBackend<B> {
    fn check_inference(&self, sizes: Sizes, dtype: DType, layout: Layout, strategy: BlastStrategy, bias: bool) {
        let mut case = Case::random(sizes, 5, dtype);
        let mut tracked = INFERENCE;
        if !bias {
            case.bias.fill(0.0);
            tracked.bias = None;
        }
        if layout == Layout::Broadcast {
            case = case.repeat_first_token();
        }
        let outcome = forward_backward::<B, NoCheckpointing>(&case, dtype, layout, strategy, tracked, &self.device);
        let what = format!("{}, {dtype:?}, {layout:?}, {strategy:?}, {sizes:?}", self.name);
        check(&what, dtype, sizes, &outcome, &Reference::of(&case));
    }
}

/// One launch and two; more rows and ranks than a cube takes at a time, and fewer; every capacity in tokens.
const DECODED: [[usize; 6]; 11] = [
    [1, 1, 1, 1, 1, 1],
    [1, 3, 2, 17, 15, 33],
    [2, 4, 4, 16, 127, 126],
    [5, 17, 3, 2, 9, 7],
    // Two launches, with vectors along the rank and without, by narrow slices of it and wide ones.
    [1, 3, 3, 40, 600, 152],
    [1, 2, 2, 16, 200, 784],
    [2, 3, 3, 40, 1200, 152],
    [2, 2, 17, 9, 140, 127],
    [1, 70, 2, 3, 1100, 64],
    [8, 2, 2, 260, 300, 270],
    [7, 1, 2, 300, 260, 270],
];

/// The same for a processor, on which two tokens at most are decoded and every barrier takes milliseconds.
const DECODED_BY_THREADS: [[usize; 6]; 3] = [[1, 1, 1, 1, 1, 1], [2, 3, 2, 5, 7, 9], [2, 1, 1, 5, 1100, 126]];

struct FewTokens;

impl BackendTest for FewTokens {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        let decoded = if backend.is_processor() { &DECODED_BY_THREADS[..] } else { &DECODED };
        for dtype in backend.dtypes() {
            for sizes in decoded.iter().copied().map(Sizes::from) {
                if backend.scope != Scope::Native && dtype != DType::F32 && sizes.tokens != 2 {
                    continue;
                }
                backend.check_inference(sizes, dtype, Layout::Contiguous, BlastStrategy::Decode, sizes.tokens % 2 == 0);
            }
        }
        for layout in [Layout::Permuted, Layout::Sliced, Layout::Broadcast] {
            // One launch and two.
            let sizes: &[[usize; 6]] = match backend.is_processor() {
                true => &[[2, 2, 3, 3, 5, 7]],
                false => &[[3, 2, 3, 17, 15, 33], [3, 2, 3, 17, 400, 152]],
            };
            for sizes in sizes.iter().copied().map(Sizes::from) {
                backend.check_inference(sizes, DType::F32, layout, BlastStrategy::Decode, true);
            }
        }
    }
}

#[test]
fn few_tokens_match_the_reference() {
    every_backend(&FewTokens);
}

struct EveryStrategy;

impl BackendTest for EveryStrategy {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        // Where Burn's own matmul is wrong, so is all that rests on it.
        let products = backend.products();
        let all = |dtype| {
            products.iter().any(|(with, strategies)| *with == dtype && strategies.contains(&BlastStrategy::Auto))
        };
        let once = backend.scope == Scope::Fused || backend.is_processor();
        // On a processor the others are one and the same, and some take seconds a product.
        let differs = |strategy: &BlastStrategy| match strategy {
            BlastStrategy::Fused | BlastStrategy::Candidate(BlastCandidate::TiledGemm) => true,
            _ => !backend.is_processor(),
        };
        for strategy in EVERY_STRATEGY.into_iter().filter(|strategy| all(DType::F32) && differs(strategy)) {
            for tokens in [7, 33].into_iter().take(if once { 1 } else { 2 }) {
                // More output blocks than the fused kernel takes at a time.
                let sizes = Sizes { tokens, b1: 18, b2: 2, p: 5, q: 17, r: 20 };
                backend.check_inference(sizes, DType::F32, Layout::Contiguous, strategy, true);
            }
        }
    }
}

#[test]
fn every_strategy_matches_the_reference() {
    every_backend(&EveryStrategy);
}

#[test]
fn unsupported_strategies_say_why() {
    for device in public_devices() {
        let zeros = |shape: [usize; 3]| Tensor::<3>::zeros(shape, &device);
        let (u, s, v) = (zeros([2, 3, 4]), zeros([2, 3, 4]), zeros([3, 5, 4]));
        let unsupported =
            |tokens, strategy| blast_unsupported(&Tensor::<2>::zeros([tokens, 15], &device), &u, &s, &v, strategy);
        assert_eq!(unsupported(9, BlastStrategy::Auto), None, "{device:?}");
        let expected = match device.as_dispatch() {
            #[cfg(feature = "cpu")]
            burn::backend::DispatchDevice::Cube(burn_cubecl::CubeDevice::Cpu(_)) => {
                let too_many = |tokens| Some(UnsupportedStrategy::Tokens { tokens, most: 2 });
                [too_many(9), too_many(8), None]
            }
            #[cfg(feature = "cube")]
            burn::backend::DispatchDevice::Cube(_) => {
                [Some(UnsupportedStrategy::Tokens { tokens: 9, most: 8 }), None, None]
            }
            // Flex has these strategies, but nothing to tune.
            #[cfg(feature = "flex")]
            burn::backend::DispatchDevice::Flex(_) => {
                assert_eq!(
                    unsupported(9, BlastStrategy::Candidate(BlastCandidate::Autotuned)),
                    Some(UnsupportedStrategy::Backend)
                );
                [None; 3]
            }
            _ => [Some(UnsupportedStrategy::Backend); 3],
        };
        let actual = [(9, BlastStrategy::Decode), (8, BlastStrategy::Decode), (9, BlastStrategy::Fused)]
            .map(|(t, s)| unsupported(t, s));
        assert_eq!(actual, expected, "{device:?}");
        let x = Tensor::<2>::zeros([9, 15], &device);
        let [u, s, v] = [u, s, v].map(Tensor::autodiff);
        let tracked = blast_unsupported(&x.autodiff(), &u, &s, &v, BlastStrategy::Decode);
        assert_eq!(tracked, expected[0], "{device:?}, with gradients");
    }
}
