//! Fine-tuning a sentence encoder on scored pairs, as the STS benchmark has them.
//!
//! The loss of a batch of pairs is the mean of `(cos(e₁, e₂) − s / 5)²` for the embeddings `e₁`, `e₂` of the two sentences and a
//! person's score `s` from 0 to 5, as in Reimers and Gurevych, *Sentence-BERT*, 2019. The layers of the encoder are trained, dense and
//! structured ones alike, by AdamW with linear warm-up and a cosine down to a hundredth.
//!
//! | type | what |
//! |---|---|
//! | [`TokenPairs`] | pairs as tokens, and how well a model ranks them |
//! | [`FineTuneConfig`] | the settings |
//! | [`fine_tune`] | the training, with a score on held-out pairs after every epoch |

mod config;
mod learner;
mod pairs;
#[cfg(test)]
mod tests;

pub use config::FineTuneConfig;
pub use learner::{EpochScore, FineTuneStep, FineTuned, fine_tune};
pub use pairs::TokenPairs;
