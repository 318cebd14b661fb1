//! Causal self-attention with structured projections, rotary positions and grouped key and value heads.

use super::{RotaryEmbedding, Rotation};
use crate::decoder::{LayerCache, Slots};
use burn::module::Module;
use burn::tensor::{Bool, Device, Tensor};
use burn_structured_nn::{Epilogue, StructuredLinear};
use burn_structured_ops::attention::{AttentionMask, attention};

/// Self-attention: `softmax(R Q (R K)ᵀ / √d_head) V` for each head, over each token and those before it, where `R` rotates each query and
/// key by its position. Several heads of the queries share a head of the keys and values.
///
/// Should be created with [`LlamaConfig`](super::LlamaConfig).
#[derive(Module, Debug)]
pub struct Attention {
    /// Query projection, to `heads · d_head` features.
    pub query: StructuredLinear,
    /// Key projection, to `kv_heads · d_head` features.
    pub key: StructuredLinear,
    /// Value projection, to `kv_heads · d_head` features.
    pub value: StructuredLinear,
    /// Output projection.
    pub proj: StructuredLinear,
    kv_heads: usize,
    #[module(skip)]
    rotary: RotaryEmbedding,
}

impl Attention {
    /// Query, key, value and output projection.
    pub(super) fn new(
        [query, key, value, proj]: [StructuredLinear; 4],
        kv_heads: usize,
        rotary: RotaryEmbedding,
    ) -> Self {
        Self { query, key, value, proj, kv_heads, rotary }
    }

    /// `[batch, length, d_model]` to the same shape, of tokens that begin their sequences; no token sees a later one.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let rotation = self.rotation(x.dims()[1], &x.device());
        self.output(self.mix(x, &rotation), Epilogue::new())
    }

    /// The attention of rotated tokens, added to a residual.
    pub(super) fn forward_added(&self, x: Tensor<3>, residual: Tensor<3>, rotation: &Rotation) -> Tensor<3> {
        self.output(self.mix(x, rotation), Epilogue::new().with_residual(residual))
    }

    /// [`forward_added`](Self::forward_added) of tokens that also see those in the cache, to which they are added.
    pub(super) fn forward_cached(
        &self,
        x: Tensor<3>,
        residual: Tensor<3>,
        rotation: &Rotation,
        cache: &mut LayerCache,
        slots: &Slots,
    ) -> Tensor<3> {
        let [query, key, value] = self.project(x, rotation);
        let [key, value] = cache.append(key, value, slots);
        let mixed = grouped_attention(query, key, value, slots.padding());
        self.output(mixed, Epilogue::new().with_residual(residual))
    }

    /// The rotation of so many tokens that begin their sequences.
    pub(super) fn rotation(&self, tokens: usize, device: &Device) -> Rotation {
        self.rotary.rotation(0..tokens, device)
    }

    /// Heads of the queries.
    pub fn heads(&self) -> usize {
        self.query.d_output() / self.rotary.d_head()
    }

    /// Heads of the keys and values.
    pub fn kv_heads(&self) -> usize {
        self.kv_heads
    }

    /// Query, key and value, `[batch, length, heads or kv_heads, d_head]`, the first two rotated.
    fn project(&self, x: Tensor<3>, rotation: &Rotation) -> [Tensor<4>; 3] {
        let [batch, length, _] = x.dims();
        let [query, key, value] =
            [(&self.query, self.heads()), (&self.key, self.kv_heads), (&self.value, self.kv_heads)]
                .map(|(layer, heads)| layer.forward(x.clone()).reshape([batch, length, heads, self.rotary.d_head()]));
        [rotation.apply(query), rotation.apply(key), value]
    }

    fn mix(&self, x: Tensor<3>, rotation: &Rotation) -> Tensor<4> {
        let [query, key, value] = self.project(x, rotation);
        grouped_attention(query, key, value, None)
    }

    /// The output projection of `[batch, length, heads, d_head]`.
    fn output(&self, mixed: Tensor<4>, epilogue: Epilogue<3>) -> Tensor<3> {
        let [batch, length, heads, d_head] = mixed.dims();
        self.proj.forward_then(mixed.reshape([batch, length, heads * d_head]), epilogue)
    }
}

