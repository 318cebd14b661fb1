//! Causal multi-head self-attention with structured projections.

use super::Gpt2Config;
use super::cache::{LayerCache, Slots};
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Tensor};
use burn_structured_nn::StructuredLinear;

/// Self-attention: `softmax(Q Kᵀ / √d_head) V` for each head, over each token and those before it.
///
/// Should be created with [`Gpt2Config`].
#[derive(Module, Debug)]
pub struct Attention {
    /// Query, key and value projections, which are one layer.
    pub qkv: StructuredLinear,
    /// Output projection.
    pub proj: StructuredLinear,
    /// Dropout on the output. The attention weights have none, which Burn's fused attention does not provide.
    pub dropout: Dropout,
    heads: usize,
}

impl Attention {
    pub(super) fn new(qkv: StructuredLinear, proj: StructuredLinear, config: &Gpt2Config) -> Self {
        Self { qkv, proj, dropout: DropoutConfig::new(config.dropout).init(), heads: config.heads }
    }

    /// `[batch, length, d_model]` to the same shape; no token sees a later one.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [query, key, value] = self.project(x);
        self.mix(query, key, value, None, true)
    }

    /// [`forward`](Self::forward) of tokens that also see those in the cache, to which they are added.
    pub(super) fn forward_cached(&self, x: Tensor<3>, cache: &mut LayerCache, slots: &Slots) -> Tensor<3> {
        let [query, key, value] = self.project(x);
        let [key, value] = cache.append(key, value, slots);
        self.mix(query, key, value, slots.mask(), slots.is_causal())
    }

    /// The number of heads.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Query, key and value, `[batch, heads, length, d_head]` each: views of one product.
    fn project(&self, x: Tensor<3>) -> [Tensor<4>; 3] {
        let [batch, length, d_model] = x.dims();
        let heads = self.qkv.forward(x).reshape([batch, length, 3 * self.heads, d_model / self.heads]);
        [0, 1, 2].map(|part| heads.clone().narrow(2, part * self.heads, self.heads).swap_dims(1, 2))
    }

    /// The attention and the output projection.
    fn mix(
        &self,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
        mask: Option<Tensor<4, Bool>>,
        is_causal: bool,
    ) -> Tensor<3> {
        let [batch, heads, length, d_head] = query.dims();
        let options = AttentionModuleOptions { is_causal, ..Default::default() };
        let mixed = attention(query, key, value, mask, None, options);
        let mixed = mixed.swap_dims(1, 2).reshape([batch, length, heads * d_head]);
        self.dropout.forward(self.proj.forward(mixed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::Initializer;
    use burn::tensor::activation::softmax;
    use burn::tensor::{Device, Distribution, TensorData, Tolerance};
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

    /// What the cache relies on: Burn aligns the last query with the last key, and applies a mask beside that.
    #[test]
    fn causal_attention_is_aligned_at_the_end() {
        let padding = [2, 0];
        for device in [Device::flex(), Device::flex().autodiff()] {
            // Flex tiles the keys where the scores of a head exceed 256 × 1024.
            for [queries, keys] in [[3, 8], [1, 8], [8, 8], [300, 1000]] {
                let [query, key, value] = [queries, keys, keys].map(|length| normal::<4>([2, 2, length, 4], &device));
                let mut mask = vec![false; 2 * queries * keys];
                for query in (0..queries).filter(|query| query + keys - queries >= 2) {
                    mask[query * keys..][..padding[0]].fill(true);
                }
                let mask = Tensor::from_data(TensorData::new(mask, [2, 1, queries, keys]), &device);
                let options = AttentionModuleOptions { is_causal: true, ..Default::default() };
                let (operands, mask) = ([&query, &key, &value].map(Tensor::clone), Some(mask.repeat_dim(1, 2)));
                let [q, k, v] = operands;
                let found = attention(q, k, v, mask, None, options).into_data();
                let expected = reference(query, key, value, |row, query, key| {
                    let query = query + keys - queries;
                    key > query || (key < padding[row] && query >= padding[row])
                });
                found.assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));
            }
        }
    }
}
