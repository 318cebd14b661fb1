//! The sizes of a GPT-2, and how it is initialised.

use super::{Block, Gpt2, linear_names};
use crate::decoder::{DecoderError, LayerRules, linear};
use burn::config::Config;
use burn::nn::{DropoutConfig, EmbeddingConfig, Initializer, LayerNormConfig};
use burn::tensor::Device;
use burn_structured_nn::{Structure, StructuredLinearConfig};

/// Configuration to create a [`Gpt2`] using the [init function](Gpt2Config::init).
///
/// The defaults are those of GPT-2 small, without dropout.
#[derive(Config, Debug, PartialEq)]
pub struct Gpt2Config {
    /// Number of different tokens.
    pub vocab_size: usize,
    /// The longest sequence of tokens.
    #[config(default = 1024)]
    pub context: usize,
    /// Features of a token.
    #[config(default = 768)]
    pub d_model: usize,
    /// Number of blocks.
    #[config(default = 12)]
    pub depth: usize,
    /// Attention heads; divides `d_model`.
    #[config(default = 12)]
    pub heads: usize,
    /// Features between the two layers of the MLP; 0 stands for `4 · d_model`.
    #[config(default = 0)]
    pub d_hidden: usize,
    /// Dropout probability after the embedding, the attention and the MLP.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// What is added to the variance in every layer norm.
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
    /// The structure of each linear layer of the blocks.
    #[config(default = "LayerRules::default()")]
    pub structures: LayerRules,
    /// The structure of the head; `None` uses the token embedding, which the head then shares.
    #[config(default = "None")]
    pub head: Option<Structure>,
}

impl Gpt2Config {
    /// Standard deviation of the initial weights and embeddings.
    pub(super) const STD: f64 = 0.02;

    /// A model that two CPU cores can train: nanoGPT's CPU setting, 4 blocks of 128 features in 4 heads, context 64.
    pub fn nano(vocab_size: usize) -> Self {
        Self::new(vocab_size).with_context(64).with_d_model(128).with_depth(4).with_heads(4)
    }

    /// GPT-2 small, 124 million parameters with its 50,257 tokens: 12 blocks of 768 features in 12 heads, context 1024.
    pub fn small(vocab_size: usize) -> Self {
        Self::new(vocab_size)
    }

    /// GPT-2 medium, 355 million parameters with its 50,257 tokens: 24 blocks of 1024 features in 16 heads, context 1024.
    pub fn medium(vocab_size: usize) -> Self {
        Self::new(vocab_size).with_d_model(1024).with_depth(24).with_heads(16)
    }

    /// The same model with all linear layers of the blocks of one structure.
    pub fn with_structure(self, structure: Structure) -> Self {
        self.with_structures(structure.into())
    }

    /// Features between the two layers of the MLP.
    pub fn mlp_features(&self) -> usize {
        if self.d_hidden == 0 { 4 * self.d_model } else { self.d_hidden }
    }

    /// Initialize a new [`Gpt2`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> Gpt2 {
        self.try_init(device).unwrap_or_else(|error| panic!("Gpt2: {error}"))
    }

    /// Initialize a new [`Gpt2`] module, as GPT-2 was: weights and embeddings from `N(0, 0.02²)`, the projections into the
    /// residual stream, `attn.c_proj` and `mlp.c_proj`, smaller by `1 / √(2 · depth)`, biases 0 (Radford et al., *Language
    /// Models are Unsupervised Multitask Learners*, 2019, §2.3). The entries of a structured weight have the variance of the
    /// dense one.
    ///
    /// # Errors
    ///
    /// If a size is zero, the heads do not divide the features, the dropout is outside `[0, 1)`, the epsilon is not positive,
    /// a rule decides about no layer, or a structure does not fit its layer.
    pub fn try_init(&self, device: &Device) -> Result<Gpt2, DecoderError> {
        self.check()?;
        let normal = Initializer::Normal { mean: 0.0, std: Self::STD };
        let embedding = |rows| EmbeddingConfig::new(rows, self.d_model).with_initializer(normal.clone()).init(device);
        let head = |structure| {
            let layer = StructuredLinearConfig::new(self.d_model, self.vocab_size, structure).with_bias(false);
            linear("lm_head".into(), &layer.with_initializer(Some(normal.clone())), device)
        };
        Ok(Gpt2 {
            tokens: embedding(self.vocab_size),
            positions: embedding(self.context),
            dropout: DropoutConfig::new(self.dropout).init(),
            blocks: (0..self.depth).map(|layer| Block::try_new(self, layer, device)).collect::<Result<_, _>>()?,
            norm: LayerNormConfig::new(self.d_model).with_epsilon(self.norm_epsilon).init(device),
            head: self.head.map(head).transpose()?,
            norm_epsilon: self.norm_epsilon,
        })
    }

    /// # Errors
    ///
    /// If a setting is out of range or does not fit another. Whether structures fit their layers is left to
    /// [`try_init`](Self::try_init).
    pub(super) fn check(&self) -> Result<(), DecoderError> {
        let error = |name, value: &dyn ToString, problem: String| {
            Err(DecoderError::Setting { name, value: value.to_string(), problem })
        };
        for (name, value) in [
            ("vocab_size", self.vocab_size),
            ("context", self.context),
            ("d_model", self.d_model),
            ("depth", self.depth),
            ("heads", self.heads),
        ] {
            if value == 0 {
                return error(name, &value, "must be at least 1".into());
            }
        }
        if !self.d_model.is_multiple_of(self.heads) {
            let problem = format!("does not divide d_model = {}; choose a divisor of it", self.d_model);
            return error("heads", &self.heads, problem);
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return error("dropout", &self.dropout, "is no probability from 0 to below 1".into());
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon.is_finite()) {
            return error("norm_epsilon", &self.norm_epsilon, "must be a number above 0, such as 0.00001".into());
        }
        Ok(self.structures.check(self.depth, linear_names)?)
    }
}
