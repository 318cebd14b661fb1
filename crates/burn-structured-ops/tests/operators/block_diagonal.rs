//! Block-diagonal products.

use crate::backends::{BackendTest, Scope, StructuredBackend, TestBackend, every_backend};
use crate::rounding::assert_close;
use crate::tensors::{Layout, draw, place, read};
use burn::backend::Autodiff;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_structured_ops::blast::BlastCandidate;
use burn_structured_ops::block_diagonal::{
    BlockStrategy, Order, Orders, block_diagonal_linear, block_diagonal_to_dense,
};
use burn_structured_ops::{BlastStrategy, OptionalTensor};

/// One product, with the values of its operands: small multiples of 1/16, which every float type holds.
struct Case {
    tokens: usize,
    /// `[b, p, q]`.
    sizes: [usize; 3],
    orders: Orders,
    x: Vec<f64>,
    w: Vec<f64>,
    bias: Vec<f64>,
    g: Vec<f64>,
}

/// Values and, for each, the sum of the absolute values of its terms.
type Bounded = (Vec<f64>, Vec<f64>);

const ORDERS: [Order; 2] = [Order::Grouped, Order::Strided];

impl Case {
    fn new(tokens: usize, [b, p, q]: [usize; 3], orders: Orders) -> Self {
        let (m, n) = (b * p, b * q);
        let (x, w, bias, g) = (draw(tokens * n, 1), draw(b * p * q, 2), draw(m, 3), draw(tokens * m, 4));
        Self { tokens, sizes: [b, p, q], orders, x, w, bias, g }
    }

    /// One token, a block of one, tile edges, more blocks than a square of a transpose has rows, every combination of orders.
    fn all() -> Vec<Self> {
        let sizes = [
            (1, [3, 4, 5]),
            (17, [2, 16, 15]),
            (5, [1, 7, 126]),
            (33, [4, 1, 17]),
            (130, [3, 33, 9]),
            (6, [5, 9, 40]),
            (20, [17, 6, 3]),
        ];
        let orders = ORDERS.into_iter().flat_map(|input| ORDERS.map(|output| Orders { input, output }));
        let of = |orders: Orders| sizes.map(|(tokens, sizes)| Self::new(tokens, sizes, orders));
        orders.flat_map(of).collect()
    }

    /// `y`, `dx`, `dw` and `dbias`, term by term from the definition.
    fn reference(&self) -> [Bounded; 4] {
        let ([b, p, q], tokens) = (self.sizes, self.tokens);
        let feature = |order: Order, size: usize, group: usize, index: usize| match order {
            Order::Grouped => group * size + index,
            Order::Strided => index * b + group,
        };
        let zeros = |len: usize| (vec![0.0; len], vec![0.0; len]);
        let add = |sum: &mut Bounded, index: usize, term: f64| {
            sum.0[index] += term;
            sum.1[index] += term.abs();
        };
        let (mut y, mut dx) = (zeros(tokens * b * p), zeros(tokens * b * q));
        let (mut dw, mut dbias) = (zeros(b * p * q), zeros(b * p));
        for token in 0..tokens {
            for output in 0..b * p {
                add(&mut y, token * b * p + output, self.bias[output]);
                add(&mut dbias, output, self.g[token * b * p + output]);
            }
            for (index, weight) in self.w.iter().enumerate() {
                let (group, i, j) = (index / (p * q), index / q % p, index % q);
                let to = token * b * p + feature(self.orders.output, p, group, i);
                let from = token * b * q + feature(self.orders.input, q, group, j);
                add(&mut y, to, weight * self.x[from]);
                add(&mut dx, from, weight * self.g[to]);
                add(&mut dw, index, self.x[from] * self.g[to]);
            }
        }
        [y, dx, dw, dbias]
    }

