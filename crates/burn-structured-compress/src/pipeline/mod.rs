//! Runs that make a compressed checkpoint from a dense one, whatever interrupts them.
//!
//! [`compress_checkpoint`] compresses the layers of any checkpoint, each by itself. [`compress_model`] goes through the blocks of a
//! model that it can run: every block is [calibrated on what the compressed blocks before it give](crate::sequential),
//! [refined](crate::refine), and in the end the model is [distilled](crate::distill). Both do the same with what they find:
//!
//! - A finished layer or block is on the disk before the next one begins, in `<output>.partial`. A process that is killed, runs out of
//!   disk space or loses power costs the work on one of them: the next run continues, and its result is the same to the last bit.
//! - A run continues only with the model, plan, data, settings, seed, device and version that it was started with.
//! - The output is complete or absent: `model.safetensors` with a
//!   [manifest](burn_structured_checkpoint::Manifest), all other tensors as they were, the other files of the model's folder,
//!   `report.json` and `run.json`. It comes into its place by one renaming.
//!
//! The disk has to have room for the output and once more for what is compressed.
//!
//! [`quantize`](fn@quantize) makes the weights of any checkpoint int8. [`drop_blocks`] leaves blocks out, the baseline. [`to_dense`] goes the way back, and [`verify`](fn@verify) checks an output against its report and the dense checkpoint.

mod assemble;
mod blockwise;
mod companions;
mod drop;
mod error;
mod event;
mod layerwise;
mod output;
mod quantize;
mod store;
mod tensors;
mod to_dense;
mod units;
mod verify;

pub use blockwise::{BlockFormat, BlockwiseConfig, Texts, compress_model};
pub use drop::{Dropped, drop_blocks};
pub use error::PipelineError;
pub use event::{Event, Observer};
pub use layerwise::{LayerwiseConfig, compress_checkpoint};
pub use output::{Finished, Output};
pub use quantize::quantize;
pub use to_dense::to_dense;
pub use verify::{Check, Outcome, Verification, verify};

#[cfg(test)]
mod tests;
