//! The model as a decoder: with a cache, and what a token costs.

use super::Llama;
use crate::decoder::{Decoder, DecoderCost, DecoderError, KvCache};
use burn::tensor::{Device, Int, Tensor};

impl Decoder for Llama {
    fn features(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.features(tokens)
    }

    fn logits(&self, features: Tensor<3>) -> Tensor<3> {
        self.logits(features)
    }

    fn stream_cached(&self, tokens: Tensor<2, Int>, cache: &mut KvCache) -> Result<Tensor<3>, DecoderError> {
        let (shape, device) = (tokens.dims(), self.device());
        cache.extend(
            shape,
            (self.context, &device),
            &self.blocks,
            |slots| (self.tokens.forward(tokens), self.rotary.rotation_of(slots, shape, &device)),
            |block, x, cache, slots, rotation| block.forward_cached(x, rotation, cache, slots),
        )
    }

    fn final_norm(&self, stream: Tensor<3>) -> Tensor<3> {
        self.norm.forward(stream)
    }

    fn depth(&self) -> usize {
        self.blocks.len()
    }

    fn context(&self) -> usize {
        self.context
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size()
    }

    fn device(&self) -> Device {
        self.device()
    }

    fn cost(&self) -> DecoderCost {
        self.cost()
    }
}

impl Llama {
    /// What one token costs that sees a full context.
    pub fn cost(&self) -> DecoderCost {
        DecoderCost::new(
            self,
            self.linears().map(|(_, layer)| layer),
            self.blocks.len() * self.heads() * self.rotary.d_head(),
            self.context,
            self.head.as_ref(),
            self.d_model() * self.vocab_size(),
        )
    }
}
