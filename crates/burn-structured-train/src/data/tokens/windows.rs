//! Random windows for training.

use super::{TokenBatch, TokenSource};
use crate::data::DataError;
use burn::config::Config;
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Settings of [`TokenWindows`].
#[derive(Config, Debug, PartialEq)]
pub struct TokenWindowsConfig {
    /// Tokens of the model; every token of the data is below it.
    pub vocab_size: usize,
    /// Tokens of a sequence.
    pub context: usize,
    /// Sequences of a step.
    pub batch_size: usize,
    /// Steps of an epoch.
    pub steps: usize,
    /// Seed of the windows.
    #[config(default = 42)]
    pub seed: u64,
    /// Epochs that are done already.
    #[config(default = 0)]
    pub epoch: usize,
}

/// Random windows of a text, as nanoGPT draws them: each of `context` tokens and the one after, from a uniform position.
///
/// The window of a sequence follows from the seed, the number of its step since the start of the training, and its row in the
/// batch, and from nothing else. So a run that is resumed with the number of epochs that are done gets the same batches as
/// one that was not stopped, and several devices together the batches of one.
///
/// An epoch is a number of steps; each call of [`iter`](DataLoader::iter) is the next one. A slice or a copy on another device
/// counts its own epochs, from where the original is.
///
/// The items are the sequences of an epoch, those of a row one after another: item `i` is row `i / steps` in step `i % steps`.
/// A [`slice`](DataLoader::slice) thus has some of the rows in every step; its ends are rounded down to whole rows.
#[derive(Debug)]
pub struct TokenWindows {
    source: TokenSource,
    config: TokenWindowsConfig,
    rows: Range<usize>,
    /// Epochs that have begun.
    epoch: AtomicUsize,
    device: Device,
}

impl TokenWindowsConfig {
    /// The loader of these windows.
    ///
    /// # Errors
    ///
    /// If a setting is 0, or the source has fewer than `context + 1` tokens.
    pub fn try_init(&self, source: TokenSource, device: &Device) -> Result<TokenWindows, DataError> {
        for (name, value) in [("context", self.context), ("batch size", self.batch_size), ("steps", self.steps)] {
            if value == 0 {
                return Err(DataError::Setting { name, value: "0".into(), expected: "give at least 1" });
            }
        }
        source.check_len(self.context.saturating_add(1))?;
        Ok(TokenWindows {
            source,
            config: self.clone(),
            rows: 0..self.batch_size,
            epoch: AtomicUsize::new(self.epoch),
            device: device.clone(),
        })
    }
}

impl TokenWindows {
    /// The sequences of a step, counted from the start of the training.
    fn batch(&self, step: usize) -> Result<TokenBatch, DataError> {
        let rows: Result<Vec<_>, _> = self.rows.clone().map(|row| self.window(step, row)).collect();
        Ok(TokenBatch::new(&rows?, &self.device))
    }

    fn window(&self, step: usize, row: usize) -> Result<Vec<u32>, DataError> {
        let TokenWindowsConfig { vocab_size, context, seed, .. } = self.config;
        let start = generator(seed, step, row).random_range(0..self.source.len() - context);
        self.source.read(start..start + context + 1, vocab_size)
    }

    fn copy(&self, rows: Range<usize>, device: &Device) -> Arc<dyn DataLoader<TokenBatch>> {
        Arc::new(Self {
            source: self.source.clone(),
            config: self.config.clone(),
            rows,
            epoch: AtomicUsize::new(self.epoch.load(Ordering::Relaxed)),
            device: device.clone(),
        })
    }
}

/// Random numbers that depend on all three numbers: they are the key of the generator.
fn generator(seed: u64, step: usize, row: usize) -> StdRng {
    let mut key = [0; 32];
    for (number, bytes) in [seed, step as u64, row as u64].iter().zip(key.chunks_exact_mut(8)) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    StdRng::from_seed(key)
}

impl DataLoader<TokenBatch> for TokenWindows {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<TokenBatch> + 'a> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        Box::new(Epoch { windows: self, first: epoch * self.config.steps, done: 0 })
    }

    fn num_items(&self) -> usize {
        self.rows.len() * self.config.steps
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<TokenBatch>> {
        self.copy(self.rows.clone(), device)
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<TokenBatch>> {
        let row = |item: usize| self.rows.start + (item / self.config.steps).min(self.rows.len());
        self.copy(row(start)..row(end), &self.device)
    }
}

/// The batches of one epoch.
struct Epoch<'a> {
    windows: &'a TokenWindows,
    /// The steps before the epoch.
    first: usize,
    done: usize,
}

impl Iterator for Epoch<'_> {
    type Item = Result<TokenBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done == self.windows.config.steps || self.windows.rows.is_empty() {
            return None;
        }
        self.done += 1;
        Some(self.windows.batch(self.first + self.done - 1).map_err(DatasetError::new))
    }
}

impl DataLoaderIterator<TokenBatch> for Epoch<'_> {
    fn progress(&self) -> Progress {
        let rows = self.windows.rows.len();
        Progress::new(self.done * rows, self.windows.num_items(), Some("sequences".into()))
    }
}
