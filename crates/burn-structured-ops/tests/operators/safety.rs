//! Operands that do not fit: every stage of every backend panics before a kernel runs.

use crate::backends::{
    BackendTest, Scope, StructuredBackend, TestBackend, every_backend, public_devices, public_dtypes,
};
use crate::tensors::{Layout, place, read};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend};
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_structured_ops::blast::BlastCandidate;
use burn_structured_ops::block_diagonal::{BlockDiagonalBackend, BlockStrategy, Order, Orders, block_diagonal_linear};
use burn_structured_ops::dense::dense_linear;
use burn_structured_ops::kronecker::kronecker_linear;
use burn_structured_ops::low_rank::low_rank_linear;
use burn_structured_ops::monarch::monarch_linear;
use burn_structured_ops::spd::{SpdBackend, SpdError, SpdStrategy, try_spd_solve};
use burn_structured_ops::ss1::{Fold, Rotations, Ss1Strategy, ss1_linear};
use burn_structured_ops::{BlastStrategy, OptionalTensor, blast_linear};
use std::panic::{AssertUnwindSafe, catch_unwind};

type Ad<B> = Autodiff<B, NoCheckpointing>;

const BLAST: [BlastStrategy; 5] = [
    BlastStrategy::Auto,
    BlastStrategy::Reference,
    BlastStrategy::Staged,
    BlastStrategy::Decode,
    BlastStrategy::Candidate(BlastCandidate::TiledGemm),
];
const SS1: [Ss1Strategy; 2] = [Ss1Strategy::Auto, Ss1Strategy::Reference];
const BLOCK: [BlockStrategy; 3] = [BlockStrategy::Auto, BlockStrategy::Reference, BlockStrategy::TiledGemm];
const SPD: [SpdStrategy; 3] = [SpdStrategy::Auto, SpdStrategy::Reference, SpdStrategy::TiledGemm];

/// A fold of 16 features into 8 stored weights a row, 4 rows to a block.
const FOLD: Fold =
    Fold { d_input: 16, reduction: 2, block_k: 4, block_n: 4, rotations: Rotations::Drawn { seed: 1, signs: true } };

/// Uploads operands, and collects the calls that return a result for operands that do not fit.
struct Calls<'a, B: StructuredBackend> {
    backend: &'a TestBackend<B>,
    accepted: Vec<String>,
}

impl<B: StructuredBackend> Calls<'_, B> {
    fn upload<const D: usize>(&self, shape: [usize; D], dtype: DType) -> FloatTensor<B> {
        let values = vec![1.0; shape.iter().product()];
        place::<B>(&values, &shape, dtype, Layout::Contiguous, &self.backend.device)
    }

    fn expect_panic(&mut self, call: impl std::fmt::Debug, run: impl FnOnce(&Self) -> FloatTensor<B>) {
        // The result is read, so that an error of a delayed kernel shows as well.
        if catch_unwind(AssertUnwindSafe(|| read::<B>(run(self)))).is_ok() {
            self.accepted.push(format!("{call:?}"));
        }
    }
}

impl<'a, B: StructuredBackend> Calls<'a, B> {
    fn new(backend: &'a TestBackend<B>) -> Self {
        Self { backend, accepted: Vec::new() }
    }

    fn assert_none_accepted(&self) {
        assert!(self.accepted.is_empty(), "{} accepted {:#?}", self.backend.name, self.accepted);
    }
}

struct BlastStages;