    fn check<B: StructuredBackend>(
        &self,
        backend: &TestBackend<B>,
        dtype: DType,
        layout: Layout,
        strategy: BlockStrategy,
    ) {
        type Ad<B> = Autodiff<B, NoCheckpointing>;
        let Self { tokens, sizes: [b, p, q], orders, .. } = self;
        let leaf = |values: &[f64], shape: &[usize], layout: Layout| -> FloatTensor<Ad<B>> {
            let tensor = place::<B>(values, shape, dtype, layout, &backend.device);
            Ad::<B>::float_set_require_grad(<Ad<B> as burn::backend::AutodiffBackend>::from_inner(tensor), true)
        };
        let x = leaf(&self.x, &[*tokens, b * q], layout);
        let w = leaf(&self.w, &[*b, *p, *q], layout);
        let bias = leaf(&self.bias, &[b * p], Layout::Contiguous);
        let g = place::<B>(&self.g, &[*tokens, b * p], dtype, layout, &backend.device);

        use burn_structured_ops::block_diagonal::BlockDiagonalBackend;
        let added = OptionalTensor::Some(bias.clone()).into();
        let y = Ad::<B>::block_diagonal_product(x.clone(), w.clone(), added, *orders, strategy);
        let output = read::<B>(y.clone().into_primitive());
        let grads = Ad::<B>::float_mul(y, <Ad<B> as burn::backend::AutodiffBackend>::from_inner(g)).backward();
        let gradient = |leaf: &FloatTensor<Ad<B>>| read::<B>(leaf.grad(&grads).expect("a gradient"));

        let what =
            format!("{}, {dtype:?}, {layout:?}, {strategy:?}, {tokens}×{:?}, {orders:?}", backend.name, self.sizes);
        let actual = [output, gradient(&x), gradient(&w), gradient(&bias)];
        let lengths = [q + 1, *p, *tokens, *tokens];
        for (((name, actual), (expected, magnitude)), length) in
            ["y", "dx", "dw", "dbias"].into_iter().zip(&actual).zip(&self.reference()).zip(lengths)
        {
            assert_close(&format!("{what}: {name}"), dtype, length, actual, expected, magnitude);
        }
    }
}

/// The strategies of a product by those of BLAST, which say where Burn's own matmul can be relied on.
fn strategies(blast: &[BlastStrategy]) -> Vec<BlockStrategy> {
    let of = |strategy: &BlastStrategy| match strategy {
        BlastStrategy::Auto => Some(BlockStrategy::Auto),
        BlastStrategy::Reference => Some(BlockStrategy::Reference),
        BlastStrategy::Candidate(BlastCandidate::TiledGemm) => Some(BlockStrategy::TiledGemm),
        _ => None,
    };
    blast.iter().filter_map(of).collect()
}

struct EveryCase;

impl BackendTest for EveryCase {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        for (dtype, blast) in backend.products() {
            for (index, case) in Case::all().iter().enumerate() {
                let worthwhile = match (backend.scope, dtype) {
                    (Scope::Native, _) => true,
                    // Each pair of orders once, with one token and several tiles of them.
                    (Scope::Kernels, DType::F32) => [4, 9, 14, 22].contains(&index),
                    (Scope::Kernels, _) | (Scope::Fused, DType::F32) => index == 22,
                    _ => false,
                };
                for strategy in strategies(&blast).into_iter().filter(|_| worthwhile) {
                    case.check(backend, dtype, Layout::Contiguous, strategy);
                }
            }
        }
    }
}

#[test]
fn every_order_matches_the_reference() {
    every_backend(&EveryCase);
}

struct EveryLayout;

impl BackendTest for EveryLayout {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        let Some((dtype, blast)) = backend.products().into_iter().find(|(dtype, _)| *dtype == DType::F32) else {
            return;
        };
        let case = Case::new(5, [3, 4, 2], Orders { input: Order::Strided, output: Order::Grouped });
        for strategy in strategies(&blast) {
            for layout in [Layout::Permuted, Layout::Sliced] {
                case.check(backend, dtype, layout, strategy);
            }
        }
    }
}

#[test]
fn strided_operands_match_the_reference() {
    every_backend(&EveryLayout);
}

#[test]
fn product_matches_to_dense() {
    for case in Case::all() {
        let device = (&Device::flex(), DType::F64);
        let [b, p, q] = case.sizes;
        let x = Tensor::<2>::from_data(TensorData::new(case.x.clone(), [case.tokens, b * q]), device);
        let w = Tensor::<3>::from_data(TensorData::new(case.w.clone(), [b, p, q]), device);
        let bias = Tensor::<1>::from_data(TensorData::new(case.bias.clone(), [b * p]), device);
        let dense = block_diagonal_to_dense(w.clone(), case.orders);
        let expected = x.clone().matmul(dense.transpose()) + bias.clone().unsqueeze();
        let y = block_diagonal_linear(x.unsqueeze::<3>(), w, Some(bias), case.orders);
        let error = (y.squeeze_dim::<2>(0) - expected).abs().max().into_scalar::<f64>();
        assert!(error < 1e-12, "{:?}, {:?}: {error}", case.sizes, case.orders);
    }
}

#[test]
#[should_panic(expected = "the last axis of `x` must be n = 12")]
fn wrong_input_size_panics() {
    let device = Device::flex();
    let x = Tensor::<2>::zeros([3, 8], &device);
    block_diagonal_linear(x, Tensor::zeros([3, 2, 4], &device), None, Orders::default());
}
