//! Causal multi-head self-attention with structured projections.

use super::Gpt2Config;
use crate::decoder::{LayerCache, Slots};
use crate::residual::forward_added;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::Tensor;
use burn_structured_nn::StructuredLinear;
use burn_structured_ops::attention::{AttentionMask, attention, self_attention};

/// Self-attention: `softmax(Q Kᵀ / √d_head) V` for each head, over each token and those before it.
///
/// Should be created with [`Gpt2Config`].
#[derive(Module, Debug)]
pub struct Attention {
    /// Query, key and value projections, which are one layer.
    pub qkv: StructuredLinear,
    /// Output projection.
    pub proj: StructuredLinear,
    /// Dropout on the output. The attention weights have none, as they are never all in memory.
    pub dropout: Dropout,
    heads: usize,
}

impl Attention {
    pub(super) fn new(qkv: StructuredLinear, proj: StructuredLinear, config: &Gpt2Config) -> Self {
        Self { qkv, proj, dropout: DropoutConfig::new(config.dropout).init(), heads: config.heads }
    }

    /// `[batch, length, d_model]` to the same shape; no token sees a later one.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        self.forward_added(x, None)
    }

    /// [`forward`](Self::forward), added to a residual if there is one.
    pub(super) fn forward_added(&self, x: Tensor<3>, residual: impl Into<Option<Tensor<3>>>) -> Tensor<3> {
        self.output(self_attention(self.project(x), AttentionMask::causal()), residual.into())
    }

    /// [`forward_added`](Self::forward_added) of tokens that also see those in the cache, to which they are added.
    pub(super) fn forward_cached(
        &self,
        x: Tensor<3>,
        residual: Tensor<3>,
        cache: &mut LayerCache,
        slots: &Slots,
    ) -> Tensor<3> {
        let qkv = self.project(x);
        let [query, key, value] = [0, 1, 2].map(|part| qkv.clone().narrow(2, part * self.heads, self.heads));
        let [key, value] = cache.append(key, value, slots);
        self.output(attention(query, key, value, AttentionMask::causal().with_padding(slots.padding())), Some(residual))
    }

    /// The number of heads.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Query, key and value, `[batch, length, 3 · heads, d_head]`: their heads one after the other.
    fn project(&self, x: Tensor<3>) -> Tensor<4> {
        let [batch, length, d_model] = x.dims();
        self.qkv.forward(x).reshape([batch, length, 3 * self.heads, d_model / self.heads])
    }

    /// The output projection of `[batch, length, heads, d_head]`.
    fn output(&self, mixed: Tensor<4>, residual: Option<Tensor<3>>) -> Tensor<3> {
        let [batch, length, heads, d_head] = mixed.dims();
        forward_added(&self.proj, mixed.reshape([batch, length, heads * d_head]), &self.dropout, residual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::Initializer;
    use burn::tensor::activation::softmax;
    use burn::tensor::{Bool, Device, Distribution, TensorData, Tolerance};
    use burn_structured_nn::{Structure, StructuredLinearConfig};

    /// Attention of three heads on 12 features, with weights that are not small.
    fn module(device: &Device) -> Attention {
        device.seed(4);
        let config = Gpt2Config::new(1).with_d_model(12).with_heads(3);
        let initializer = Initializer::Normal { mean: 0.0, std: 0.5 };
        let layer = |d_output| {
            let layer = StructuredLinearConfig::new(12, d_output, Structure::Dense);
            layer.with_initializer(Some(initializer.clone())).init(device)
        };
        Attention::new(layer(36), layer(12), &config)
    }

    /// `softmax(Q Kᵀ / √d_head) V`, with scores of −∞ where `masked(row, query, key)`.
    fn reference(
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
        masked: impl Fn(usize, usize, usize) -> bool,
    ) -> Tensor<4> {
        let ([batch, heads, queries, d_head], [_, _, keys, _]) = (query.dims(), key.dims());
        let mut mask = Vec::new();
        for row in 0..batch {
            for query in 0..queries {
                mask.extend((0..keys).map(|key| masked(row, query, key)));
            }
        }
        let mask = Tensor::<4, Bool>::from_data(TensorData::new(mask, [batch, 1, queries, keys]), &query.device());
        let scores = query.matmul(key.swap_dims(2, 3)) / (d_head as f64).sqrt();
        softmax(scores.mask_fill(mask.repeat_dim(1, heads), f32::NEG_INFINITY), 3).matmul(value)
    }

    /// The module's forward by [`reference`].
    fn reference_forward(module: &Attention, x: Tensor<3>) -> Tensor<3> {
        let [batch, length, d_model] = x.dims();
        let parts = module.qkv.forward(x).chunk(3, 2);
        let [query, key, value] = [0, 1, 2].map(|part| {
            parts[part].clone().reshape([batch, length, module.heads, d_model / module.heads]).swap_dims(1, 2)
        });
        let mixed = reference(query, key, value, |_, query, key| key > query);
        module.proj.forward(mixed.swap_dims(1, 2).reshape([batch, length, d_model]))
    }

    fn normal<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
    }

    #[test]
    fn forward_is_causal_softmax_attention() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            let (module, x) = (module(&device), normal([2, 7, 12], &device));
            let expected = reference_forward(&module, x.clone()).into_data();
            module.forward(x).into_data().assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
        }
    }

    #[test]
    fn gradients_are_those_of_softmax_attention() {
        let device = Device::flex().autodiff();
        let (module, weights) = (module(&device), normal::<3>([2, 7, 12], &device));
        let x = normal::<3>([2, 7, 12], &device).require_grad();
        let gradients = |output: Tensor<3>| {
            let gradients = (output * weights.clone()).sum().backward();
            let StructuredLinear::Dense(qkv) = &module.qkv else { panic!("a dense layer") };
            let weight = qkv.weight.val().grad(&gradients).unwrap().into_data();
            [x.grad(&gradients).unwrap().into_data(), weight]
        };
        let found = gradients(module.forward(x.clone()));
        let expected = gradients(reference_forward(&module, x.clone()));
        for (found, expected) in found.iter().zip(&expected) {
            found.assert_approx_eq::<f32>(expected, Tolerance::absolute(1e-4));
        }
    }

    /// What the cache relies on: the last query is aligned with the last key, and padding is hidden beside that.
    #[test]
    fn causal_attention_is_aligned_at_the_end() {
        let padding = [2, 0];
        for device in [Device::flex(), Device::flex().autodiff()] {
            for [queries, keys] in [[3, 8], [1, 8], [8, 8], [300, 1000]] {
                let [query, key, value] = [queries, keys, keys].map(|length| normal::<4>([2, length, 2, 4], &device));
                let hidden: Vec<bool> =
                    padding.iter().flat_map(|first| (0..keys).map(move |key| key < *first)).collect();
                let mask = Tensor::<2, Bool>::from_data(TensorData::new(hidden, [2, keys]), &device);
                let [q, k, v] = [&query, &key, &value].map(Tensor::clone);
                let found = attention(q, k, v, AttentionMask::causal().with_padding(Some(mask)));
                let [query, key, value] = [query, key, value].map(|operand| operand.swap_dims(1, 2));
                let expected =
                    reference(query, key, value, |row, query, key| key > query + keys - queries || key < padding[row]);
                // A query that is padding itself sees nothing, of which the softmax is not a number.
                let skipped = if queries == keys { padding[0] } else { 0 };
                let [found, expected] =
                    [found.swap_dims(1, 2), expected].map(|heads| heads.narrow(2, skipped, queries - skipped));
                found.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));
            }
        }
    }
}