impl BackendTest for BlastStages {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        let mut calls = Calls::new(backend);
        const F: DType = DType::F32;
        // Other numbers of features, tokens, blocks and ranks, on either side of the right ones.
        for strategy in BLAST {
            for factor in [[2, 4, 5], [4, 4, 5], [5, 4, 2]] {
                calls.expect_panic(("project", factor, strategy), |calls| {
                    B::blast_project(calls.upload([3, 12], F), calls.upload(factor, F), strategy)
                });
            }
            for factor in [[3, 5, 4], [1, 5, 4], [2, 5, 8], [2, 5, 2]] {
                calls.expect_panic(("expand", factor, strategy), |calls| {
                    B::blast_expand(calls.upload([2, 3, 4], F), calls.upload(factor, F), strategy)
                });
            }
            for z in [[5, 3, 4], [4, 2, 4], [4, 6, 4]] {
                calls.expect_panic(("factor gradient", z, strategy), |calls| {
                    B::blast_factor_gradient(calls.upload([3, 12], F), calls.upload(z, F), strategy)
                });
            }
            let product = |calls: &Calls<B>, u, s, v, bias: [usize; 1]| {
                let (x, bias) = (calls.upload([3, 12], F), OptionalTensor::Some(calls.upload(bias, F)));
                let [u, s, v] = [u, s, v].map(|shape| calls.upload(shape, F));
                B::blast_forward(x, u, s, v, bias.into(), strategy)
            };
            for (u, s, v, bias) in [
                ([2, 5, 4], [2, 2, 4], [3, 4, 4], [10]),
                ([2, 5, 4], [1, 3, 4], [3, 4, 4], [10]),
                ([2, 5, 4], [2, 3, 2], [3, 4, 4], [10]),
                ([2, 5, 2], [2, 3, 4], [3, 4, 4], [10]),
                ([2, 5, 4], [2, 3, 4], [3, 2, 4], [10]),
                ([2, 5, 4], [2, 3, 4], [3, 4, 4], [9]),
            ] {
                calls.expect_panic(("product", u, s, v, bias, strategy), |calls| product(calls, u, s, v, bias));
            }
            for (z, dy) in [([2, 3, 4], [3, 10]), ([3, 2, 4], [3, 10]), ([3, 3, 4], [2, 10]), ([3, 3, 4], [3, 8])] {
                calls.expect_panic(("gradients", z, dy, strategy), |calls| {
                    let [u, s, v, z] = [[2, 5, 4], [2, 3, 4], [3, 4, 4], z].map(|shape| calls.upload(shape, F));
                    B::blast_gradients(calls.upload([3, 12], F), u, s, v, z, calls.upload(dy, F), strategy).1
                });
            }
        }
        for s in [[5, 3, 4], [5, 1, 4], [5, 2, 8], [5, 2, 2]] {
            let couple = |calls: &Calls<B>| B::blast_couple(calls.upload([2, 3, 4], F), calls.upload(s, F));
            calls.expect_panic(("couple", s), couple);
            calls.expect_panic(("coupling backward", s), |calls| {
                let [t_grad, z, s] = [[5, 3, 4], [2, 3, 4], s].map(|shape| calls.upload(shape, F));
                B::blast_coupling_backward(t_grad, z, s).0
            });
        }
        for z in [[2, 6, 4], [2, 2, 4], [2, 3, 8], [2, 3, 2]] {
            calls.expect_panic(("coupling gradient", z), |calls| {
                B::blast_coupling_gradient(calls.upload([5, 3, 4], F), calls.upload(z, F))
            });
        }
        calls.assert_none_accepted();
    }
}

#[test]
fn blast_stages_reject_unfit_shapes() {
    every_backend(&BlastStages);
}

struct Ss1Stages;

impl BackendTest for Ss1Stages {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        let mut calls = Calls::new(backend);
        const F: DType = DType::F32;
        for n in [12, 20] {
            calls.expect_panic(("fold", n), |calls| B::ss1_fold(calls.upload([3, n], F), FOLD, 0));
        }
        for width in [4, 12] {
            calls.expect_panic(("unfold", width), |calls| B::ss1_unfold(calls.upload([3, width], F), FOLD, 0));
        }
        // Zeros, and positions that no index of 32 bits reaches.
        for fold in [
            Fold { reduction: 0, ..FOLD },
            Fold { block_k: 0, ..FOLD },
            Fold { block_n: 0, ..FOLD },
            Fold { reduction: 1 << 31, ..FOLD },
            Fold { block_k: usize::MAX / 2, ..FOLD },
        ] {
            calls.expect_panic(fold, |calls| B::ss1_fold(calls.upload([3, 16], F), fold, 0));
        }
        for strategy in SS1 {
            for (x, z) in [([3, 12], [8, 6]), ([3, 16], [4, 6]), ([3, 16], [12, 6])] {
                calls.expect_panic(("product", x, z, strategy), |calls| {
                    B::ss1_product(calls.upload(x, F), calls.upload(z, F), OptionalTensor::None.into(), FOLD, strategy)
                });
            }
            for (dy, z) in [([3, 5], [8, 6]), ([3, 8], [8, 6]), ([3, 6], [4, 6]), ([3, 6], [12, 6])] {
                calls.expect_panic(("input gradient", dy, z, strategy), |calls| {
                    B::ss1_input_gradient(calls.upload(dy, F), calls.upload(z, F), FOLD, strategy)
                });
            }
            for (x, dy) in [([3, 12], [3, 6]), ([3, 16], [2, 6]), ([3, 16], [4, 6])] {
                calls.expect_panic(("weight gradient", x, dy, strategy), |calls| {
                    B::ss1_weight_gradient(calls.upload(x, F), calls.upload(dy, F), FOLD, strategy)
                });
            }
        }
        calls.assert_none_accepted();
    }
}

