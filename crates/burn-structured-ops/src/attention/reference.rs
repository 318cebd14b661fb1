//! Attention in plain Burn operations: the fallback of every backend.
//!
//! In training the half-precision types keep their scores and probabilities in f32 between the products.

use super::KeyPadding;
use super::shapes::Sizes;
use burn::backend::tensor::{BoolTensor, FloatTensor};
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{DType, FloatDType, Shape, Slice};

/// The type in which scores of operands of `dtype` are kept.
pub(super) fn computed(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

fn cast<B: Backend>(tensor: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if tensor.dtype() == dtype { tensor } else { B::float_cast(tensor, FloatDType::from(dtype)) }
}

/// `[batch, tokens, heads, features]` to `[batch, heads, tokens, features]`, and back.
fn swap<B: Backend>(tensor: FloatTensor<B>) -> FloatTensor<B> {
    B::float_swap_dims(tensor, 1, 2)
}

/// The queries, keys and values of `qkv [batch, tokens, 3 heads, d_head]`, as views where the backend has them.
pub(super) fn parts<B: Backend>(qkv: FloatTensor<B>) -> [FloatTensor<B>; 3] {
    let Sizes { batch, heads, queries, d_head, .. } = Sizes::of_projection(&qkv.shape());
    [0, 1, 2].map(|part| {
        let slices = [0..batch, 0..queries, part * heads..(part + 1) * heads, 0..d_head].map(Slice::from);
        B::float_slice(qkv.clone(), &slices)
    })
}

/// The output by Burn's own attention, which may be fused.
pub(super) fn inference<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    padding: KeyPadding<B>,
    causal: bool,
) -> FloatTensor<B> {
    let sizes = Sizes::of_operands([&query, &key, &value]);
    padding.check(sizes);
    let mask = match padding {
        KeyPadding::None => None,
        KeyPadding::Some(padding) => Some(expand_padding::<B>(padding, sizes)),
    };
    let options = AttentionModuleOptions { is_causal: causal, ..Default::default() };
    swap::<B>(B::attention(swap::<B>(query), swap::<B>(key), swap::<B>(value), mask, None, options))
}

/// A padding of the keys as a view `[batch, heads, queries, keys]`.
fn expand_padding<B: Backend>(padding: BoolTensor<B>, sizes: Sizes) -> BoolTensor<B> {
    let Sizes { batch, heads, queries, keys, .. } = sizes;
    let padding = B::bool_reshape(padding, Shape::new([batch, 1, 1, keys]));
    B::bool_expand(padding, Shape::new([batch, heads, queries, keys]))
}

/// True where a key is later than the query, a view `[batch, heads, queries, keys]`.
fn later_keys<B: Backend>(scores: &FloatTensor<B>, sizes: Sizes) -> BoolTensor<B> {
    let Sizes { batch, heads, queries, keys, .. } = sizes;
    let device = scores.device();
    let settings = burn::backend::get_device_settings::<B>(&device);
    let [last_query, last_key] = [queries, keys].map(|count| count as i64);
    let arange = |range| B::int_arange(range, &device, settings.int_dtype);
    // The position of a query among the keys.
    let query = B::int_reshape(arange(last_key - last_query..last_key), Shape::new([1, 1, queries, 1]));
    let key = B::int_reshape(arange(0..last_key), Shape::new([1, 1, 1, keys]));
    let all = Shape::new([1, 1, queries, keys]);
    let [query, key] = [query, key].map(|positions| B::int_expand(positions, all.clone()));
    B::bool_expand(B::int_lower(query, key, settings.bool_dtype), Shape::new([batch, heads, queries, keys]))
}

