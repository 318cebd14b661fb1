//! Samples of text for a model, and the statistics of its layers' inputs on them.

use crate::arguments::TextArguments;
use crate::context::Context;
use crate::failure::Failure;
use crate::model;
use crate::text::{self, Split, Windows};
use burn::tensor::{Device, Int, Tensor};
use burn_structured_checkpoint::Checkpoint;
use burn_structured_compress::calibrate::Calibrator;
use burn_structured_models::bert::{Bert, SentenceEncoder};
use burn_structured_models::decoder::Decoder;
use burn_structured_nn::BlockModel;

/// Batches of text.
pub struct Samples<M: BlockModel> {
    /// To calculate with.
    pub calibration: Vec<M::Batch>,
    /// To choose settings by.
    pub held_out: Vec<M::Batch>,
    /// To train the whole model on.
    pub distillation: Vec<M::Batch>,
}

impl<M: BlockModel> Samples<M> {
    fn new(split: &Split, batches: impl Fn(&[usize]) -> Result<Vec<M::Batch>, Failure>) -> Result<Self, Failure> {
        Ok(Self {
            calibration: batches(&split.calibration)?,
            held_out: batches(&split.held_out)?,
            distillation: batches(&split.distillation)?,
        })
    }
}

impl Samples<Bert> {
    /// The lines of the text files, with so many for distillation.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, a line gives no tokens, or a tokenizer is named: an encoder has its own.
    pub fn sentences(
        arguments: &TextArguments,
        distillation: usize,
        encoder: &SentenceEncoder,
        device: &Device,
    ) -> Result<Self, Failure> {
        arguments.check_for_encoder()?;
        let lines = text::read_lines(&arguments.text)?;
        let split = Split::new(lines.len(), arguments.samples.unwrap_or(text::LINES), distillation, "lines")?;
        Self::new(&split, |numbers| text::sentence_batches(&lines, numbers, &encoder.tokenizer, device))
    }
}

impl<M: BlockModel<Batch = Tensor<2, Int>> + Decoder> Samples<M> {
    /// Windows of the text files, with so many for distillation.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or the tokenizer does not fit the model.
    pub fn windows(
        arguments: &TextArguments,
        distillation: usize,
        checkpoint: &Checkpoint,
        model: &M,
        device: &Device,
    ) -> Result<Self, Failure> {
        let tokenizer = model::tokenizer(checkpoint, model, arguments.tokenizer.as_deref())?;
        let tokens = text::read_tokens(&arguments.text, &tokenizer)?;
        let windows = Windows::new(&tokens, model.context(), model.vocab_size())?;
        let samples = arguments.samples.unwrap_or(text::WINDOWS);
        let split = Split::new(windows.count(), samples, distillation, "windows of the model's context")?;
        Self::new(&split, |numbers| windows.batches(numbers, device))
    }
}

/// The moments of the inputs of all linear layers, by the names in checkpoints.
///
/// # Errors
///
/// If an input is not finite, or after Ctrl-C.
pub fn observe<M: BlockModel>(model: &M, batches: &[M::Batch], context: &Context) -> Result<Calibrator, Failure> {
    let mut statistics = Calibrator::new();
    let progress = context.progress(batches.len(), "batches");
    progress.message("calibrating");
    for batch in batches {
        context.check("nothing was written; start again")?;
        statistics.record_blocks(model, batch)?;
        progress.advance();
    }
    Ok(statistics)
}