#[test]
fn ss1_stages_reject_unfit_shapes() {
    every_backend(&Ss1Stages);
}

struct BlockDiagonalStages;

impl BackendTest for BlockDiagonalStages {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        let mut calls = Calls::new(backend);
        const F: DType = DType::F32;
        let orders = Orders { input: Order::Grouped, output: Order::Strided };
        for strategy in BLOCK {
            for orders in [Orders::default(), orders] {
                for (w, bias) in [([2, 5, 4], [10]), ([4, 5, 4], [20]), ([3, 5, 4], [14])] {
                    calls.expect_panic(("product", w, bias, orders, strategy), |calls| {
                        let (x, bias) = (calls.upload([3, 12], F), OptionalTensor::Some(calls.upload(bias, F)));
                        B::block_diagonal_product(x, calls.upload(w, F), bias.into(), orders, strategy)
                    });
                }
                for (dy, blocks) in [([2, 15], 3), ([4, 15], 3), ([3, 15], 5), ([3, 10], 3), ([3, 15], 0)] {
                    calls.expect_panic(("gradient", dy, blocks, orders, strategy), |calls| {
                        let (x, dy) = (calls.upload([3, 12], F), calls.upload(dy, F));
                        B::block_diagonal_gradient(x, dy, blocks, orders, strategy)
                    });
                }
            }
        }
        calls.assert_none_accepted();
    }
}

#[test]
fn block_diagonal_stages_reject_unfit_shapes() {
    every_backend(&BlockDiagonalStages);
}

struct SpdStages;

impl BackendTest for SpdStages {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        let mut calls = Calls::new(backend);
        const F: DType = DType::F32;
        for strategy in SPD {
            for a in [[2, 3, 4], [2, 3, 2]] {
                calls.expect_panic(("factor", a, strategy), |calls| B::spd_factor(calls.upload(a, F), strategy));
            }
            for (factor, b) in [([2, 3, 3], [2, 4, 2]), ([2, 3, 3], [4, 3, 2]), ([2, 3, 2], [2, 3, 2])] {
                calls.expect_panic(("substitute", factor, b, strategy), |calls| {
                    B::spd_substitute(calls.upload(factor, F), calls.upload(b, F), strategy)
                });
            }
            for x in [[2, 3, 5], [2, 4, 2], [1, 3, 2]] {
                calls.expect_panic(("matrix gradient", x, strategy), |calls| {
                    B::spd_matrix_gradient(calls.upload([2, 3, 2], F), calls.upload(x, F), strategy)
                });
            }
        }
        calls.assert_none_accepted();
    }
}

#[test]
fn spd_stages_reject_unfit_shapes() {
    every_backend(&SpdStages);
}

struct MixedTypes;

