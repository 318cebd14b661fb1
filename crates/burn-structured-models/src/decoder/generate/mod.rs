//! Text generation: sampling, stop strings, streaming, and batches of prompts over the KV cache.
//!
//! ```no_run
//! use burn::tensor::Device;
//! use burn_structured_models::gpt2::Gpt2;
//! use burn_structured_models::decoder::generate::{GenerationConfig, Generator, SamplingConfig};
//! use burn_structured_models::text::Tokenizer;
//!
//! let model = Gpt2::from_folder("runs/gpt2_text", &Device::flex())?;
//! let tokenizer = Tokenizer::from_folder("runs/gpt2_text")?;
//! let sampling = SamplingConfig::new().with_temperature(0.8).with_top_k(Some(40));
//! let config = GenerationConfig::new().with_tokens(50).with_sampling(sampling);
//! let generation = Generator::new(&model, &tokenizer)?.generate(&["A structured matrix"], &config, |_, text| {
//!     print!("{text}");
//! })?;
//! println!("\n{:.0} tokens/s", generation.decode.tokens_per_second());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod error;
mod generator;
mod sampling;
mod speed;
mod stop;
#[cfg(test)]
mod tests;
mod tokens;

pub use config::{GenerationConfig, Overflow};
pub use error::GenerateError;
pub use generator::{Continuation, FinishReason, Generation, Generator};
pub use sampling::{Sampler, SamplingConfig};
pub use speed::Speed;
pub use tokens::{TokenGeneration, generate_tokens};
