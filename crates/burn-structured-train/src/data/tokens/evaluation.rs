//! Sliding windows for evaluation.

use super::TokenSource;
use super::batch::columns;
use crate::data::DataError;
use burn::tensor::{Device, Int, Tensor};
use std::ops::Range;

/// Windows of one length, and what of them is scored.
#[derive(Clone, Debug)]
pub struct EvaluationBatch {
    /// Tokens `[batch, context]`.
    pub inputs: Tensor<2, Int>,
    /// The tokens after the last `scored` ones of every row, `[batch, scored]`.
    pub targets: Tensor<2, Int>,
}

/// Windows of `context` tokens, each `stride` tokens behind the one before, in which only the tokens that are new are scored.
///
/// The first window scores `context` tokens, every other one `stride`, after `context - stride` that are only seen; the last
/// one is moved back to end with the tokens, and scores what is left. So every token but the first, which nothing precedes,
/// is scored once. A small stride gives every token a long context, and costs `context / stride` times as much. With fewer
/// than `context + 1` tokens there is one window of all of them.
///
/// This is the protocol of Hugging Face's *Perplexity of fixed-length models*, except that its last window is shorter.
#[derive(Clone, Debug)]
pub struct EvaluationWindows {
    source: TokenSource,
    vocab_size: usize,
    context: usize,
    stride: usize,
    batch_size: usize,
}

/// The inputs of a window start at `start`; it scores the tokens after its last `scored` ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    start: usize,
    scored: usize,
}

impl EvaluationWindows {
    /// Windows over all of `source`, at most `batch_size` in a batch.
    ///
    /// # Errors
    ///
    /// If a setting is 0, the stride is above the context, or there are fewer than 2 tokens.
    pub fn new(
        source: TokenSource,
        vocab_size: usize,
        context: usize,
        stride: usize,
        batch_size: usize,
    ) -> Result<Self, DataError> {
        let setting =
            |name, value: usize, expected| Err(DataError::Setting { name, value: value.to_string(), expected });
        if context == 0 || batch_size == 0 {
            return setting(if context == 0 { "context" } else { "batch size" }, 0, "give at least 1");
        }
        if !(1..=context).contains(&stride) {
            return setting("stride", stride, "give at least 1 and at most the context, or tokens would be left out");
        }
        source.check_len(2)?;
        let context = context.min(source.len() - 1);
        Ok(Self { stride: stride.min(context), source, vocab_size, context, batch_size })
    }

    /// The number of tokens that are scored: all but the first.
    pub fn scored(&self) -> usize {
        self.source.len() - 1
    }

    /// The number of windows.
    pub fn windows(&self) -> usize {
        1 + (self.scored() - self.context).div_ceil(self.stride)
    }

    /// The batches, on `device`. The windows of a batch score equally many tokens.
    pub fn batches<'a>(&'a self, device: &'a Device) -> impl Iterator<Item = Result<EvaluationBatch, DataError>> + 'a {
        let mut next = 0;
        std::iter::from_fn(move || {
            let windows = self.batch_from(next);
            next = windows.end;
            (!windows.is_empty()).then(|| self.read(windows, device))
        })
    }

    fn window(&self, index: usize) -> Window {
        let end = |index: usize| (self.context + index * self.stride).min(self.scored());
        let scored = if index == 0 { self.context } else { end(index) - end(index - 1) };
        Window { start: end(index) - self.context, scored }
    }

    /// The windows of the batch that starts with window `first`.
    fn batch_from(&self, first: usize) -> Range<usize> {
        let scored = self.window(first).scored;
        let limit = self.windows().min(first + self.batch_size);
        let end = (first..limit).find(|index| self.window(*index).scored != scored).unwrap_or(limit);
        first..end.max(first)
    }

    fn read(&self, windows: Range<usize>, device: &Device) -> Result<EvaluationBatch, DataError> {
        let scored = self.window(windows.start).scored;
        let row = |index| {
            let start = self.window(index).start;
            self.source.read(start..start + self.context + 1, self.vocab_size)
        };
        let rows = windows.map(row).collect::<Result<Vec<_>, _>>()?;
        Ok(EvaluationBatch {
            inputs: columns(&rows, 0, self.context, device),
            targets: columns(&rows, self.context + 1 - scored, scored, device),
        })
    }
}