impl BackendTest for MixedTypes {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        // Through fusion, types are checked where the kernels are, which is on another thread.
        if backend.scope == Scope::Fused || !backend.dtypes().contains(&DType::F64) {
            return;
        }
        let mut calls = Calls::new(backend);
        const WIDE: DType = DType::F64;
        const F: DType = DType::F32;
        calls.expect_panic("project", |calls| {
            B::blast_project(calls.upload([3, 12], WIDE), calls.upload([3, 4, 5], F), BlastStrategy::Staged)
        });
        calls
            .expect_panic("couple", |calls| B::blast_couple(calls.upload([2, 3, 4], WIDE), calls.upload([5, 2, 4], F)));
        calls.expect_panic("ss1 product", |calls| {
            let (x, z) = (calls.upload([3, 16], WIDE), calls.upload([8, 6], F));
            B::ss1_product(x, z, OptionalTensor::None.into(), FOLD, Ss1Strategy::Fused)
        });
        calls.expect_panic("block-diagonal product", |calls| {
            let (x, w) = (calls.upload([3, 12], WIDE), calls.upload([3, 5, 4], F));
            B::block_diagonal_product(x, w, OptionalTensor::None.into(), Orders::default(), BlockStrategy::TiledGemm)
        });
        calls.expect_panic("substitute", |calls| {
            B::spd_substitute(calls.upload([2, 3, 3], F), calls.upload([2, 3, 1], WIDE), SpdStrategy::Auto)
        });
        calls.assert_none_accepted();
    }
}

#[test]
fn stages_reject_mixed_dtypes() {
    every_backend(&MixedTypes);
}

struct Recorded;

impl BackendTest for Recorded {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        let mut calls = Calls::new(backend);
        const F: DType = DType::F32;
        for strategy in [BlastStrategy::Auto, BlastStrategy::Reference] {
            calls.expect_panic(strategy, |calls| {
                let leaf = |shape: [usize; 3]| Ad::<B>::from_inner(calls.upload(shape, F));
                let x = Ad::<B>::from_inner(calls.upload([3, 12], F));
                let (u, s, v) = (leaf([2, 5, 4]), leaf([2, 2, 4]), leaf([3, 4, 4]));
                <Ad<B> as burn_structured_ops::blast::BlastBackend>::blast_forward(
                    x,
                    u,
                    s,
                    v,
                    OptionalTensor::None.into(),
                    strategy,
                )
                .into_primitive()
            });
        }
        calls.expect_panic("block-diagonal product", |calls| {
            let (x, w) =
                (Ad::<B>::from_inner(calls.upload([3, 12], F)), Ad::<B>::from_inner(calls.upload([2, 5, 4], F)));
            let orders = Orders::default();
            <Ad<B> as BlockDiagonalBackend>::block_diagonal_product(
                x,
                w,
                OptionalTensor::None.into(),
                orders,
                BlockStrategy::Reference,
            )
            .into_primitive()
        });
        calls.expect_panic("solution", |calls| {
            let [a, factor, b] =
                [[2, 4, 4], [2, 3, 3], [2, 3, 1]].map(|shape| Ad::<B>::from_inner(calls.upload(shape, F)));
            <Ad<B> as SpdBackend>::spd_solve(a, factor, b, SpdStrategy::Auto).into_primitive()
        });
        calls.assert_none_accepted();
    }
}

#[test]
fn recorded_products_reject_unfit_shapes() {
    every_backend(&Recorded);
}

struct LargeSteps;

impl BackendTest for LargeSteps {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        let fold = |step| Fold {
            d_input: 60,
            reduction: 5,
            block_k: 12,
            block_n: 1,
            rotations: Rotations::Arithmetic { step },
        };
        let upload = |len: usize| {
            let values: Vec<f64> = (0..len).map(|at| at as f64).collect();
            place::<B>(&values, &[1, len], DType::F32, Layout::Contiguous, &backend.device)
        };
        for step in [u32::MAX, u32::MAX - 5, 1 << 31, 25] {
            let fold = fold(step);
            let sources = fold.sources(0);
            let mut expected = vec![0.0; fold.width()];
            sources.iter().enumerate().for_each(|(feature, (stored, _))| expected[*stored] += feature as f64);
            let folded = read::<B>(B::ss1_fold(upload(60), fold, 0));
            assert_eq!(folded, expected, "{}: step {step}", backend.name);
            let unfolded = read::<B>(B::ss1_unfold(upload(12), fold, 0));
            let expected: Vec<f64> = sources.iter().map(|(stored, _)| *stored as f64).collect();
            assert_eq!(unfolded, expected, "{}: step {step}, transposed", backend.name);
        }
    }
}

