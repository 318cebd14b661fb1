//! Every size, mask, dtype and layout on every backend.

use super::case::{Case, Padding, Sizes};
use crate::backends::{BackendTest, Scope, StructuredBackend, TestBackend, every_backend, has_functions};
use crate::rounding::assert_close;
use crate::tensors::{Layout, place, place_bool, read};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, ops::FloatTensorOps};
use burn::tensor::DType;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_structured_ops::attention::{AttentionBackend, KeyPadding};

type Ad<B> = Autodiff<B, NoCheckpointing>;

/// Batch, heads, queries, keys, `d_head` and `d_value`; whether later keys are hidden; padding.
fn table() -> Vec<Sizes> {
    [
        // Sizes that are no multiple of a register tile; padding between the keys; fewer and more keys than queries.
        ([2, 3, 14, 14, 32, 32], false, Padding::None),
        ([2, 2, 21, 35, 9, 10], true, Padding::Scattered),
        ([2, 3, 17, 17, 8, 8], true, Padding::None),
        ([1, 2, 7, 45, 16, 12], true, Padding::None),
        ([1, 2, 19, 5, 8, 8], true, Padding::None),
        ([3, 2, 18, 33, 64, 40], false, Padding::Right),
        ([3, 2, 18, 33, 20, 64], true, Padding::Left),
        ([2, 1, 13, 30, 16, 16], false, Padding::First),
        ([2, 1, 13, 30, 16, 16], true, Padding::First),
        // One token, and a few queries.
        ([1, 2, 1, 1, 4, 4], true, Padding::None),
        ([1, 3, 1, 37, 64, 64], true, Padding::None),
        ([2, 2, 1, 37, 17, 65], false, Padding::Scattered),
        ([2, 2, 3, 9, 5, 7], true, Padding::Left),
        ([2, 2, 4, 3, 16, 16], true, Padding::First),
        ([2, 1, 2, 40, 1, 1], false, Padding::Right),
        // Several blocks of queries and keys.
        ([1, 1, 150, 300, 16, 16], true, Padding::None),
        ([1, 1, 270, 140, 8, 8], false, Padding::Scattered),
        ([1, 1, 30, 1100, 64, 64], false, Padding::Gap),
        ([1, 2, 100, 1100, 64, 64], true, Padding::None),
    ]
    .map(|(sizes, causal, padding)| Sizes::new(sizes, causal, padding))
    .into()
}

/// The padding of a case, and whether later keys are hidden.
pub fn mask<B: StructuredBackend>(sizes: Sizes, backend: &TestBackend<B>) -> (KeyPadding<B>, bool) {
    let padding = match sizes.padding() {
        None => KeyPadding::None,
        Some(padding) => KeyPadding::Some(place_bool::<B>(padding, &[sizes.batch, sizes.keys], &backend.device)),
    };
    (padding, sizes.causal)
}

fn check<B: StructuredBackend>(case: &Case, backend: &TestBackend<B>, dtype: DType, layout: Layout) {
    let (sizes, [query_shape, key_shape, value_shape, output_shape]) = (case.sizes, case.sizes.shapes());
    let [query, key, value, grad] = &case.operands;
    let leaf = |values: &[f64], shape: [usize; 4]| -> FloatTensor<Ad<B>> {
        let tensor = place::<B>(values, &shape, dtype, layout, &backend.device);
        Ad::<B>::float_set_require_grad(<Ad<B> as AutodiffBackend>::from_inner(tensor), true)
    };
    let leaves = [leaf(query, query_shape), leaf(key, key_shape), leaf(value, value_shape)];
    let [query, key, value] = leaves.each_ref().map(|leaf| leaf.clone());
    let (padding, causal) = mask(sizes, backend);
    let recorded = match padding.clone() {
        KeyPadding::None => KeyPadding::None,
        KeyPadding::Some(padding) => KeyPadding::Some(padding),
    };
    let [inner_query, inner_key, inner_value] =
        leaves.each_ref().map(|leaf: &FloatTensor<Ad<B>>| leaf.clone().into_primitive());
    let inference = read::<B>(B::attention_forward(inner_query, inner_key, inner_value, padding, causal));
    let output = Ad::<B>::attention_forward(query, key, value, recorded, causal);
    let grad = place::<B>(grad, &output_shape, dtype, layout, &backend.device);
    let saved = read::<B>(output.clone().into_primitive());
    let grads = Ad::<B>::float_mul(output, <Ad<B> as AutodiffBackend>::from_inner(grad)).backward();
    let [query_grad, key_grad, value_grad] = leaves.map(|leaf| read::<B>(leaf.grad(&grads).expect("a gradient")));
    let [output, query, key, value] = case.reference();
    let length = sizes.d_head + sizes.d_value + sizes.keys + sizes.queries;
    for (name, found, expected) in [
        ("inference", &inference, &output),
        ("output", &saved, &output),
        ("query gradient", &query_grad, &query),
        ("key gradient", &key_grad, &key),
        ("value gradient", &value_grad, &value),
    ] {
        let what = format!("{}, {dtype:?}, {layout:?}, {sizes:?}: {name}", backend.name);
        assert_close(&what, dtype, length, found, &expected.values, &expected.magnitudes);
    }
}

struct EveryCase;

impl BackendTest for EveryCase {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        // Where these are Burn's own operations, they rest on its matmul, which some devices get wrong.
        for (dtype, _) in backend.products().into_iter().filter(|(_, strategies)| strategies.len() > 1) {
            if backend.scope != Scope::Native && !has_functions(dtype, &backend.name) {
                continue;
            }
            for (index, sizes) in table().into_iter().enumerate() {
                let layouts = match backend.scope {
                    Scope::Native if index < 15 => &[Layout::Contiguous, Layout::Permuted, Layout::Sliced][..],
                    Scope::Native => &[Layout::Contiguous],
                    _ if index < 2 => &[Layout::Contiguous],
                    _ => &[],
                };
                layouts.iter().for_each(|layout| check(&Case::new(sizes), backend, dtype, *layout));
            }
        }
    }
}

#[test]
fn every_size_mask_and_layout_matches_the_definition() {
    every_backend(&EveryCase);
}