/// The scores `Q Kᵀ / √d_head` `[batch, heads, queries, keys]`, −∞ where a key is not seen, of operands with swapped axes.
fn scores<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    padding: KeyPadding<B>,
    causal: bool,
    sizes: Sizes,
) -> FloatTensor<B> {
    let dtype = computed(query.dtype());
    let product = cast::<B>(B::float_matmul(query, B::float_swap_dims(key, 2, 3)), dtype);
    let mut scores = B::float_mul_scalar(product, sizes.scale().into());
    if let KeyPadding::Some(padding) = padding {
        scores = B::float_mask_fill(scores, expand_padding::<B>(padding, sizes), f64::NEG_INFINITY.into());
    }
    if causal {
        let later = later_keys::<B>(&scores, sizes);
        scores = B::float_mask_fill(scores, later, f64::NEG_INFINITY.into());
    }
    scores
}

/// The output and the log-sum-exp.
pub(super) fn forward<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    padding: KeyPadding<B>,
    causal: bool,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let sizes = Sizes::of_operands([&query, &key, &value]);
    padding.check(sizes);
    let dtype = value.dtype();
    let scores = scores::<B>(swap::<B>(query), swap::<B>(key), padding, causal, sizes);
    // Finite bounds: without a key to see, 0 / 0 and −∞ + ∞ would be NaN.
    let limits = scores.dtype().finfo().expect("a float type");
    let largest = B::float_clamp_min(B::float_max_dim(scores.clone(), 3), limits.min.into());
    let exponentials = B::float_exp(B::float_sub(scores, largest.clone()));
    let sum = B::float_clamp_min(B::float_sum_dim(exponentials.clone(), 3), limits.min_positive.into());
    let probabilities = cast::<B>(B::float_div(exponentials, sum.clone()), dtype);
    let output = swap::<B>(B::float_matmul(probabilities, swap::<B>(value)));
    let log_sum_exp = B::float_reshape(B::float_add(largest, B::float_log(sum)), sizes.log_sum_exp());
    (output, log_sum_exp)
}

/// The gradients of query, key and value. With `P` recomputed from the log-sum-exp,
///
/// ```text
/// dV = Pᵀ dO        dS = P ∘ (dO Vᵀ − rowsum(dO ∘ O))        dQ = dS K / √d_head        dK = dSᵀ Q / √d_head
/// ```
#[allow(clippy::too_many_arguments)]
pub(super) fn gradients<B: Backend>(
    query: FloatTensor<B>,
    key: FloatTensor<B>,
    value: FloatTensor<B>,
    padding: KeyPadding<B>,
    causal: bool,
    output: FloatTensor<B>,
    log_sum_exp: FloatTensor<B>,
    output_grad: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let sizes = Sizes::of_operands([&query, &key, &value]);
    padding.check(sizes);
    sizes.check_saved(query.dtype(), &output, &log_sum_exp, &output_grad);
    let Sizes { batch, heads, queries, .. } = sizes;
    let (dtype, computed) = (value.dtype(), computed(value.dtype()));
    let [query, key, value, output, output_grad] = [query, key, value, output, output_grad].map(swap::<B>);
    let [wide_output, wide_grad] = [output, output_grad.clone()].map(|tensor| cast::<B>(tensor, computed));
    let shift = B::float_sum_dim(B::float_mul(wide_output, wide_grad), 3);
    let scores = scores::<B>(query.clone(), key.clone(), padding, causal, sizes);
    let log_sum_exp = B::float_reshape(cast::<B>(log_sum_exp, computed), Shape::new([batch, heads, queries, 1]));
    let probabilities = B::float_exp(B::float_sub(scores, log_sum_exp));
    let transposed = |matrix| B::float_swap_dims(matrix, 2, 3);
    let value_grad = B::float_matmul(transposed(cast::<B>(probabilities.clone(), dtype)), output_grad.clone());
    let probability_grad = cast::<B>(B::float_matmul(output_grad, transposed(value)), computed);
    let score_grad = B::float_mul(probabilities, B::float_sub(probability_grad, shift));
    let score_grad = cast::<B>(B::float_mul_scalar(score_grad, sizes.scale().into()), dtype);
    let query_grad = B::float_matmul(score_grad.clone(), key);
    let key_grad = B::float_matmul(transposed(score_grad), query);
    (swap::<B>(query_grad), swap::<B>(key_grad), swap::<B>(value_grad))
}
