//! The coupling and its gradient alone: our kernels without the matmuls around them.

use super::case::{Case, Sizes};
use crate::backends::{BackendTest, Scope, StructuredBackend, TestBackend, every_backend};
use crate::rounding::assert_close;
use crate::tensors::{Layout, place, read};
use burn::tensor::DType;

/// `t`, and the sums of the absolute values of its terms.
fn coupled(z: &[f64], s: &[f64], sizes: Sizes) -> (Vec<f64>, Vec<f64>) {
    let Sizes { tokens, b1, b2, r, .. } = sizes;
    let indices = (0..b1).flat_map(|i| (0..tokens * r).map(move |position| (i, position)));
    let sums = indices.map(|(i, position)| {
        let product = |j: usize| s[(i * b2 + j) * r + position % r] * z[j * tokens * r + position];
        (0..b2).map(product).fold((0.0, 0.0), |(sum, magnitude), term| (sum + term, magnitude + term.abs()))
    });
    sums.unzip()
}

struct Couplings;

impl BackendTest for Couplings {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        for dtype in backend.dtypes() {
            for (seed, sizes) in backend.shapes() {
                let Sizes { tokens, b1, b2, r, .. } = sizes;
                // Operands of the right number: `z` and `dt` stand in for projections.
                let draw = |blocks: usize, salt| {
                    let sizes = Sizes { tokens: 1, b1: blocks, b2: 1, p: tokens, q: 1, r };
                    Case::random(sizes, seed + salt, dtype).u
                };
                let (z, t_grad) = (draw(b2, 100), draw(b1, 200));
                let s = Case::random(sizes, seed + 300, dtype).s;
                let upload = |values: &[f64], shape: [usize; 3]| {
                    place::<B>(values, &shape, dtype, Layout::Contiguous, &backend.device)
                };
                let at =
                    |values: &[f64], block: usize, token: usize, k: usize| values[(block * tokens + token) * r + k];
                let coupling = |i: usize, j: usize, k: usize| s[(i * b2 + j) * r + k];
                let what = format!("{}, {dtype:?}, {sizes:?}", backend.name);

                let t = B::blast_couple(upload(&z, [b2, tokens, r]), upload(&s, [b1, b2, r]));
                let (expected, magnitude) = coupled(&z, &s, sizes);
                assert_close(&format!("{what}: t"), dtype, b2, &read::<B>(t), &expected, &magnitude);

                // The transposed coupling, on a view of `s` as the backward pass uses it.
                let s_view = B::float_swap_dims(upload(&s, [b1, b2, r]), 0, 1);
                let dz = B::blast_couple(upload(&t_grad, [b1, tokens, r]), s_view);
                let (mut dz_expected, mut dz_magnitude) = (Vec::new(), Vec::new());
                for j in 0..b2 {
                    for token in 0..tokens {
                        for k in 0..r {
                            let products = || (0..b1).map(|i| coupling(i, j, k) * at(&t_grad, i, token, k));
                            dz_expected.push(products().sum::<f64>());
                            dz_magnitude.push(products().map(f64::abs).sum::<f64>());
                        }
                    }
                }
                assert_close(&format!("{what}: dz"), dtype, b1, &read::<B>(dz), &dz_expected, &dz_magnitude);

                let ds = B::blast_coupling_gradient(upload(&t_grad, [b1, tokens, r]), upload(&z, [b2, tokens, r]));
                let (mut expected, mut magnitude) = (Vec::new(), Vec::new());
                for i in 0..b1 {
                    for j in 0..b2 {
                        for k in 0..r {
                            let products = || (0..tokens).map(|token| at(&t_grad, i, token, k) * at(&z, j, token, k));
                            expected.push(products().sum::<f64>());
                            magnitude.push(products().map(f64::abs).sum::<f64>());
                        }
                    }
                }
                assert_close(&format!("{what}: ds"), dtype, tokens, &read::<B>(ds), &expected, &magnitude);

                // Both at once, with couplings as they are stored and transposed.
                for transposed in [false, true] {
                    let s = if transposed {
                        let entries = (0..b2).flat_map(|j| (0..b1).flat_map(move |i| (0..r).map(move |k| (i, j, k))));
                        let values: Vec<f64> = entries.map(|(i, j, k)| coupling(i, j, k)).collect();
                        B::float_swap_dims(upload(&values, [b2, b1, r]), 0, 1)
                    } else {
                        upload(&s, [b1, b2, r])
                    };
                    let (t_grad, z) = (upload(&t_grad, [b1, tokens, r]), upload(&z, [b2, tokens, r]));
                    let (dz, ds) = B::blast_coupling_backward(t_grad, z, s);
                    let what = format!("{what}, both gradients, transposed {transposed}");
                    assert_close(&format!("{what}: dz"), dtype, b1, &read::<B>(dz), &dz_expected, &dz_magnitude);
                    assert_close(&format!("{what}: ds"), dtype, tokens, &read::<B>(ds), &expected, &magnitude);
                }
            }
        }
    }
}

#[test]
fn couplings_match_the_reference() {
    every_backend(&Couplings);
}

/// So many tokens that a unit couples two or four of them at once, and some are left over.
const MANY_TOKENS: [[usize; 4]; 2] = [[1301, 17, 2, 24], [4099, 16, 3, 64]];

struct ManyTokens;

impl BackendTest for ManyTokens {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        if backend.scope == Scope::Fused {
            return;
        }
        for [tokens, b1, b2, r] in MANY_TOKENS {
            let sizes = Sizes { tokens, b1, b2, p: 1, q: 1, r };
            let z = Case::random(Sizes { tokens: 1, b1: b2, b2: 1, p: tokens, ..sizes }, 1, DType::F32).u;
            let s = Case::random(Sizes { tokens: 1, ..sizes }, 2, DType::F32).s;
            let of = |values: &[f64], shape: [usize; 3]| {
                place::<B>(values, &shape, DType::F32, Layout::Contiguous, &backend.device)
            };
            let t = B::blast_couple(of(&z, [b2, tokens, r]), of(&s, [b1, b2, r]));
            let (expected, magnitude) = coupled(&z, &s, sizes);
            let what = format!("{}, {sizes:?}: t", backend.name);
            assert_close(&what, DType::F32, b2, &read::<B>(t), &expected, &magnitude);
        }
    }
}

#[test]
fn many_tokens_are_coupled_as_few_are() {
    every_backend(&ManyTokens);
}
