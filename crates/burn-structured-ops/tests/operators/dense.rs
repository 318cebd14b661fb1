//! Products with a dense factor, and the low-rank ones that are made of them.

use crate::backends::{BackendTest, Scope, StructuredBackend, TestBackend, every_backend};
use crate::rounding::assert_close;
use crate::tensors::{Layout, draw, place, read};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, ops::FloatTensorOps};
use burn::tensor::{DType, Device, Tensor, TensorData, s};
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_structured_ops::OptionalTensor;
use burn_structured_ops::dense::{DenseBackend, dense_linear};
use burn_structured_ops::low_rank::{low_rank_linear, low_rank_to_dense};

type Ad<B> = Autodiff<B, NoCheckpointing>;

/// One product, with the values of its operands: small multiples of 1/16, which every float type holds.
struct Case {
    /// Tokens, features in, features out.
    sizes: [usize; 3],
    x: Vec<f64>,
    w: Vec<f64>,
    bias: Vec<f64>,
    g: Vec<f64>,
}

/// A token, tile edges; more depth than a packed block, forward and over the tokens; several blocks of columns; up to 8
/// tokens in several runs of rows or of columns, as many runs as the sums may take, and long rows; one column.
const SIZES: [[usize; 3]; 14] = [
    [1, 7, 5],
    [5, 16, 3],
    [6, 15, 17],
    [17, 33, 129],
    [13, 1030, 40],
    [1027, 9, 21],
    [130, 48, 700],
    [40, 127, 126],
    [1, 701, 130],
    [3, 307, 401],
    [5, 42, 2003],
    [2, 37, 4100],
    [4, 1, 1],
    [1, 60, 1],
];

impl Case {
    fn new([tokens, n, m]: [usize; 3]) -> Self {
        Self {
            sizes: [tokens, n, m],
            x: draw(tokens * n, 1),
            w: draw(n * m, 2),
            bias: draw(m, 3),
            g: draw(tokens * m, 4),
        }
    }

    /// `y`, `dx`, `dw` and `dbias`, term by term from the definition, each with the sums of the terms' absolute values.
    fn reference(&self) -> [(Vec<f64>, Vec<f64>); 4] {
        let [tokens, n, m] = self.sizes;
        let sums = |[rows, cols, depth]: [usize; 3], term: &dyn Fn(usize, usize, usize) -> f64| {
            let of = |index: usize| (0..depth).map(move |k| term(index / cols, index % cols, k));
            let values = (0..rows * cols).map(|index| of(index).sum()).collect();
            (values, (0..rows * cols).map(|index| of(index).map(f64::abs).sum()).collect())
        };
        let with_bias = |token: usize, out: usize, k: usize| match k {
            bias if bias == n => self.bias[out],
            k => self.x[token * n + k] * self.w[k * m + out],
        };
        [
            sums([tokens, m, n + 1], &with_bias),
            sums([tokens, n, m], &|token, k, out| self.g[token * m + out] * self.w[k * m + out]),
            sums([n, m, tokens], &|k, out, token| self.x[token * n + k] * self.g[token * m + out]),
            sums([1, m, tokens], &|_, out, token| self.g[token * m + out]),
        ]
    }

    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>, dtype: DType, layout: Layout) {
        let [tokens, n, m] = self.sizes;
        let leaf = |values: &[f64], shape: &[usize], layout: Layout| -> FloatTensor<Ad<B>> {
            let tensor = place::<B>(values, shape, dtype, layout, &backend.device);
            Ad::<B>::float_set_require_grad(<Ad<B> as AutodiffBackend>::from_inner(tensor), true)
        };
        let (x, w) = (leaf(&self.x, &[tokens, n], layout), leaf(&self.w, &[n, m], layout));
        let bias = leaf(&self.bias, &[m], Layout::Contiguous);
        let g = place::<B>(&self.g, &[tokens, m], dtype, layout, &backend.device);
        let y = Ad::<B>::dense_product(x.clone(), w.clone(), OptionalTensor::Some(bias.clone()).into());
        let output = read::<B>(y.clone().into_primitive());
        let grads = Ad::<B>::float_mul(y, <Ad<B> as AutodiffBackend>::from_inner(g)).backward();
        let gradient = |leaf: &FloatTensor<Ad<B>>| read::<B>(leaf.grad(&grads).expect("a gradient"));
        let actual = [output, gradient(&x), gradient(&w), gradient(&bias)];
        let (names, lengths) = (["y", "dx", "dw", "dbias"], [n + 1, m, tokens, tokens]);
        for (((name, actual), (expected, magnitude)), length) in
            names.into_iter().zip(&actual).zip(&self.reference()).zip(lengths)
        {
            let what = format!("{}, {dtype:?}, {layout:?}, {:?}: {name}", backend.name, self.sizes);
            assert_close(&what, dtype, length, actual, expected, magnitude);
        }
    }
}