#[test]
fn large_steps_rotate_alike_on_every_backend() {
    every_backend(&LargeSteps);
}

#[test]
fn products_without_features_are_the_bias() {
    for device in public_devices() {
        let options = (&device, DType::F32);
        let zeros = |dims: [usize; 3]| Tensor::<3>::zeros(dims, options);
        let matrix = |dims: [usize; 2]| Tensor::<2>::zeros(dims, options);
        let bias = Tensor::<1>::from_data([1.0, 2.0, 3.0, 4.0], options);
        let x = || zeros([2, 3, 0]);
        let some = || Some(bias.clone());
        let fold = Fold { d_input: 0, ..FOLD };
        let mut products = vec![
            ("blast", blast_linear(x(), zeros([2, 2, 3]), zeros([2, 2, 3]), zeros([2, 0, 3]), some())),
            ("blast, no blocks", blast_linear(x(), zeros([2, 2, 3]), zeros([2, 0, 3]), zeros([0, 3, 3]), some())),
            ("block-diagonal", block_diagonal_linear(x(), zeros([2, 2, 0]), some(), Orders::default())),
            ("ss1", ss1_linear(x(), matrix([0, 4]), some(), fold)),
            ("monarch", monarch_linear(x(), zeros([2, 3, 0]), zeros([2, 2, 3]), some(), Order::Strided)),
            (
                "monarch, nothing between",
                monarch_linear(x(), zeros([2, 0, 0]), zeros([2, 2, 0]), some(), Order::Grouped),
            ),
            ("kronecker", kronecker_linear(x(), zeros([2, 2, 0]), zeros([2, 2, 3]), some())),
            ("low rank", low_rank_linear(x(), matrix([0, 2]), matrix([2, 4]), some())),
            ("dense", dense_linear(x(), matrix([0, 4]), some())),
        ];
        let one = blast_linear(
            Tensor::<1>::zeros([0], options),
            zeros([2, 2, 3]),
            zeros([2, 2, 3]),
            zeros([2, 0, 3]),
            some(),
        );
        products.push(("blast, one token", one.expand([2, 3, 4])));
        for (name, y) in products {
            assert_eq!(y.dims(), [2, 3, 4], "{name}");
            let values = y.into_data().convert::<f32>().try_into_vec::<f32>().expect("f32 values");
            assert_eq!(values, [1.0, 2.0, 3.0, 4.0].repeat(6), "{name}");
        }
    }
}

#[test]
fn products_without_features_have_a_bias_gradient() {
    let device = Device::flex().autodiff();
    let zeros = |dims: [usize; 3]| Tensor::<3>::zeros(dims, &device);
    let bias = Tensor::<1>::zeros([4], &device).require_grad();
    let y = block_diagonal_linear(zeros([2, 3, 0]), zeros([2, 2, 0]), Some(bias.clone()), Orders::default());
    let gradient = bias.grad(&y.sum().backward()).expect("a gradient");
    assert_eq!(gradient.into_data().try_into_vec::<f32>().expect("f32 values"), [6.0; 4]);
}

#[test]
fn an_infinite_pivot_is_an_error() {
    for device in public_devices() {
        for (dtype, n) in [2, 3, 17, 40].into_iter().flat_map(|n| [(DType::F32, n), (DType::F64, n)]) {
            if !public_dtypes(&device).contains(&dtype) {
                continue;
            }
            for infinite in [0, n / 2, n - 1] {
                // Two diagonal matrices, of which the first has an infinite element.
                let mut values = vec![0.0; 2 * n * n];
                (0..2 * n).for_each(|row| values[row * n + row % n] = 2.0);
                values[infinite * n + infinite] = f64::INFINITY;
                let values = TensorData::new(values, [2, n, n]).convert_dtype(dtype);
                let a = Tensor::<3>::from_data(values, (&device, dtype));
                let error = try_spd_solve(a, Tensor::ones([2, n, 1], (&device, dtype))).unwrap_err();
                let expected = SpdError::NotPositiveDefinite { matrices: vec![0], batch: 2 };
                assert_eq!(error, expected, "{dtype:?}, n = {n}, element {infinite}");
            }
        }
    }
}
