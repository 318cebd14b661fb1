//! GPT-2 with structured linear layers.
//!
//! The decoder of Radford et al., *Language Models are Unsupervised Multitask Learners*, 2019: learned positions, norms before
//! attention and MLP, GELU by its tanh approximation, a head that shares the token embedding. The four linear layers of every
//! block each take a [`Structure`](burn_structured_nn::Structure), chosen by [`LayerRules`](crate::decoder::LayerRules); embeddings and head stay dense
//! unless the configuration says otherwise. [`Gpt2::from_folder`] reads Hugging Face's checkpoints, and [`Gpt2::save_folder`]
//! writes them, whatever the structures.
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use burn_structured_models::decoder::Decoder;
//! use burn_structured_models::gpt2::Gpt2Config;
//!
//! let device = Device::flex();
//! let config = Gpt2Config::nano(256).with_structures("first=dense;blast:b=4,ratio=0.4".parse()?);
//! let model = config.try_init(&device)?;
//! let tokens = Tensor::<2, Int>::from_data([[84, 104, 101, 32]], &device);
//! assert_eq!(model.forward(tokens.clone()).dims(), [1, 4, 256]);
//!
//! // One token at a time, with the keys and values of the earlier ones kept.
//! let mut cache = model.cache(model.context());
//! let next = model.forward_cached(tokens, &mut cache)?.argmax(2).squeeze_dim::<2>(2);
//! assert_eq!(model.forward_cached(next, &mut cache)?.dims(), [1, 1, 256]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attention;
mod block;
mod blocks;
mod checkpoint;
mod config;
mod decoder;
#[cfg(test)]
mod tests;

pub use attention::Attention;
pub use block::{Block, linear_names};
pub use config::Gpt2Config;

use crate::decoder::{check_length, logits, own_head};
use burn::module::Module;
use burn::nn::{Dropout, Embedding, LayerNorm};
use burn::tensor::{Device, Int, Tensor};
use burn_structured_nn::{Factor, StructureError, StructuredLinear, on_pool, quantize};

/// A GPT-2.
///
/// Should be created with [`Gpt2Config`], or with [`Gpt2::from_folder`].
#[derive(Module, Debug)]
pub struct Gpt2 {
    /// One row of features for each token of the vocabulary.
    pub tokens: Embedding,
    /// One row of features for each position of the context.
    pub positions: Embedding,
    /// Dropout on the embedded tokens.
    pub dropout: Dropout,
    /// The transformer blocks.
    pub blocks: Vec<Block>,
    /// The norm before the head.
    pub norm: LayerNorm,
    /// The head; `None` multiplies by the token embedding.
    pub head: Option<StructuredLinear>,
    /// What is added to the variance in every layer norm, which does not tell.
    norm_epsilon: f64,
}

impl Gpt2 {
    /// The logits of each next token.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, length]`, ids of tokens
    /// - output: `[batch, length, vocab_size]`
    ///
    /// # Panics
    ///
    /// If there are more tokens than the context holds, or a token is not in the vocabulary.
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.logits(self.features(tokens))
    }

    /// The features of each token after the final norm, for [`logits`](Self::logits).
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, length]`, ids of tokens
    /// - output: `[batch, length, d_model]`
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward).
    pub fn features(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        on_pool(&self.device(), || {
            let x = self.blocks.iter().fold(self.embed_from_start(tokens), |x, block| block.forward(x));
            self.norm.forward(x)
        })
    }

    /// The features on their way through the model: the embedded tokens, then the output of each block, of which the last is
    /// replaced by that of the final norm, the [`features`](Self::features). Hugging Face's `hidden_states` are the same.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, length]`, ids of tokens
    /// - output: `depth + 1` tensors `[batch, length, d_model]`
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward).
    pub fn hidden_states(&self, tokens: Tensor<2, Int>) -> Vec<Tensor<3>> {
        let mut x = self.embed_from_start(tokens);
        let mut states = Vec::with_capacity(self.blocks.len() + 1);
        for block in &self.blocks {
            states.push(x.clone());
            x = block.forward(x);
        }
        states.push(self.norm.forward(x));
        states
    }

    /// The logits of each next token, from the features of each token: the head alone.
    ///
    /// # Shapes
    ///
    /// - features: `[batch, length, d_model]`, after the final norm
    /// - output: `[batch, length, vocab_size]`
    pub fn logits(&self, features: Tensor<3>) -> Tensor<3> {
        logits(&self.head, &self.tokens, features)
    }

    /// Tokens that begin their sequences, with positions.
    fn embed_from_start(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [_, length] = tokens.dims();
        check_length(length, self.context()).unwrap_or_else(|error| panic!("Gpt2: {error}"));
        self.embed(tokens, self.positions_from(0, length))
    }

    /// Tokens `[batch, length]` with the features of their positions, `[1 or batch, length, d_model]`.
    fn embed(&self, tokens: Tensor<2, Int>, positions: Tensor<3>) -> Tensor<3> {
        self.dropout.forward(self.tokens.forward(tokens) + positions)
    }

    /// The features `[1, length, d_model]` of the positions from `start`.
    fn positions_from(&self, start: usize, length: usize) -> Tensor<3> {
        self.positions.weight.val().narrow(0, start, length).unsqueeze()
    }

    /// The linear layers of the blocks, each with its name in Hugging Face's checkpoints: `h.0.attn.c_attn`, `h.0.attn.c_proj`,
    /// `h.0.mlp.c_fc`, `h.0.mlp.c_proj` and so on.
    pub fn linears(&self) -> impl Iterator<Item = (String, &StructuredLinear)> {
        let blocks = self.blocks.iter().enumerate();
        blocks.flat_map(|(index, block)| linear_names(index).into_iter().zip(block.linears()))
    }

    /// The linear layers of the blocks with their names, to be replaced by structured ones.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = (String, &mut StructuredLinear)> {
        let blocks = self.blocks.iter_mut().enumerate();
        blocks.flat_map(|(index, block)| linear_names(index).into_iter().zip(block.linears_mut()))
    }

    /// The same model with int8 weights in the linear layers of its blocks and in its head: for inference, see
    /// [`StructuredLinear::quantize`]. A head that is tied to the embeddings becomes a layer of its own, since it is read for every token
    /// and they are not.
    ///
    /// # Errors
    ///
    /// If the structure of a layer has no int8 form.
    pub fn quantize(mut self) -> Result<Self, StructureError> {
        let mut head = own_head(self.head.take(), &self.tokens);
        quantize(self.blocks.iter_mut().flat_map(|block| block.linears_mut()).chain([&mut head]))?;
        self.head = Some(head);
        Ok(self)
    }

    /// The factors of all structured layers, for an optimizer that gives each its own learning rate.
    pub fn factors(&self) -> Vec<Factor> {
        let blocks = self.linears().map(|(_, layer)| layer);
        blocks.chain(&self.head).flat_map(StructuredLinear::factors).collect()
    }

    /// The device that holds the model.
    pub fn device(&self) -> Device {
        self.tokens.weight.lazy_device()
    }

    /// Number of different tokens.
    pub fn vocab_size(&self) -> usize {
        self.tokens.weight.lazy_shape()[0]
    }

    /// The longest sequence of tokens.
    pub fn context(&self) -> usize {
        self.positions.weight.lazy_shape()[0]
    }

    /// Features of a token.
    pub fn d_model(&self) -> usize {
        self.positions.weight.lazy_shape()[1]
    }

    /// Attention heads of every block.
    pub fn heads(&self) -> usize {
        self.blocks.first().map_or(1, |block| block.attention.heads())
    }
}