struct EveryCase;

impl BackendTest for EveryCase {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        for (dtype, _) in backend.products() {
            for (index, sizes) in SIZES.into_iter().enumerate() {
                let layouts = match (backend.scope, index) {
                    (Scope::Native, _) => &[Layout::Contiguous, Layout::Permuted, Layout::Sliced][..],
                    // Elsewhere these are Burn's own operations.
                    (_, 2) => &[Layout::Contiguous],
                    _ => &[],
                };
                layouts.iter().for_each(|layout| Case::new(sizes).check(backend, dtype, *layout));
            }
        }
    }
}

#[test]
fn every_size_and_layout_matches_the_reference() {
    every_backend(&EveryCase);
}

fn drawn<const D: usize>(values: &[f64], shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), (&Device::flex(), DType::F64))
}

#[test]
fn low_rank_product_matches_to_dense() {
    for [tokens, n, r] in SIZES {
        let (first, second) = (Case::new([tokens, n, r]), Case::new([tokens, r, 19]));
        let (x, v, ut) = (drawn(&first.x, [1, tokens, n]), drawn(&first.w, [n, r]), drawn(&second.w, [r, 19]));
        let bias = drawn(&second.bias, [19]);
        let dense = low_rank_to_dense(v.clone(), ut.clone());
        let expected = x.clone().squeeze_dim::<2>(0).matmul(dense.transpose()) + bias.clone().unsqueeze();
        let y = low_rank_linear(x, v, ut, Some(bias)).squeeze_dim::<2>(0);
        let magnitude = expected.clone().abs().max().into_scalar::<f64>().max(1.0);
        let error = (y - expected).abs().max().into_scalar::<f64>();
        assert!(error <= (n + r) as f64 * f64::EPSILON * magnitude * r as f64, "{tokens} × {n}, rank {r}: {error}");
    }
}

#[test]
fn one_vector_is_a_token() {
    let case = Case::new([1, 7, 5]);
    let y = dense_linear(drawn(&case.x, [7]), drawn(&case.w, [7, 5]), None);
    assert_eq!(y.dims(), [5]);
    let y = y.into_data().try_into_vec::<f64>().expect("f64 values");
    for (column, y) in y.into_iter().enumerate() {
        let terms = (0..7).map(|k| case.x[k] * case.w[k * 5 + column]);
        // Multiples of 1/256 below 8: exact in any order.
        assert_eq!(y, terms.sum::<f64>(), "column {column}");
    }
}

/// It has two strides, neither of which has to be one.
#[test]
fn one_element_factors_may_have_any_stride() {
    let w = drawn(&[3.0, 5.0, 7.0, 11.0], [2, 2]).slice(s![..;2, ..;2]);
    assert_eq!(w.dims(), [1, 1]);
    for tokens in [1, 5, 9] {
        let x: Vec<f64> = (0..tokens).map(|token| token as f64).collect();
        let y = dense_linear(drawn(&x, [tokens, 1]), w.clone(), None).into_data().try_into_vec::<f64>();
        assert_eq!(y.expect("f64 values"), x.iter().map(|x| 3.0 * x).collect::<Vec<_>>());
    }
}

#[test]
#[should_panic(expected = "the last axis of `x` must be n as `v` [7, 2] says, got 6")]
fn wrong_input_size_panics() {
    let zeros = |shape: [usize; 2]| Tensor::<2>::zeros(shape, &Device::flex());
    low_rank_linear(zeros([3, 6]), zeros([7, 2]), zeros([2, 5]), None);
}

#[test]
#[should_panic(expected = "`v` [7, 2] and `ut` [3, 5] must have the same rank")]
fn factors_of_different_rank_are_named() {
    let zeros = |shape: [usize; 2]| Tensor::<2>::zeros(shape, &Device::flex());
    low_rank_linear(zeros([3, 7]), zeros([7, 2]), zeros([3, 5]), None);
}
