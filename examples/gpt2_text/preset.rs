//! Sizes of a GPT-2 by name.

use burn_structured::models::gpt2::Gpt2Config;
use clap::ValueEnum;
use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// nanoGPT's model for a CPU: 4 blocks, 4 heads, 128 features, context 64
    Nano,
    /// GPT-2 124M: 12 blocks, 12 heads, 768 features, context 1024
    Small,
    /// GPT-2 355M: 24 blocks, 16 heads, 1024 features, context 1024
    Medium,
}

impl Preset {
    /// The model for this many different tokens.
    pub fn config(self, vocab_size: usize) -> Gpt2Config {
        match self {
            Self::Nano => Gpt2Config::nano(vocab_size),
            Self::Small => Gpt2Config::small(vocab_size),
            Self::Medium => Gpt2Config::medium(vocab_size),
        }
    }
}
