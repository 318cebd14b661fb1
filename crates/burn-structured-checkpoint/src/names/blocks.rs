//! Tensors of blocks, and the number of blocks in a configuration.

use super::Family;
use super::tables::{TABLES, block_number};

/// The name of a tensor that belongs to a block of a model of a known family, such as `bert.encoder.layer.5.output.LayerNorm.bias`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockName<'a> {
    /// The number of the block.
    pub block: usize,
    before: &'a str,
    after: &'a str,
}

impl<'a> BlockName<'a> {
    /// The parts of a name; `None` if it belongs to no block.
    pub fn parse(family: Family, name: &'a str) -> Option<Self> {
        let containers = TABLES.iter().filter(|table| table.family == family).map(|table| table.container);
        containers.flat_map(|container| name.match_indices(container).map(move |(at, _)| (at, container))).find_map(
            |(at, container)| {
                let (before, rest) = name.split_at_checked(at + container.len())?;
                let alone = at == 0 || name.as_bytes()[at - 1] == b'.';
                let (number, after) = rest.strip_prefix('.')?.split_once('.')?;
                let block = block_number(number).filter(|_| alone && !number.is_empty())?;
                Some(Self { block, before, after })
            },
        )
    }

    /// The name of the same tensor of another block.
    pub fn of_block(&self, block: usize) -> String {
        format!("{}.{block}.{}", self.before, self.after)
    }
}

impl Family {
    /// The field of `config.json` with the number of blocks, as far as it is known.
    pub fn depth_field(self) -> Option<&'static str> {
        match self {
            Self::Bert | Self::Vit | Self::Llama => Some("num_hidden_layers"),
            Self::Gpt2 => Some("n_layer"),
            Self::Other => None,
        }
    }
}
