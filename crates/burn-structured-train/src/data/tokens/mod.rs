//! Tokens for language models: where they come from, and how they become batches.
//!
//! | type | what |
//! |---|---|
//! | [`Text`] | UTF-8 text in files or memory, checked once; split as nanoGPT does and turned into tokens |
//! | [`prepare`] | writes the tokens of a text to a file, in bounded memory |
//! | [`TokenFile`] | memory-mapped token files in the layouts of nanoGPT and llm.c |
//! | [`TokenSource`] | a range of a token file, or of tokens in memory |
//! | [`TokenWindows`] | random windows for training, as one of Burn's data loaders |
//! | [`EvaluationWindows`] | sliding windows that score every token once |
//!
//! ```
//! use burn::data::dataloader::DataLoader;
//! use burn::tensor::Device;
//! use burn_structured_models::text::Tokenizer;
//! use burn_structured_train::data::tokens::{Text, TokenWindowsConfig};
//!
//! let text = Text::from_memory("fox", &"the quick brown fox jumps over the lazy dog; ".repeat(10))?;
//! let tokenizer = Tokenizer::characters_of(text.alphabet());
//! let (train, validation) = text.split(0.9)?;
//! assert_eq!((train.characters(), validation.characters()), (405, 45));
//!
//! let config = TokenWindowsConfig::new(tokenizer.vocab_size(), 16, 4, 100);
//! let loader = config.try_init(train.tokens(&tokenizer)?, &Device::flex())?;
//! let batch = loader.iter().next().expect("100 steps")?;
//! assert_eq!(batch.inputs.dims(), [4, 16]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod blocks;
mod evaluation;
mod file;
mod layout;
mod prepare;
mod source;
#[cfg(test)]
mod tests;
mod text;
mod windows;
mod writer;

pub use batch::TokenBatch;
pub use evaluation::{EvaluationBatch, EvaluationWindows};
pub use file::TokenFile;
pub use layout::TokenLayout;
pub use prepare::{PrepareProgress, prepare};
pub use source::TokenSource;
pub use text::Text;
pub use windows::{TokenWindows, TokenWindowsConfig};
pub(crate) use writer::TokenWriter;
