//! One Mixer block: an MLP across the tokens and one across the features, each a residual branch after its norm.

use crate::ModelError;
use crate::drop_path::{DropPath, DropPathConfig};
use crate::layers::mlp;
use crate::residual::mlp_added;
use burn::config::Config;
use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, LayerNorm, LayerNormConfig};
use burn::tensor::{Device, Tensor};
use burn_structured_nn::{Cost, Factor, MlpActivation, Structure, StructuredLinear, StructuredMlp};

/// Configuration to create a [`MixerBlock`] using the [init function](MixerBlockConfig::try_init).
#[derive(Config, Debug)]
pub struct MixerBlockConfig {
    /// Tokens of an image.
    pub tokens: usize,
    /// Features of a token.
    pub d_model: usize,
    /// Hidden features of the token-mixing MLP.
    pub d_token: usize,
    /// Hidden features of the channel-mixing MLP.
    pub d_channel: usize,
    /// Dropout probability after each layer of both MLPs.
    #[config(default = 0.0)]
    pub dropout: f64,
    /// Probability of skipping a branch.
    #[config(default = 0.0)]
    pub drop_path: f64,
    /// Structure of the first token-mixing layer.
    #[config(default = "Structure::Dense")]
    pub token_up: Structure,
    /// Structure of the second token-mixing layer.
    #[config(default = "Structure::Dense")]
    pub token_down: Structure,
    /// Structure of the first channel-mixing layer.
    #[config(default = "Structure::Dense")]
    pub channel_up: Structure,
    /// Structure of the second channel-mixing layer.
    #[config(default = "Structure::Dense")]
    pub channel_down: Structure,
}

/// `x + token_mlp(norm(x)ᵀ)ᵀ`, then `x + channel_mlp(norm(x))`.
///
/// Should be created with [`MixerBlockConfig`].
#[derive(Module, Debug)]
pub struct MixerBlock {
    /// The norm before the token mixing.
    pub norm1: LayerNorm,
    /// The MLP across the tokens of each feature.
    pub token_mlp: StructuredMlp,
    /// The norm before the channel mixing.
    pub norm2: LayerNorm,
    /// The MLP across the features of each token.
    pub channel_mlp: StructuredMlp,
    /// Dropout in both MLPs.
    pub dropout: Dropout,
    /// Stochastic depth of both branches.
    pub drop_path: DropPath,
}

impl MixerBlockConfig {
    /// Initialize a new [`MixerBlock`] module.
    ///
    /// # Errors
    ///
    /// If a structure does not fit its layer.
    pub fn try_init(&self, device: &Device) -> Result<MixerBlock, ModelError> {
        let token_layers = [("token_up", self.token_up), ("token_down", self.token_down)];
        let channel_layers = [("channel_up", self.channel_up), ("channel_down", self.channel_down)];
        Ok(MixerBlock {
            norm1: LayerNormConfig::new(self.d_model).init(device),
            token_mlp: mlp(self.tokens, self.d_token, token_layers, MlpActivation::Gelu, device)?,
            norm2: LayerNormConfig::new(self.d_model).init(device),
            channel_mlp: mlp(self.d_model, self.d_channel, channel_layers, MlpActivation::Gelu, device)?,
            dropout: DropoutConfig::new(self.dropout).init(),
            drop_path: DropPathConfig::new(self.drop_path).init(),
        })
    }
}

impl MixerBlock {
    /// `[batch, tokens, d_model]` to the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let transposed = self.norm1.forward(x.clone()).swap_dims(1, 2);
        let mixed = self.mix(&self.token_mlp, transposed, None).swap_dims(1, 2);
        let x = x + self.drop_path.forward(mixed);
        self.drop_path.add_branch(x, |x, residual| self.mix(&self.channel_mlp, self.norm2.forward(x), residual))
    }

    fn mix(&self, mlp: &StructuredMlp, x: Tensor<3>, residual: Option<Tensor<3>>) -> Tensor<3> {
        mlp_added([&mlp.up, &mlp.down], mlp.activation(), x, Some(&self.dropout), &self.dropout, residual)
    }

    /// The four linear layers, in the order in which they are applied.
    pub fn linears(&self) -> [&StructuredLinear; 4] {
        [&self.token_mlp.up, &self.token_mlp.down, &self.channel_mlp.up, &self.channel_mlp.down]
    }

    /// The layers that take a structure, to be replaced.
    pub fn linears_mut(&mut self) -> [&mut StructuredLinear; 4] {
        [&mut self.token_mlp.up, &mut self.token_mlp.down, &mut self.channel_mlp.up, &mut self.channel_mlp.down]
    }

    /// The factors of the four linear layers.
    pub fn factors(&self) -> Vec<Factor> {
        self.linears().into_iter().flat_map(StructuredLinear::factors).collect()
    }

    /// The cost of the token-mixing layers for one feature of all tokens.
    pub(super) fn token_cost(&self) -> Cost {
        self.token_mlp.up.cost() + self.token_mlp.down.cost()
    }

    /// The cost of the channel-mixing layers for one token.
    pub(super) fn channel_cost(&self) -> Cost {
        self.channel_mlp.up.cost() + self.channel_mlp.down.cost()
    }
}
