//! The names that checkpoints give to the tensors of a model, and the module paths of the same tensors.

/// How a model's tensors are called.
pub(crate) struct Names {
    /// What some checkpoints put before every name.
    pub prefix: &'static str,
    /// How the names begin that never have the prefix.
    pub unprefixed: Option<&'static str>,
    /// Outside of the blocks: how a name begins, and the path.
    pub model: &'static [(&'static str, &'static str)],
    /// How the names and the paths of the blocks' tensors begin; the number of the block follows.
    pub blocks: (&'static str, &'static str),
    /// Inside of a block: how the rest of a name begins, and the rest of the path.
    pub block: &'static [(&'static str, &'static str)],
    /// Other spellings of the end of a name, and the usual one.
    pub aliases: &'static [(&'static str, &'static str)],
    /// What older checkpoints hold in a block beside weights.
    pub buffers: &'static [&'static str],
}

impl Names {
    /// A checkpoint's name without the prefix.
    pub fn without_prefix<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(self.prefix).unwrap_or(name)
    }

    /// A name with `prefix`, if it can have one.
    pub fn with_prefix(&self, name: &str, prefix: &str) -> String {
        match self.unprefixed {
            Some(start) if name.starts_with(start) => name.to_string(),
            _ => format!("{prefix}{name}"),
        }
    }

    /// The path of the tensor that a checkpoint calls `name`, with or without the prefix; `None` if no model has it.
    pub fn module_path(&self, name: &str) -> Option<String> {
        let name = self.without_prefix(name);
        let usual = self.aliases.iter().find_map(|(from, to)| Some(format!("{}{to}", name.strip_suffix(from)?)));
        let name = usual.as_deref().unwrap_or(name);
        let Some((block, rest)) = in_block(name, self.blocks.0) else {
            return renamed(name, self.model.iter().copied());
        };
        Some(format!("{}{}", self.block_path(block), renamed(rest, self.block.iter().copied())?))
    }

    /// The name, without the prefix, of the tensor at a module path.
    pub fn name(&self, path: &str) -> String {
        let swapped = |table: &'static [(&str, &str)]| table.iter().map(|(name, path)| (*path, *name));
        let name = match in_block(path, self.blocks.1) {
            None => renamed(path, swapped(self.model)),
            Some((block, rest)) => {
                renamed(rest, swapped(self.block)).map(|name| format!("{}{block}.{name}", self.blocks.0))
            }
        };
        name.unwrap_or_else(|| path.to_string())
    }

    /// How the paths of a block's tensors begin.
    pub fn block_path(&self, block: usize) -> String {
        format!("{}{block}.", self.blocks.1)
    }

    /// Whether a name belongs to a block, but to no weight.
    pub fn is_buffer(&self, name: &str) -> bool {
        in_block(name, self.blocks.0).is_some_and(|(_, rest)| self.buffers.contains(&rest))
    }

    /// The number of the block of a name without the prefix; `None` for other names.
    pub fn block_of(&self, name: &str) -> Option<usize> {
        in_block(name, self.blocks.0).map(|(block, _)| block)
    }
}

/// The number of the block and what follows it.
fn in_block<'a>(name: &'a str, start: &str) -> Option<(usize, &'a str)> {
    let (block, rest) = name.strip_prefix(start)?.split_once('.')?;
    Some((block.parse().ok()?, rest))
}

fn renamed<'a>(name: &str, mut table: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    table.find_map(|(from, to)| Some(format!("{to}{}", name.strip_prefix(from)?)))
}
