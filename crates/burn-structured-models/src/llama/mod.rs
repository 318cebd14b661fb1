//! Llama with structured linear layers.
//!
//! The decoder of Touvron et al., *LLaMA: Open and Efficient Foundation Language Models*, 2023, with grouped key and value heads
//! (Ainslie et al., *GQA*, 2023): norms by the root mean square before attention and MLP, rotary position embeddings, a gated MLP, no
//! biases. The seven linear layers of every block each take a [`Structure`](burn_structured_nn::Structure), chosen by
//! [`LayerRules`](crate::decoder::LayerRules); embedding and head stay dense unless the configuration says otherwise.
//! [`Llama::from_folder`] reads Hugging Face's checkpoints, and [`Llama::save_folder`] writes them, whatever the structures.
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use burn_structured_models::decoder::Decoder;
//! use burn_structured_models::llama::LlamaConfig;
//!
//! let device = Device::flex();
//! let config = LlamaConfig::tiny(256).with_structures("first=dense;blast:b=4,ratio=0.4".parse()?);
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
mod rotary;
#[cfg(test)]
mod tests;

pub use attention::Attention;
pub use block::{Block, linear_names};
pub use config::LlamaConfig;
pub use rotary::{RopeScaling, RotaryEmbedding, Rotation};

use crate::decoder::{check_length, logits, own_head};
use burn::module::Module;
use burn::nn::{Embedding, RmsNorm};
use burn::tensor::{Device, Int, Tensor};
use burn_structured_nn::{Factor, StructureError, StructuredLinear, on_pool, quantize};

/// A Llama.
///
/// Should be created with [`LlamaConfig`], or with [`Llama::from_folder`].
#[derive(Module, Debug)]
pub struct Llama {
    /// One row of features for each token of the vocabulary.
    pub tokens: Embedding,
    /// The transformer blocks.
    pub blocks: Vec<Block>,
    /// The norm before the head.
    pub norm: RmsNorm,
    /// The head; `None` multiplies by the token embedding.
    pub head: Option<StructuredLinear>,
    context: usize,
    #[module(skip)]
    rotary: RotaryEmbedding,
}

impl Llama {
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
            let rotation = self.rotation(&tokens);
            let x = self.blocks.iter().fold(self.embed(tokens), |x, block| block.forward_rotated(x, &rotation));
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
        let rotation = self.rotation(&tokens);
        let mut x = self.embed(tokens);
        let mut states = Vec::with_capacity(self.blocks.len() + 1);
        for block in &self.blocks {
            states.push(x.clone());
            x = block.forward_rotated(x, &rotation);
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

    /// Tokens that begin their sequences.
    fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [_, length] = tokens.dims();
        check_length(length, self.context).unwrap_or_else(|error| panic!("Llama: {error}"));
        self.tokens.forward(tokens)
    }

    /// The rotation of tokens that begin their sequences.
    fn rotation(&self, tokens: &Tensor<2, Int>) -> Rotation {
        self.rotary.rotation(0..tokens.dims()[1], &self.device())
    }

    /// The linear layers of the blocks, each with its name in Hugging Face's checkpoints, without `model.` in front:
    /// `layers.0.self_attn.q_proj`, `k_proj`, `v_proj` and `o_proj`, `layers.0.mlp.gate_proj`, `up_proj` and `down_proj`, and so on.
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
        self.context
    }

    /// Features of a token.
    pub fn d_model(&self) -> usize {
        self.tokens.weight.lazy_shape()[1]
    }

    /// Heads of the queries of every block.
    pub fn heads(&self) -> usize {
        self.blocks.first().map_or(1, |block| block.attention.heads())
    }

    /// Heads of the keys and values of every block.
    pub fn kv_heads(&self) -> usize {
        self.blocks.first().map_or(1, |block| block.attention.kv_heads())
    }

    /// The position embedding.
    pub fn rotary(&self) -> &RotaryEmbedding {
        &self.rotary
    }
}
