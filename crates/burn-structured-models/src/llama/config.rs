//! The sizes of a Llama, and how it is initialised.

use super::{Block, Llama, RopeScaling, RotaryEmbedding, linear_names};
use crate::decoder::{DecoderError, LayerRules, linear};
use burn::config::Config;
use burn::nn::{EmbeddingConfig, Initializer, RmsNormConfig};
use burn::tensor::Device;
use burn_structured_nn::{Structure, StructuredLinearConfig};

/// Configuration to create a [`Llama`] using the [init function](LlamaConfig::init).
///
/// The defaults are those of TinyLlama 1.1B.
#[derive(Config, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Number of different tokens.
    pub vocab_size: usize,
    /// The longest sequence of tokens.
    #[config(default = 2048)]
    pub context: usize,
    /// Features of a token.
    #[config(default = 2048)]
    pub d_model: usize,
    /// Number of blocks.
    #[config(default = 22)]
    pub depth: usize,
    /// Heads of the queries.
    #[config(default = 32)]
    pub heads: usize,
    /// Heads of the keys and values; divides `heads`.
    #[config(default = 4)]
    pub kv_heads: usize,
    /// Features of a head; 0 stands for `d_model / heads`.
    #[config(default = 0)]
    pub d_head: usize,
    /// Hidden features of the MLP.
    #[config(default = 5632)]
    pub d_hidden: usize,
    /// What is added to the mean square in every norm.
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
    /// The base of the wavelengths of the rotary position embeddings.
    #[config(default = 10000.0)]
    pub rope_theta: f64,
    /// How the frequencies of the rotary position embeddings are scaled.
    #[config(default = "None")]
    pub rope_scaling: Option<RopeScaling>,
    /// The structure of each linear layer of the blocks.
    #[config(default = "LayerRules::default()")]
    pub structures: LayerRules,
    /// The structure of the head; `None` uses the token embedding, which the head then shares.
    #[config(default = "Some(Structure::Dense)")]
    pub head: Option<Structure>,
}

impl LlamaConfig {
    /// Standard deviation of the initial weights and embeddings.
    pub(super) const STD: f64 = 0.02;

    /// A model for tests and quick trials: 4 blocks of 128 features, 4 heads of which 2 share keys and values, context 128.
    pub fn tiny(vocab_size: usize) -> Self {
        let sizes = Self::new(vocab_size).with_context(128).with_d_model(128).with_depth(4);
        sizes.with_heads(4).with_kv_heads(2).with_d_hidden(384)
    }

    /// SmolLM2 135M (Allal et al., 2025), 134.5 million parameters with its 49,152 tokens: 30 blocks of 576 features, 9 heads of
    /// which 3 share keys and values, context 8192, the embedding as head.
    pub fn smollm2_135m(vocab_size: usize) -> Self {
        let sizes = Self::new(vocab_size).with_context(8192).with_d_model(576).with_depth(30);
        let sizes = sizes.with_heads(9).with_kv_heads(3).with_d_hidden(1536);
        sizes.with_rope_theta(100_000.0).with_head(None)
    }

    /// Llama 3.2 1B (Grattafiori et al., 2024), 1,236 million parameters with its 128,256 tokens: 16 blocks of 2048 features, 32 heads of
    /// which 4 share keys and values, context 131,072 by scaled rotary embeddings, the embedding as head.
    pub fn llama3_2_1b(vocab_size: usize) -> Self {
        let sizes = Self::new(vocab_size).with_context(131_072).with_depth(16).with_kv_heads(8).with_d_hidden(8192);
        let scaling = RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original_context: 8192 };
        sizes.with_rope_theta(500_000.0).with_rope_scaling(Some(scaling)).with_head(None)
    }

    /// TinyLlama 1.1B (Zhang et al., 2024), 1,100 million parameters with its 32,000 tokens: 22 blocks of 2048 features, 32 heads of
    /// which 8 share keys and values, context 2048.
    pub fn tinyllama(vocab_size: usize) -> Self {
        Self::new(vocab_size)
    }

    /// The same model with all linear layers of the blocks of one structure.
    pub fn with_structure(self, structure: Structure) -> Self {
        self.with_structures(structure.into())
    }

    /// Features of a head.
    pub fn head_features(&self) -> usize {
        if self.d_head == 0 { self.d_model / self.heads } else { self.d_head }
    }

    /// Initialize a new [`Llama`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> Llama {
        self.try_init(device).unwrap_or_else(|error| panic!("Llama: {error}"))
    }

    /// Initialize a new [`Llama`] module, as `transformers` does: weights and embeddings from `N(0, 0.02²)`, norms 1. The entries of a
    /// structured weight have the variance of the dense one.
    ///
    /// # Errors
    ///
    /// If a size is zero, the heads do not divide the features, the heads of keys and values do not divide those of the queries, a head
    /// has an odd number of features, epsilon or theta is not positive, the scaling of the rotary embeddings is none, a rule decides
    /// about no layer, or a structure does not fit its layer.
    pub fn try_init(&self, device: &Device) -> Result<Llama, DecoderError> {
        self.check()?;
        let normal = Initializer::Normal { mean: 0.0, std: Self::STD };
        let rotary =
            RotaryEmbedding::new(self.head_features(), self.rope_theta).with_scaling(self.rope_scaling.clone());
        let block = |layer| Block::try_new(self, layer, rotary.clone(), device);
        let head = |structure| {
            let layer = StructuredLinearConfig::new(self.d_model, self.vocab_size, structure).with_bias(false);
            linear("lm_head".into(), &layer.with_initializer(Some(normal.clone())), device)
        };
        Ok(Llama {
            tokens: EmbeddingConfig::new(self.vocab_size, self.d_model).with_initializer(normal.clone()).init(device),
            blocks: (0..self.depth).map(block).collect::<Result<_, _>>()?,
            norm: RmsNormConfig::new(self.d_model).with_epsilon(self.norm_epsilon).init(device),
            head: self.head.map(head).transpose()?,
            context: self.context,
            rotary: rotary.clone(),
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
            ("kv_heads", self.kv_heads),
            ("d_hidden", self.d_hidden),
        ] {
            if value == 0 {
                return error(name, &value, "must be at least 1".into());
            }
        }
        if self.d_head == 0 && !self.d_model.is_multiple_of(self.heads) {
            let problem = format!("does not divide d_model = {}; choose a divisor of it, or set d_head", self.d_model);
            return error("heads", &self.heads, problem);
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let problem = format!("does not divide heads = {}; choose a divisor of it", self.heads);
            return error("kv_heads", &self.kv_heads, problem);
        }
        let d_head = self.head_features();
        if !d_head.is_multiple_of(2) || d_head.checked_mul(self.heads).is_none() {
            let problem =
                "must be even, as rotations turn pairs of features, and small enough to multiply by the heads";
            return error("d_head", &d_head, problem.into());
        }
        for (name, value) in [("norm_epsilon", self.norm_epsilon), ("rope_theta", self.rope_theta)] {
            if !(value > 0.0 && value.is_finite()) {
                return error(name, &value, "must be a number above 0".into());
            }
        }
        if let Some(scaling) = &self.rope_scaling
            && let Some(problem) = scaling.problem()
        {
            return error("rope_scaling", &format!("{scaling:?}"), problem.into());
        }
        Ok(self.structures.check(self.depth, linear_names)?)
    }
}
