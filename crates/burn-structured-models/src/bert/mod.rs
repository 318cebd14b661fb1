//! A BERT sentence encoder whose linear layers are structured.
//!
//! The encoder of Devlin et al., *BERT: Pre-training of Deep Bidirectional Transformers*, 2019: learned positions, norms
//! after the residual sums, GELU with the exact error function. A sentence's embedding is the mean of its tokens' features
//! scaled to length 1, as in Reimers and Gurevych, *Sentence-BERT*, 2019. Weights come from Hugging Face checkpoints such as
//! `sentence-transformers/all-MiniLM-L6-v2`; the six linear layers of every layer each take a
//! [`Structure`](burn_structured_nn::Structure). [`Bert::from_folder`] also reads compressed checkpoints, and
//! [`Bert::save_folder`] writes them.
//!
//! ```no_run
//! use burn::tensor::Device;
//! use burn_structured_models::bert::Bert;
//! use burn_structured_nn::{Structure, StructuredLinear};
//!
//! let mut model = Bert::from_folder("all-MiniLM-L6-v2", &Device::flex())?;
//! let structure: Structure = "low-rank:ratio=0.5".parse()?;
//! for (name, layer) in model.linears_mut() {
//!     if let StructuredLinear::Dense(linear) = &*layer {
//!         let approximation = structure.approximate(linear)?;
//!         println!("{name}: off by {:.0} %", 100.0 * approximation.relative_error);
//!         *layer = approximation.layer;
//!     }
//! }
//! println!("{:.1} million parameters in {:.1}", 1e-6 * model.cost().dense_params as f64, 1e-6 * model.cost().params as f64);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With the feature `tokenizers`, `SentenceEncoder` goes from text to embeddings.

mod attention;
mod batch;
mod blocks;
mod checkpoint;
mod config;
mod embeddings;
mod error;
mod layer;
mod names;
#[cfg(feature = "tokenizers")]
mod sentence;
#[cfg(test)]
mod tests;
#[cfg(feature = "tokenizers")]
mod tokenizer;

pub use attention::Attention;
pub use batch::{TokenBatch, batches_of_one_length};
pub use config::BertConfig;
pub use embeddings::Embeddings;
pub use error::BertError;
pub use layer::Layer;
#[cfg(feature = "tokenizers")]
pub use sentence::SentenceEncoder;
#[cfg(feature = "tokenizers")]
pub use tokenizer::SentenceTokenizer;

use burn::module::Module;
use burn::tensor::{Bool, Device, Int, Tensor};
use burn_structured_nn::{Cost, Factor, StructureError, StructuredLinear, on_pool, quantize};

/// A BERT encoder.
///
/// Should be created with [`BertConfig`], or with [`Bert::from_folder`].
#[derive(Module, Debug)]
pub struct Bert {
    /// Words, positions and token types.
    pub embeddings: Embeddings,
    /// The layers.
    pub layers: Vec<Layer>,
    /// What is added to the variance in every layer norm, which does not tell.
    norm_epsilon: f64,
    /// The token that fills up short sentences.
    pad_id: usize,
}

impl Bert {
    /// The last layer's features of every token.
    ///
    /// Tokens outside the mask influence no other token; their own features mean nothing.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, length]`, ids of tokens
    /// - mask: `[batch, length]`, true where a token belongs to the sentence; at least one in every sentence
    /// - output: `[batch, length, d_model]`
    ///
    /// # Panics
    ///
    /// If there are more tokens than positions, or a token is not in the vocabulary.
    pub fn forward(&self, tokens: Tensor<2, Int>, mask: Tensor<2, Bool>) -> Tensor<3> {
        on_pool(&self.device(), || {
            let padding = mask.bool_not();
            let embedded = self.embeddings.forward(tokens);
            self.layers.iter().fold(embedded, |x, layer| layer.forward(x, padding.clone()))
        })
    }

    /// The embedding of every sentence: the mean of its tokens' features, scaled to length 1. The product of two embeddings
    /// is the cosine of their angle.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, length]`, ids of tokens
    /// - mask: `[batch, length]`, true where a token belongs to the sentence; at least one in every sentence
    /// - output: `[batch, d_model]`
    ///
    /// # Panics
    ///
    /// If there are more tokens than positions, or a token is not in the vocabulary.
    pub fn embed(&self, tokens: Tensor<2, Int>, mask: Tensor<2, Bool>) -> Tensor<2> {
        on_pool(&self.device(), || Self::pool(self.forward(tokens, mask.clone()), mask))
    }

    /// The mean `[batch, d_model]` of the features `[batch, length, d_model]` of the tokens inside the mask, scaled to length 1.
    fn pool(features: Tensor<3>, mask: Tensor<2, Bool>) -> Tensor<2> {
        let [batch, length] = mask.dims();
        // The length of a vector does not depend on its scale, so the sum serves as well as the mean.
        let sum = mask.float().reshape([batch, 1, length]).matmul(features).squeeze_dim::<2>(1);
        let norm = sum.clone().square().sum_dim(1).sqrt();
        sum / norm.clamp_min(1e-12)
    }

    /// The linear layers, each with its checkpoint's name: `encoder.layer.0.attention.self.query`.
    pub fn linears(&self) -> impl Iterator<Item = (String, &StructuredLinear)> {
        self.layers
            .iter()
            .enumerate()
            .flat_map(|(index, layer)| names::linear_names(index).into_iter().zip(layer.linears()))
    }

    /// The linear layers with their names, to be replaced by structured ones.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = (String, &mut StructuredLinear)> {
        let layers = self.layers.iter_mut().enumerate();
        layers.flat_map(|(index, layer)| names::linear_names(index).into_iter().zip(layer.linears_mut()))
    }

    /// The same model with int8 weights in the linear layers of its blocks: for inference, see [`StructuredLinear::quantize`].
    ///
    /// # Errors
    ///
    /// If the structure of a layer has no int8 form.
    pub fn quantize(mut self) -> Result<Self, StructureError> {
        quantize(self.linears_mut().map(|(_, layer)| layer))?;
        Ok(self)
    }

    /// The factors of all structured layers, for an optimizer that gives each its own learning rate.
    pub fn factors(&self) -> Vec<Factor> {
        self.linears().flat_map(|(_, layer)| layer.factors()).collect()
    }

    /// What the linear layers cost for one token.
    pub fn cost(&self) -> Cost {
        self.linears().map(|(_, layer)| layer.cost()).sum()
    }

    /// FLOPs of everything else for one sentence of `length` tokens, which are the attention's products. Norms, activations
    /// and softmax, which are linear in the tokens' features, are not counted.
    pub fn other_flops(&self, length: usize) -> usize {
        let [_, d_model] = self.embeddings.words.weight.shape().dims();
        self.layers.len() * 2 * 2 * length * length * d_model
    }

    /// The device that holds the model.
    pub fn device(&self) -> Device {
        self.embeddings.words.weight.device()
    }
}
