//! Text for calibration, training and evaluation.

use crate::failure::Failure;
use burn::tensor::{Device, Int, Tensor};
use burn_structured_models::bert::{SentenceTokenizer, TokenBatch, batches_of_one_length};
use burn_structured_models::decoder::windows;
use burn_structured_models::text::Tokenizer;
use burn_structured_train::data::tokens::{Text, TokenSource};
use std::path::{Path, PathBuf};

/// Sentences that go through an encoder at once.
const BATCH: usize = 32;

/// Lines of text that a sentence encoder is calibrated with.
pub const LINES: usize = 1500;

/// Windows of text that a language model is calibrated with.
pub const WINDOWS: usize = 128;

/// Windows that go through a language model at once.
const WINDOWS_OF_BATCH: usize = 4;

/// Every so many-th sample is kept out of the calibration, to choose settings by.
const HELD_OUT: usize = 10;

/// A number from 1 up, for clap.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("give at least 1".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

/// The lines of all files that hold more than white space.
///
/// # Errors
///
/// If a file cannot be read, is no text, or all are empty.
pub fn read_lines(files: &[PathBuf]) -> Result<Vec<String>, Failure> {
    // Compressed, empty and binary files are named here.
    Text::from_files(files)?;
    let mut lines = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        lines.extend(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_string));
    }
    if lines.is_empty() {
        return Err(Failure::new(format!("{} holds white space only; give a file with text", files[0].display())));
    }
    Ok(lines)
}

/// The error for a file that cannot be read.
pub fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot read {}: {error}", path.display()))
}

/// The tokens of all files, one after the other.
///
/// # Errors
///
/// If a file cannot be read or is no text, or the tokenizer refuses it.
pub fn read_tokens(files: &[PathBuf], tokenizer: &Tokenizer) -> Result<TokenSource, Failure> {
    Ok(Text::from_files(files)?.tokens(tokenizer)?)
}

/// The tokenizer of this name: `bytes`, `gpt2`, or else a file.
///
/// # Errors
///
/// If the file is no tokenizer.
pub fn tokenizer(name: &str) -> Result<Tokenizer, Failure> {
    Ok(match name {
        "bytes" => Tokenizer::bytes(),
        "gpt2" => Tokenizer::gpt2(),
        path => Tokenizer::from_file(path)?,
    })
}

/// At most `count` of the numbers below `total`, spread evenly.
pub fn spread(total: usize, count: usize) -> Vec<usize> {
    let count = count.min(total);
    (0..count).map(|index| (index as u128 * total as u128 / count as u128) as usize).collect()
}

/// Which samples of a text are for what.
#[derive(Debug, PartialEq)]
pub struct Split {
    /// To calculate with.
    pub calibration: Vec<usize>,
    /// To choose settings by and to measure errors on: about a tenth of the others.
    pub held_out: Vec<usize>,
    /// To train the whole model on.
    pub distillation: Vec<usize>,
}

impl Split {
    /// At most `samples` of `total` for the first two, and at most `distillation` of those that are not held out for
    /// the third.
    ///
    /// # Errors
    ///
    /// If there are fewer than two samples, called `unit`.
    pub fn new(total: usize, samples: usize, distillation: usize, unit: &str) -> Result<Self, Failure> {
        let chosen = spread(total, samples.max(2));
        if chosen.len() < 2 {
            return Err(Failure::new(format!("the text has {total} {unit}; give at least 2, better a thousand")));
        }
        let every = HELD_OUT.min(chosen.len());
        let (mut calibration, mut held_out) = (Vec::new(), Vec::new());
        for (index, sample) in chosen.into_iter().enumerate() {
            if index % every == every - 1 { held_out.push(sample) } else { calibration.push(sample) }
        }
        let others: Vec<usize> = (0..total).filter(|sample| held_out.binary_search(sample).is_err()).collect();
        let distillation = spread(others.len(), distillation).into_iter().map(|index| others[index]).collect();
        Ok(Self { calibration, held_out, distillation })
    }
}

/// The lines of these numbers, in batches without padding.
///
/// # Errors
///
/// If a line gives no tokens.
pub fn sentence_batches(
    lines: &[String],
    numbers: &[usize],
    tokenizer: &SentenceTokenizer,
    device: &Device,
) -> Result<Vec<TokenBatch>, Failure> {
    let lines: Vec<&str> = numbers.iter().map(|number| lines[*number].as_str()).collect();
    Ok(batches_of_one_length(tokenizer.tokens(&lines)?, BATCH, device))
}

/// A text in windows of tokens.
pub struct Windows<'a> {
    tokens: &'a TokenSource,
    length: usize,
    vocab_size: usize,
}

impl<'a> Windows<'a> {
    /// Windows of `length` tokens one after the other, or two shorter ones if there are fewer tokens.
    ///
    /// # Errors
    ///
    /// If there are fewer than two tokens.
    pub fn new(tokens: &'a TokenSource, length: usize, vocab_size: usize) -> Result<Self, Failure> {
        let length = length.min(tokens.len() / 2);
        if length == 0 {
            return Err(Failure::new(format!("{} gives fewer than 2 tokens; give a longer text", tokens.name())));
        }
        Ok(Self { tokens, length, vocab_size })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.tokens.len() / self.length
    }

    /// The windows of these numbers, in batches `[up to batch size, length]`.
    ///
    /// # Errors
    ///
    /// If a token is not in the vocabulary.
    pub fn batches(&self, numbers: &[usize], device: &Device) -> Result<Vec<Tensor<2, Int>>, Failure> {
        let mut tokens = Vec::with_capacity(numbers.len() * self.length);
        for number in numbers {
            let start = number * self.length;
            tokens.extend(self.tokens.read(start..start + self.length, self.vocab_size)?);
        }
        Ok(windows(&tokens, self.length, WINDOWS_OF_BATCH, device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_takes_numbers_evenly() {
        assert_eq!(spread(10, 4), [0, 2, 5, 7]);
        assert_eq!(spread(2, 5), [0, 1]);
        assert_eq!(spread(0, 5), [0; 0]);
    }

    #[test]
    fn split_keeps_held_out_samples_apart() {
        let split = Split::new(100, 25, 200, "lines").unwrap();
        assert_eq!((split.calibration.len(), split.held_out), (23, vec![36, 76]));
        assert_eq!(split.distillation.len(), 98);
        assert!(!split.distillation.contains(&36) && !split.calibration.contains(&76));
        let smallest = Split::new(2, 1, 0, "lines").unwrap();
        assert_eq!(smallest, Split { calibration: vec![0], held_out: vec![1], distillation: vec![] });
        assert!(Split::new(1, 5, 0, "lines").unwrap_err().to_string().contains("has 1 lines"));
    }

    #[test]
    fn windows_are_parts_of_the_text() {
        let tokens = TokenSource::memory((0..100).collect());
        let windows = Windows::new(&tokens, 30, 100).unwrap();
        assert_eq!(windows.count(), 3);
        let batches = windows.batches(&[0, 2], &Device::flex()).unwrap();
        assert_eq!(batches[0].dims(), [2, 30]);
        assert_eq!(batches[0].to_data().iter::<i64>().nth(30), Some(60));
        assert_eq!(Windows::new(&tokens, 1000, 100).unwrap().count(), 2);
        assert!(Windows::new(&tokens, 30, 50).unwrap().batches(&[2], &Device::flex()).is_err());
        assert!(Windows::new(&TokenSource::memory(vec![1]), 30, 50).is_err());
    }
}