/// Causal attention in which query head `h` sees the keys and values of head `h / (heads / kv_heads)`; the last query is aligned with
/// the last key.
///
/// # Shapes
///
/// - query: `[batch, queries, heads, d_head]`
/// - key, value: `[batch, keys, kv_heads, d_head]`
/// - padding: `[batch, keys]`, true where a key is hidden
/// - output: `[batch, queries, heads, d_head]`
fn grouped_attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    padding: Option<Tensor<2, Bool>>,
) -> Tensor<4> {
    let ([batch, queries, heads, d_head], [_, keys, kv_heads, _]) = (query.dims(), key.dims());
    let group = heads / kv_heads;
    if queries == 1 && group > 1 {
        // The last token sees every key, so that the heads of a group can be queries of one head, which reads its keys in place.
        let query = query.reshape([batch, kv_heads, group, d_head]).swap_dims(1, 2);
        let mixed = attention(query, key, value, AttentionMask::default().with_padding(padding));
        return mixed.swap_dims(1, 2).reshape([batch, 1, heads, d_head]);
    }
    let repeat = |heads_of_group: Tensor<4>| match group {
        1 => heads_of_group,
        _ => {
            let expanded = heads_of_group.unsqueeze_dim::<5>(3).expand([batch, keys, kv_heads, group, d_head]);
            expanded.reshape([batch, keys, heads, d_head])
        }
    };
    attention(query, repeat(key), repeat(value), AttentionMask::causal().with_padding(padding))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Distribution, Tolerance};

    fn normal(shape: [usize; 4], device: &Device) -> Tensor<4> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
    }

    /// Each query head by itself, with the key and value head of its group.
    fn reference(query: &Tensor<4>, key: &Tensor<4>, value: &Tensor<4>, padding: Option<Tensor<2, Bool>>) -> Tensor<4> {
        let group = query.dims()[2] / key.dims()[2];
        let head = |x: &Tensor<4>, head: usize| x.clone().narrow(2, head, 1);
        let outputs = (0..query.dims()[2]).map(|index| {
            let mask = AttentionMask::causal().with_padding(padding.clone());
            attention(head(query, index), head(key, index / group), head(value, index / group), mask)
        });
        Tensor::cat(outputs.collect(), 2)
    }

    #[test]
    fn grouped_attention_shares_keys_and_values() {
        let device = Device::flex();
        for [heads, kv_heads] in [[6, 2], [4, 1], [3, 3]] {
            for [queries, keys] in [[1, 9], [4, 9], [9, 9], [1, 1]] {
                let query = normal([2, queries, heads, 4], &device);
                let [key, value] = [0, 1].map(|_| normal([2, keys, kv_heads, 4], &device));
                let hidden = Tensor::<2, Bool>::from_data(
                    burn::tensor::TensorData::new(
                        (0..2 * keys).map(|key| key > keys && key < keys + 3).collect(),
                        [2, keys],
                    ),
                    &device,
                );
                for padding in [None, Some(hidden)] {
                    let found = grouped_attention(query.clone(), key.clone(), value.clone(), padding.clone());
                    let expected = reference(&query, &key, &value, padding).into_data();
                    found.into_data().assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
                }
            }
        }
    }

    #[test]
    fn gradients_of_a_group_add_up() {
        let device = Device::flex().autodiff();
        let [query, weights] = [0, 1].map(|_| normal([2, 5, 6, 4], &device));
        let [key, value] = [0, 1].map(|_| normal([2, 5, 2, 4], &device).require_grad());
        let gradients = |output: Tensor<4>| {
            let gradients = (output * weights.clone()).sum().backward();
            [&key, &value].map(|operand| operand.grad(&gradients).unwrap().into_data())
        };
        let found = gradients(grouped_attention(query.clone(), key.clone(), value.clone(), None));
        let expected = gradients(reference(&query, &key, &value, None));
        for (found, expected) in found.iter().zip(&expected) {
            found.assert_approx_eq::<f32>(expected, Tolerance::absolute(1e-4));
        }
    }
}
