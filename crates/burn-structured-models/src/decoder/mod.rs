//! What language models that are decoders share: [`LayerRules`] for their structures, a [`KvCache`], text [generation](generate), and
//! what a token costs.
//!
//! A model implements [`Decoder`]; the rest works for each of them.
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use burn_structured_models::decoder::Decoder;
//! use burn_structured_models::{gpt2::Gpt2Config, llama::LlamaConfig};
//!
//! /// The likeliest next token, and the one after it.
//! fn two_tokens(model: &impl Decoder, prompt: Tensor<2, Int>) -> [Tensor<2, Int>; 2] {
//!     let mut cache = model.cache(model.context());
//!     let mut next = |tokens| model.forward_cached(tokens, &mut cache).unwrap().argmax(2).squeeze_dim::<2>(2);
//!     let first = next(prompt);
//!     [first.clone(), next(first)]
//! }
//!
//! let device = Device::flex();
//! let prompt = Tensor::<2, Int>::from_data([[84, 104, 101, 32]], &device);
//! two_tokens(&Gpt2Config::nano(256).init(&device), prompt.clone());
//! two_tokens(&LlamaConfig::tiny(256).init(&device), prompt);
//! ```

mod batch;
mod cache;
mod config_file;
mod cost;
mod error;
pub mod generate;
mod linear;
mod rules;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use batch::windows;
pub use cache::KvCache;
pub(crate) use cache::{LayerCache, Slots};
pub use config_file::end_tokens;
pub(crate) use config_file::{read_config, supported};
pub use cost::DecoderCost;
pub use error::DecoderError;
pub(crate) use linear::{linear, logits, own_head};
pub use rules::{LayerRules, LayerRulesError};

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};

/// A language model that predicts each next token from those before it.
pub trait Decoder: Module {
    /// The features of each token after the final norm, for [`logits`](Self::logits).
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, length]`, ids of tokens
    /// - output: `[batch, length, d_model]`
    ///
    /// # Panics
    ///
    /// If there are more tokens than the context holds, or a token is not in the vocabulary.
    fn features(&self, tokens: Tensor<2, Int>) -> Tensor<3>;

    /// The logits of each next token, from the features of each token: the head alone.
    ///
    /// # Shapes
    ///
    /// - features: `[batch, length, d_model]`, after the final norm
    /// - output: `[batch, length, vocab_size]`
    fn logits(&self, features: Tensor<3>) -> Tensor<3>;

    /// The output of the last block for new tokens, which continue those in the cache and are added to it.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, new]`
    /// - output: `[batch, new, d_model]`; what belongs to padding means nothing
    ///
    /// # Errors and panics
    ///
    /// As [`forward_cached`](Self::forward_cached).
    fn stream_cached(&self, tokens: Tensor<2, Int>, cache: &mut KvCache) -> Result<Tensor<3>, DecoderError>;

    /// The final norm.
    fn final_norm(&self, stream: Tensor<3>) -> Tensor<3>;

    /// Number of blocks.
    fn depth(&self) -> usize;

    /// The longest sequence of tokens.
    fn context(&self) -> usize;

    /// Number of different tokens.
    fn vocab_size(&self) -> usize;

    /// The device that holds the model.
    fn device(&self) -> Device;

    /// What one token costs that sees a full context.
    fn cost(&self) -> DecoderCost;

    /// The logits of each next token.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, length]`, ids of tokens
    /// - output: `[batch, length, vocab_size]`
    ///
    /// # Panics
    ///
    /// As [`features`](Self::features).
    fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        self.logits(self.features(tokens))
    }

    /// An empty cache for sequences of up to `capacity` tokens, padding included. Memory is taken as tokens come.
    fn cache(&self, capacity: usize) -> KvCache {
        KvCache::new(self.depth(), capacity)
    }

    /// The logits that follow the last of the new tokens of each row.
    ///
    /// The new tokens continue those in the cache, and are added to it: first a prompt, whole or in chunks, then one token at a
    /// time. No gradient flows through the cache.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, new]`
    /// - output: `[batch, 1, vocab_size]`
    ///
    /// # Errors
    ///
    /// If there are no tokens, more than fit the context or the cache, or a batch of another size than before. The cache is
    /// left as it was.
    ///
    /// # Panics
    ///
    /// If the cache is that of a model of another depth, or a token is not in the vocabulary.
    fn forward_cached(&self, tokens: Tensor<2, Int>, cache: &mut KvCache) -> Result<Tensor<3>, DecoderError> {
        let [_, new] = tokens.dims();
        let last = self.stream_cached(tokens, cache)?.narrow(1, new - 1, 1);
        Ok(self.logits(self.final_norm(last)))
    }

    /// The features of all new tokens, as those of [`features`](Self::features), for [`logits`](Self::logits).
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, new]`
    /// - output: `[batch, new, d_model]`; what belongs to padding means nothing
    ///
    /// # Errors and panics
    ///
    /// As [`forward_cached`](Self::forward_cached).
    fn features_cached(&self, tokens: Tensor<2, Int>, cache: &mut KvCache) -> Result<Tensor<3>, DecoderError> {
        Ok(self.final_norm(self.stream_cached(tokens, cache)?))
    }
}

/// Whether a sequence of so many tokens fits a context.
///
/// # Errors
///
/// If it does not.
pub(crate) fn check_length(tokens: usize, context: usize) -> Result<(), DecoderError> {
    if tokens > context { Err(DecoderError::Context { tokens, context }) } else { Ok(()) }
}
