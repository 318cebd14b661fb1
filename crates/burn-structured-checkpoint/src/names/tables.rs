//! The names that the known families give to the linear layers of a block.

use super::Family;

/// The layers of a block, in the order in which it applies them.
pub(super) struct Table {
    pub family: Family,
    /// What stands before the number of a block.
    pub container: &'static str,
    /// The name of a layer inside of its block.
    modules: &'static [Module],
}

struct Module {
    name: &'static str,
    /// Whether a checkpoint with this name is one of the family.
    signs: bool,
    /// Whether it is several layers in one.
    fused: bool,
}

const fn layer(name: &'static str) -> Module {
    Module { name, signs: false, fused: false }
}

const fn sign(name: &'static str) -> Module {
    Module { name, signs: true, fused: false }
}

const fn fused(name: &'static str) -> Module {
    Module { name, signs: false, fused: true }
}

/// Where a layer is; the order is that of the network.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// What stands before the container.
    pub prefix: String,
    pub block: usize,
    /// The position in the table.
    pub module: usize,
    pub fused: bool,
}

const BERT: Table = Table {
    family: Family::Bert,
    container: "encoder.layer",
    modules: &[
        sign("attention.self.query"),
        sign("attention.self.key"),
        sign("attention.self.value"),
        layer("attention.output.dense"),
        layer("intermediate.dense"),
        layer("output.dense"),
    ],
};

const VIT: Table = Table {
    family: Family::Vit,
    container: "encoder.layer",
    modules: &[
        sign("attention.attention.query"),
        sign("attention.attention.key"),
        sign("attention.attention.value"),
        layer("attention.output.dense"),
        layer("intermediate.dense"),
        layer("output.dense"),
        // DINOv2's.
        layer("mlp.fc1"),
        layer("mlp.fc2"),
    ],
};

const TIMM: Table = Table {
    family: Family::Vit,
    container: "blocks",
    modules: &[
        Module { name: "attn.qkv", signs: true, fused: true },
        layer("attn.proj"),
        layer("mlp.fc1"),
        layer("mlp.fc2"),
    ],
};

pub(super) const GPT2: Table = Table {
    family: Family::Gpt2,
    container: "h",
    modules: &[
        Module { name: "attn.c_attn", signs: true, fused: true },
        layer("attn.c_proj"),
        layer("mlp.c_fc"),
        layer("mlp.c_proj"),
    ],
};

/// The positions in [`GPT2`] of the layers with more outputs than inputs.
pub(super) const GPT2_WIDENING: [usize; 2] = [0, 2];

const LLAMA: Table = Table {
    family: Family::Llama,
    container: "layers",
    modules: &[
        layer("self_attn.q_proj"),
        layer("self_attn.k_proj"),
        layer("self_attn.v_proj"),
        fused("self_attn.qkv_proj"),
        layer("self_attn.o_proj"),
        sign("mlp.gate_proj"),
        layer("mlp.up_proj"),
        Module { name: "mlp.gate_up_proj", signs: true, fused: true },
        layer("mlp.down_proj"),
    ],
};

pub(super) const TABLES: [Table; 5] = [BERT, VIT, TIMM, GPT2, LLAMA];

impl Table {
    /// Where the layer of this name is; `None` if it is none of the table's.
    pub fn locate(&self, layer: &str) -> Option<Place> {
        self.modules.iter().enumerate().find_map(|(module, Module { name, fused, .. })| {
            let block = layer.strip_suffix(name)?.strip_suffix('.')?;
            let (container, number) = block.rsplit_once('.')?;
            let prefix = container.strip_suffix(self.container)?;
            if !(prefix.is_empty() || prefix.ends_with('.')) {
                return None;
            }
            Some(Place { prefix: prefix.to_string(), block: block_number(number)?, module, fused: *fused })
        })
    }

    /// Whether a layer of this name is found in checkpoints of the family only.
    pub fn signs(&self, layer: &str) -> bool {
        self.locate(layer).is_some_and(|place| self.modules[place.module].signs)
    }
}

/// The number of a block: digits only.
pub(super) fn block_number(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
