//! From token ids to the features the first layer sees.

use super::BertConfig;
use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Initializer, LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Int, Tensor};

/// The sum of a token's word, position and token type, normalised.
///
/// Should be created with [`BertConfig`].
#[derive(Module, Debug)]
pub struct Embeddings {
    /// One row for each token of the vocabulary.
    pub words: Embedding,
    /// One row for each position in the sequence.
    pub positions: Embedding,
    /// One row for each token type; a single sentence is of the first type throughout.
    pub token_types: Embedding,
    /// The norm of the sum.
    pub norm: LayerNorm,
}

impl Embeddings {
    pub(super) fn new(config: &BertConfig, device: &Device) -> Self {
        let table = |rows| {
            // The initialisation of Devlin et al., 2019.
            let small = Initializer::Normal { mean: 0.0, std: 0.02 };
            EmbeddingConfig::new(rows, config.d_model).with_initializer(small).init(device)
        };
        Self {
            words: table(config.vocab_size),
            positions: table(config.max_positions),
            token_types: table(config.token_types),
            norm: LayerNormConfig::new(config.d_model).with_epsilon(config.norm_epsilon).init(device),
        }
    }

    /// Features `[batch, length, d_model]` of tokens `[batch, length]`.
    ///
    /// # Panics
    ///
    /// If there are more tokens than positions, or a token is not in the vocabulary.
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [_, length] = tokens.dims();
        let longest = self.longest();
        assert!(length <= longest, "a sequence of {length} tokens is longer than the model's {longest} positions");
        let positions = self.positions.weight.val().narrow(0, 0, length);
        let places = positions + self.token_types.weight.val().narrow(0, 0, 1);
        self.norm.forward(self.words.forward(tokens) + places.unsqueeze())
    }

    /// The longest sequence that has positions.
    pub fn longest(&self) -> usize {
        self.positions.weight.shape()[0]
    }
}
