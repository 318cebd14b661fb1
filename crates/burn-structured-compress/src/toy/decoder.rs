//! A decoder like GPT-2: norms in front of causal attention and an MLP, both added to the residual stream.

use super::{FEATURES, HIDDEN, dense};
use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor, activation};
use burn_structured_nn::{BlockModel, StructuredLinear};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// `x + proj(attention(qkv(norm1(x))))`, then `x + fc2(gelu(fc1(norm2(x))))`.
#[derive(Module, Debug)]
pub struct DecoderBlock {
    norm1: LayerNorm,
    qkv: StructuredLinear,
    proj: StructuredLinear,
    norm2: LayerNorm,
    fc1: StructuredLinear,
    pub fc2: StructuredLinear,
}

#[derive(Module, Debug)]
pub struct Decoder {
    pub blocks: Vec<DecoderBlock>,
}

impl Decoder {
    /// With biases, or without them. The norms give features large means, one of them by far the largest.
    pub fn new(depth: usize, bias: bool, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let norm = || {
            let mut norm = LayerNormConfig::new(FEATURES).init(&Device::flex());
            let offsets: Vec<f32> = (0..FEATURES).map(|at| if at == 3 { 3.0 } else { 0.3 }).collect();
            norm.beta =
                norm.beta.map(|beta| beta.map(|beta| beta + Tensor::from_data(offsets.as_slice(), &Device::flex())));
            norm
        };
        let blocks = (0..depth)
            .map(|_| DecoderBlock {
                norm1: norm(),
                qkv: dense(FEATURES, 3 * FEATURES, bias, &mut rng),
                proj: dense(FEATURES, FEATURES, bias, &mut rng),
                norm2: norm(),
                fc1: dense(FEATURES, HIDDEN, bias, &mut rng),
                fc2: dense(HIDDEN, FEATURES, bias, &mut rng),
            })
            .collect();
        Self { blocks }
    }
}

impl BlockModel for Decoder {
    type Batch = Tensor<3>;
    type Block = DecoderBlock;

    const STAGES: &'static [&'static [usize]] = &[&[0], &[1], &[2], &[3]];

    fn blocks(&self) -> &[DecoderBlock] {
        &self.blocks
    }

    fn blocks_mut(&mut self) -> &mut [DecoderBlock] {
        &mut self.blocks
    }

    fn embed(&self, batch: &Tensor<3>) -> Tensor<3> {
        batch.clone() * 0.3
    }

    fn forward_block(block: &DecoderBlock, features: Tensor<3>, _batch: &Tensor<3>) -> Tensor<3> {
        let [_, tokens, _] = features.dims();
        let parts = block.qkv.forward(block.norm1.forward(features.clone())).chunk(3, 2);
        let [query, key, value] = [0, 1, 2].map(|at| parts[at].clone());
        let scores = query.matmul(key.swap_dims(1, 2)) / (FEATURES as f64).sqrt();
        let later = Tensor::<2>::ones([tokens; 2], &features.device()).triu(1).unsqueeze::<3>() * -1e9;
        let mixed = activation::softmax(scores + later, 2).matmul(value);
        let features = features + block.proj.forward(mixed);
        let hidden = activation::gelu(block.fc1.forward(block.norm2.forward(features.clone())));
        features + block.fc2.forward(hidden)
    }

    fn residual(block: &DecoderBlock, stage: usize, features: &Tensor<3>, inputs: &[Tensor<2>]) -> Option<Tensor<2>> {
        let residual: Tensor<2> = features.clone().flatten(0, 1);
        match stage {
            1 => Some(residual),
            3 => Some(residual + block.proj.forward(inputs[1].clone())),
            _ => None,
        }
    }

    fn output(&self, features: Tensor<3>, _batch: &Tensor<3>) -> Tensor<2> {
        features.flatten(0, 1)
    }

    fn linears(&self, block: usize) -> Vec<(String, &StructuredLinear)> {
        let DecoderBlock { qkv, proj, fc1, fc2, .. } = &self.blocks[block];
        [("qkv", qkv), ("proj", proj), ("fc1", fc1), ("fc2", fc2)]
            .map(|(name, layer)| (format!("h.{block}.{name}"), layer))
            .into()
    }

    fn linears_mut(block: &mut DecoderBlock) -> Vec<&mut StructuredLinear> {
        vec![&mut block.qkv, &mut block.proj, &mut block.fc1, &mut block.fc2]
    }
}
