//! Scaled dot-product attention, forward and backward, without a score matrix in memory.
//!
//! For each head of each element of a batch,
//!
//! ```text
//! S = Q Kᵀ / √d_head        P = softmax(S)        O = P V
//! ```
//!
//! where a query sees the keys that its [`AttentionMask`] leaves. On Flex, blocks of keys are taken through both products while they
//! are in cache, with an online softmax (Milakov and Gimelshein, *Online normalizer calculation for softmax*, 2018); the backward pass
//! recomputes `P` block by block from the log-sum-exp of each query (Dao, *FlashAttention-2*, 2023). Operands are read, and results
//! written, as a projection leaves them: `[batch, tokens, heads, d_head]`. Elsewhere the inference is Burn's own `attention`, and
//! training a few of Burn's operations with the same hand-written backward pass.

mod backward;
#[cfg(feature = "flex")]
mod cpu;
mod fallback;
mod mask;
mod reference;
mod shapes;

pub use mask::{AttentionMask, KeyPadding};
use shapes::Sizes;

use crate::dispatch::check_backend;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

/// What a backend provides for attention; every method has a fallback in plain Burn operations.
///
/// Tensors are `query [batch, queries, heads, d_head]`, `key [batch, keys, heads, d_head]`, `value [batch, keys, heads, d_value]` and
/// `output [batch, queries, heads, d_value]`, none of them empty. Every method panics if they do not fit each other.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    LibTorch: cfg(feature = "tch"),
    Remote: cfg(feature = "remote"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
)]
pub trait AttentionBackend: Backend {
    /// The output.
    #[fusion(default)]
    fn attention_forward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        #[extension_type] padding: KeyPadding<Self>,
        causal: bool,
    ) -> FloatTensor<Self> {
        reference::inference::<Self>(query, key, value, padding, causal)
    }

    /// The output, and what the backward pass needs besides: the logarithm of the sum of each query's exponentials of its scores,
    /// `[batch, heads, queries]`, in f32 for the half-precision types.
    #[fusion(default)]
    fn attention_forward_saving(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        #[extension_type] padding: KeyPadding<Self>,
        causal: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        reference::forward::<Self>(query, key, value, padding, causal)
    }

    /// The gradients of query, key and value, from what the forward pass took and gave, and the gradient of the output.
    #[fusion(default)]
    #[allow(clippy::too_many_arguments)]
    fn attention_gradients(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        #[extension_type] padding: KeyPadding<Self>,
        causal: bool,
        output: FloatTensor<Self>,
        log_sum_exp: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        reference::gradients::<Self>(query, key, value, padding, causal, output, log_sum_exp, output_grad)
    }

    /// The output of the three parts of `qkv [batch, tokens, 3 heads, d_head]`: the heads of the queries, then those of the keys and
    /// those of the values.
    #[fusion(default)]
    fn self_attention(
        qkv: FloatTensor<Self>,
        #[extension_type] padding: KeyPadding<Self>,
        causal: bool,
    ) -> FloatTensor<Self> {
        let [query, key, value] = reference::parts::<Self>(qkv);
        Self::attention_forward(query, key, value, padding, causal)
    }

    /// The gradient of `qkv`, as [`attention_gradients`](Self::attention_gradients) of its parts.
    #[fusion(default)]
    fn self_attention_gradient(
        qkv: FloatTensor<Self>,
        #[extension_type] padding: KeyPadding<Self>,
        causal: bool,
        output: FloatTensor<Self>,
        log_sum_exp: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [query, key, value] = reference::parts::<Self>(qkv);
        let (query, key, value) =
            Self::attention_gradients(query, key, value, padding, causal, output, log_sum_exp, output_grad);
        Self::float_cat(vec![query, key, value], 2)
    }
}

/// Attention: `softmax(Q Kᵀ / √d_head) V` for each head, over the keys that the mask leaves.
///
/// A query that sees no key gives 0, and has no gradient. Operands may be views: on Flex they are read in place as long as the elements
/// of their last axis are contiguous, such as the three parts of one projection or the used slots of a cache.
///
/// # Shapes
///
/// - query: `[batch, queries, heads, d_head]`
/// - key: `[batch, keys, heads, d_head]`
/// - value: `[batch, keys, heads, d_value]`
/// - output: `[batch, queries, heads, d_value]`, contiguous on Flex
///
/// # Panics
///
/// If a shape does not fit the others, `d_head` is 0, or the tensors' dtypes differ; the message names the tensor.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_structured_ops::attention::{AttentionMask, attention};
///
/// let device = Device::flex();
/// // Query, key and value of 3 heads with 4 features each, as one projection gives them.
/// let qkv = Tensor::<4>::random([2, 7, 3 * 3, 4], Distribution::Normal(0.0, 1.0), &device);
/// let [query, key, value] = [0, 1, 2].map(|part| qkv.clone().narrow(2, 3 * part, 3));
/// let output = attention(query, key, value, AttentionMask::causal());
/// assert_eq!(output.reshape([2, 7, 12]).dims(), [2, 7, 12]);
/// ```
pub fn attention(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, mask: AttentionMask) -> Tensor<4> {
    check_backend(query.device());
    let sizes = check_operands(&query, &key, &value, &mask);
    if sizes.is_empty() {
        return Tensor::zeros(sizes.output(), (&query.device(), query.dtype()));
    }
    Tensor::from_dispatch(<Dispatch as AttentionBackend>::attention_forward(
        query.into_dispatch(),
        key.into_dispatch(),
        value.into_dispatch(),
        KeyPadding::of(mask.padding),
        mask.causal,
    ))
}

/// [`attention`] of the three parts of one projection, whose gradient is one tensor.
///
/// Equal to `attention` of three narrowed views. In training it saves what their backward pass would do: fill up the gradient of each
/// part with zeros, and add the three.
///
/// # Shapes
///
/// - qkv: `[batch, tokens, 3 · heads, d_head]`: the heads of the queries, then those of the keys and those of the values
/// - output: `[batch, tokens, heads, d_head]`, contiguous on Flex
///
/// # Panics
///
/// If the third axis is no multiple of 3, `d_head` is 0, or the mask does not fit.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_structured_ops::attention::{AttentionMask, self_attention};
///
/// let qkv = Tensor::<4>::random([2, 7, 3 * 3, 4], Distribution::Normal(0.0, 1.0), &Device::flex());
/// assert_eq!(self_attention(qkv, AttentionMask::default()).dims(), [2, 7, 3, 4]);
/// ```
pub fn self_attention(qkv: Tensor<4>, mask: AttentionMask) -> Tensor<4> {
    check_backend(qkv.device());
    let sizes = Sizes::of_projection(&qkv.shape());
    if let Some(padding) = &mask.padding {
        sizes.check_padding(&padding.shape());
    }
    if sizes.is_empty() {
        return Tensor::zeros(sizes.output(), (&qkv.device(), qkv.dtype()));
    }
    let padding = KeyPadding::of(mask.padding);
    Tensor::from_dispatch(<Dispatch as AttentionBackend>::self_attention(qkv.into_dispatch(), padding, mask.causal))
}

fn check_operands(query: &Tensor<4>, key: &Tensor<4>, value: &Tensor<4>, mask: &AttentionMask) -> Sizes {
    for (name, dtype) in [("key", key.dtype()), ("value", value.dtype())] {
        assert_eq!(dtype, query.dtype(), "attention: `{name}` and `query` must have the same dtype");
    }
    let sizes = Sizes::of_shapes([&query.shape(), &key.shape(), &value.shape()]);
    if let Some(padding) = &mask.padding {
        sizes.check_padding(&padding.shape());
    }
    sizes
}
