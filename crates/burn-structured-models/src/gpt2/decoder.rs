//! The model as a decoder: with a cache, and what a token costs.

use super::Gpt2;
use crate::decoder::{Decoder, DecoderCost, DecoderError, KvCache, Slots};
use burn::tensor::{Device, Int, Tensor, TensorData};

impl Decoder for Gpt2 {
    fn features(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.features(tokens)
    }

    fn logits(&self, features: Tensor<3>) -> Tensor<3> {
        self.logits(features)
    }

    fn stream_cached(&self, tokens: Tensor<2, Int>, cache: &mut KvCache) -> Result<Tensor<3>, DecoderError> {
        cache.extend(
            tokens.dims(),
            (self.context(), &self.device()),
            &self.blocks,
            |slots| (self.embed(tokens.clone(), self.positions_of(slots, tokens.dims())), ()),
            |block, x, cache, slots, ()| block.forward_cached(x, cache, slots),
        )
    }

    fn final_norm(&self, stream: Tensor<3>) -> Tensor<3> {
        self.norm.forward(stream)
    }

    fn depth(&self) -> usize {
        self.blocks.len()
    }

    fn context(&self) -> usize {
        self.context()
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

impl Gpt2 {
    /// What one token costs that sees a full context.
    pub fn cost(&self) -> DecoderCost {
        DecoderCost::new(
            self,
            self.linears().map(|(_, layer)| layer),
            self.blocks.len() * self.d_model(),
            self.context(),
            self.head.as_ref(),
            self.d_model() * self.vocab_size(),
        )
    }

    /// The features of the new tokens' positions: `[1 or batch, new, d_model]`.
    fn positions_of(&self, slots: &Slots, shape: [usize; 2]) -> Tensor<3> {
        let Some(positions) = slots.positions() else {
            let new = slots.new_slots();
            return self.positions_from(new.start, new.len());
        };
        let positions: Vec<i32> = positions.iter().map(|position| *position as i32).collect();
        let positions = Tensor::<2, Int>::from_data(TensorData::new(positions, shape), &self.device());
        self.positions.forward(positions)
    }
}
