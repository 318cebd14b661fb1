//! One block of GPT-2 small: 768 features, 12 heads, causal attention, an MLP four times as wide (Radford et al., 2019), its
//! four linear layers of one structure.

use burn::module::Module;
use burn::nn::{Gelu, LayerNorm, LayerNormConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Device, Tensor};
use burn_structured::nn::{Cost, Structure, StructureError, StructuredLinear, StructuredLinearConfig};

/// Features of a token.
pub const D_MODEL: usize = 768;
const HEADS: usize = 12;

/// A decoder block.
#[derive(Module, Debug)]
pub struct Gpt2Block {
    norm1: LayerNorm,
    qkv: StructuredLinear,
    proj: StructuredLinear,
    norm2: LayerNorm,
    fc1: StructuredLinear,
    activation: Gelu,
    fc2: StructuredLinear,
}

impl Gpt2Block {
    /// A block with all four linear layers of `structure`.
    ///
    /// # Errors
    ///
    /// If the structure does not fit one of the layers.
    pub fn try_new(structure: Structure, device: &Device) -> Result<Self, StructureError> {
        let linear = |d_input, d_output| StructuredLinearConfig::new(d_input, d_output, structure).try_init(device);
        Ok(Self {
            norm1: LayerNormConfig::new(D_MODEL).init(device),
            qkv: linear(D_MODEL, 3 * D_MODEL)?,
            proj: linear(D_MODEL, D_MODEL)?,
            norm2: LayerNormConfig::new(D_MODEL).init(device),
            fc1: linear(D_MODEL, 4 * D_MODEL)?,
            activation: Gelu::new(),
            fc2: linear(4 * D_MODEL, D_MODEL)?,
        })
    }

    /// What no token may look at: `[tokens, tokens]`, true above the diagonal.
    pub fn future(tokens: usize, device: &Device) -> Tensor<2, Bool> {
        Tensor::tril_mask([tokens, tokens], 0, device)
    }

    /// `x + attention(norm(x))`, then `x + mlp(norm(x))`: `[batch, tokens, 768]` to the same shape.
    pub fn forward(&self, x: Tensor<3>, future: Tensor<2, Bool>) -> Tensor<3> {
        let [batch, tokens, _] = x.dims();
        let heads = self
            .qkv
            .forward(self.norm1.forward(x.clone()))
            .reshape([batch, tokens, 3, HEADS, D_MODEL / HEADS])
            .permute([2, 0, 3, 1, 4])
            .reshape([3 * batch, HEADS, tokens, D_MODEL / HEADS]);
        let [query, key, value] = [0, 1, 2].map(|part| heads.clone().narrow(0, part * batch, batch));
        let scores = query.matmul(key.swap_dims(2, 3)) * ((D_MODEL / HEADS) as f64).powf(-0.5);
        let scores = scores.mask_fill(future.unsqueeze(), -1e9);
        let mixed = softmax(scores, 3).matmul(value).swap_dims(1, 2).reshape([batch, tokens, D_MODEL]);
        let x = x + self.proj.forward(mixed);
        let hidden = self.activation.forward(self.fc1.forward(self.norm2.forward(x.clone())));
        x + self.fc2.forward(hidden)
    }

    /// The cost of the four linear layers for one token.
    pub fn cost(&self) -> Cost {
        self.qkv.cost() + self.proj.cost() + self.fc1.cost() + self.fc2.cost()
    }
}
