//! The block, with or without each line.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::activation::gelu;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Tensor};
use burn_structured::nn::{
    Epilogue, Structure, StructureError, StructuredLinear, StructuredLinearConfig, StructuredMlp, StructuredMlpConfig,
};
use burn_structured::ops::attention::{AttentionMask, self_attention};

/// A line of the block in the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// GELU as an epilogue of the layer before it, instead of Burn's.
    Activation,
    /// The residual as an epilogue of the layer before it, instead of a sum.
    Residual,
    /// `self_attention`, instead of Burn's attention on heads put first.
    Attention,
    /// `on_pool` around the pass.
    OnPool,
}

impl Line {
    /// All of them, in the order of the book.
    pub const ALL: [Self; 4] = [Self::Activation, Self::Residual, Self::Attention, Self::OnPool];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Activation => "activation as an epilogue",
            Self::Residual => "residual as an epilogue",
            Self::Attention => "self_attention",
            Self::OnPool => "on_pool",
        }
    }
}

/// The block of the book.
#[derive(Module, Debug)]
pub struct Block {
    norm1: LayerNorm,
    qkv: StructuredLinear,
    proj: StructuredLinear,
    norm2: LayerNorm,
    mlp: StructuredMlp,
    heads: usize,
}

impl Block {
    /// A block with random weights, all linear layers of one structure.
    ///
    /// # Errors
    ///
    /// If the structure does not fit a layer.
    pub fn try_new(
        d_model: usize,
        heads: usize,
        structure: Structure,
        device: &Device,
    ) -> Result<Self, StructureError> {
        let linear = |d_output| StructuredLinearConfig::new(d_model, d_output, structure).try_init(device);
        let norm = || LayerNormConfig::new(d_model).init(device);
        Ok(Self {
            norm1: norm(),
            qkv: linear(3 * d_model)?,
            proj: linear(d_model)?,
            norm2: norm(),
            mlp: StructuredMlpConfig::new(d_model, 4 * d_model)
                .with_up(structure)
                .with_down(structure)
                .try_init(device)?,
            heads,
        })
    }

    /// The same function with any of the lines.
    pub fn forward(&self, x: Tensor<3>, lines: &[Line]) -> Tensor<3> {
        let has = |line| lines.contains(&line);
        let qkv = self.qkv.forward(self.norm1.forward(x.clone()));
        let mixed = if has(Line::Attention) { self.fused(qkv) } else { self.heads_first(qkv) };
        let x = match has(Line::Residual) {
            true => self.proj.forward_then(mixed, Epilogue::new().with_residual(x)),
            false => x + self.proj.forward(mixed),
        };
        let normed = self.norm2.forward(x.clone());
        match (has(Line::Activation), has(Line::Residual)) {
            (true, true) => self.mlp.forward_added(normed, x),
            (true, false) => x + self.mlp.forward(normed),
            (false, residual) => {
                let hidden = gelu(self.mlp.up.forward(normed));
                match residual {
                    true => self.mlp.down.forward_then(hidden, Epilogue::new().with_residual(x)),
                    false => x + self.mlp.down.forward(hidden),
                }
            }
        }
    }

    fn fused(&self, qkv: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = qkv.dims();
        let qkv = qkv.reshape([batch, tokens, 3 * self.heads, width / (3 * self.heads)]);
        self_attention(qkv, AttentionMask::causal()).reshape([batch, tokens, width / 3])
    }

    /// Burn's attention, on `[batch, heads, tokens, d_head]`.
    fn heads_first(&self, qkv: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = qkv.dims();
        let part = |part: usize| {
            let part = qkv.clone().narrow(2, part * width / 3, width / 3);
            part.reshape([batch, tokens, self.heads, width / (3 * self.heads)]).swap_dims(1, 2)
        };
        let options = AttentionModuleOptions { is_causal: true, ..Default::default() };
        let mixed = attention(part(0), part(1), part(2), None, None, options);
        mixed.swap_dims(1, 2).reshape([batch, tokens, width / 3])
    }
}
