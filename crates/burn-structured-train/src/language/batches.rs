//! The batches of a run as Burn's loop takes them: one epoch from one evaluation to the next.

use super::LanguageRecipe;
use super::steps::ValidationBatch;
use crate::data::DataError;
use crate::data::tokens::{TokenBatch, TokenSource, TokenWindowsConfig};
use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;
use burn_structured_models::gpt2::Gpt2;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The steps of a run: all of them, and those from one evaluation to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    pub total: usize,
    pub interval: usize,
}

impl Steps {
    /// The steps that are done after so many epochs.
    pub fn after(self, epochs: usize) -> usize {
        (epochs * self.interval).min(self.total)
    }

    /// The steps of an epoch, counted from 0; those of the last one may be fewer.
    fn of_epoch(self, epoch: usize) -> usize {
        self.after(epoch + 1) - self.after(epoch)
    }
}

/// The training batches of `model` from `tokens`, after so many epochs.
///
/// # Errors
///
/// If the tokens do not suffice for one sequence.
pub(super) fn training_batches(
    tokens: &TokenSource,
    model: &Gpt2,
    recipe: &LanguageRecipe,
    steps: Steps,
    epoch: usize,
    device: &Device,
) -> Result<TrainingBatches, DataError> {
    let config = TokenWindowsConfig::new(model.vocab_size(), model.context(), recipe.batch_size, steps.interval);
    let windows = config.with_seed(recipe.seed).with_epoch(epoch).try_init(tokens.clone(), device)?;
    let loader: Arc<dyn DataLoader<TokenBatch>> = Arc::new(windows);
    Ok(TrainingBatches::new(loader, recipe.accumulation, steps, epoch, recipe.seed, device))
}

/// The batches of the evaluations of `model` on `tokens`, after so many epochs: always the same sequences, spread evenly over
/// the tokens.
///
/// # Errors
///
/// If the tokens do not suffice for one sequence, or one of them is not in the vocabulary.
pub(super) fn validation_batches(
    tokens: &TokenSource,
    model: &Gpt2,
    recipe: &LanguageRecipe,
    steps: Steps,
    epoch: usize,
    device: &Device,
) -> Result<ValidationBatches, DataError> {
    let (vocab_size, length) = (model.vocab_size(), model.context() + 1);
    tokens.check_len(length)?;
    let last = tokens.len() - length;
    let count = recipe.part() * recipe.eval_batches;
    let start = |sequence: usize| (last as u128 * sequence as u128 / (count - 1).max(1) as u128) as usize;
    let read = |sequence| tokens.read(start(sequence)..start(sequence) + length, vocab_size);
    let sequences: Vec<_> = (0..count).map(read).collect::<Result<_, _>>()?;
    let batch_size = recipe.part();
    Ok(ValidationBatches {
        sequences: sequences.into(),
        batch_size,
        steps,
        epoch: AtomicUsize::new(epoch),
        device: device.clone(),
    })
}

/// The training batches of one device.
///
/// The sequences of a step are cut into parts, one batch each. Every epoch starts with the random numbers of its own, so that
/// dropout goes on after a resumption as it would have.
pub(super) struct TrainingBatches {
    /// One for each part of a step; each has the batches of that part for the steps of an epoch.
    parts: Vec<Arc<dyn DataLoader<TokenBatch>>>,
    steps: Steps,
    /// Epochs that have begun.
    epoch: AtomicUsize,
    /// The first item, counted over all devices.
    start: usize,
    seed: u64,
    device: Device,
}

impl TrainingBatches {
    /// The batches of `loader` in `parts` parts a step, starting after so many epochs.
    ///
    /// The items of an epoch of `loader` are its sequences, those of a row of the batch one after another: item `i` is the
    /// sequence of row `i / interval` in step `i % interval`.
    fn new(
        loader: Arc<dyn DataLoader<TokenBatch>>,
        parts: usize,
        steps: Steps,
        epoch: usize,
        seed: u64,
        device: &Device,
    ) -> Self {
        let items = loader.num_items() / parts;
        let parts = (0..parts).map(|part| loader.slice(part * items, (part + 1) * items)).collect();
        Self { parts, steps, epoch: AtomicUsize::new(epoch), start: 0, seed, device: device.clone() }
    }

    fn with_parts(&self, parts: Vec<Arc<dyn DataLoader<TokenBatch>>>) -> Self {
        let epoch = AtomicUsize::new(self.epoch.load(Ordering::Relaxed));
        Self { parts, epoch, device: self.device.clone(), ..*self }
    }
}

impl DataLoader<TokenBatch> for TrainingBatches {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<TokenBatch> + 'a> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        self.device.seed(mix(self.seed, epoch as u64, self.start as u64));
        let batches = self.steps.of_epoch(epoch) * self.parts.len();
        let sequences = self.num_items() / (self.steps.interval * self.parts.len());
        Box::new(Epoch { parts: self.parts.iter().map(|part| part.iter()).collect(), done: 0, batches, sequences })
    }

    fn num_items(&self) -> usize {
        self.parts.iter().map(|part| part.num_items()).sum()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<TokenBatch>> {
        let parts = self.parts.iter().map(|part| part.to_device(device)).collect();
        Arc::new(Self { device: device.clone(), ..self.with_parts(parts) })
    }

    /// The same share of every part.
    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<TokenBatch>> {
        let [from, to] = [start, end].map(|item| item / self.parts.len());
        let parts = self.parts.iter().map(|part| part.slice(from, to)).collect();
        Arc::new(Self { start: self.start + start, ..self.with_parts(parts) })
    }
}

/// The batches of one epoch: the parts of the first step, those of the second one, and so on.
struct Epoch<'a> {
    parts: Vec<Box<dyn DataLoaderIterator<TokenBatch> + 'a>>,
    done: usize,
    batches: usize,
    /// Sequences of a batch.
    sequences: usize,
}

impl Iterator for Epoch<'_> {
    type Item = Result<TokenBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done == self.batches {
            return None;
        }
        let part = self.done % self.parts.len();
        self.done += 1;
        self.parts[part].next()
    }
}

impl DataLoaderIterator<TokenBatch> for Epoch<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.done * self.sequences, self.batches * self.sequences, Some("sequences".to_string()))
    }
}

/// The batches of an evaluation, on one device.
pub(super) struct ValidationBatches {
    sequences: Arc<[Vec<u32>]>,
    batch_size: usize,
    steps: Steps,
    /// Epochs whose evaluations have begun.
    epoch: AtomicUsize,
    device: Device,
}

impl DataLoader<ValidationBatch> for ValidationBatches {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<ValidationBatch> + 'a> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        Box::new(Evaluation { batches: self, steps: self.steps.after(epoch + 1), done: 0 })
    }

    fn num_items(&self) -> usize {
        self.sequences.len()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<ValidationBatch>> {
        let (sequences, epoch) = (self.sequences.clone(), AtomicUsize::new(self.epoch.load(Ordering::Relaxed)));
        Arc::new(Self { sequences, epoch, device: device.clone(), ..*self })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<ValidationBatch>> {
        let (sequences, epoch) =
            (self.sequences[start..end].into(), AtomicUsize::new(self.epoch.load(Ordering::Relaxed)));
        Arc::new(Self { sequences, epoch, device: self.device.clone(), ..*self })
    }
}

/// The batches of one evaluation.
struct Evaluation<'a> {
    batches: &'a ValidationBatches,
    /// The steps that are done.
    steps: usize,
    /// The sequences that have been read.
    done: usize,
}

impl Iterator for Evaluation<'_> {
    type Item = Result<ValidationBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let sequences = &self.batches.sequences;
        if self.done == sequences.len() {
            return None;
        }
        let start = self.done;
        self.done = sequences.len().min(start + self.batches.batch_size);
        let batch = TokenBatch::new(&sequences[start..self.done], &self.batches.device);
        Some(Ok(ValidationBatch { batch, finished: (self.done == sequences.len()).then_some(self.steps) }))
    }
}

impl DataLoaderIterator<ValidationBatch> for Evaluation<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.done, self.batches.sequences.len(), Some("sequences".to_string()))
    }
}

/// Random bits from a seed and two counters: SplitMix64 over their sum, each times an odd constant.
fn mix(seed: u64, epoch: u64, start: u64) -> u64 {
    let golden = 0x9e37_79b9_7f4a_7c15;
    let mut bits = seed
        .wrapping_add(epoch.wrapping_add(1).wrapping_mul(golden))
        .wrapping_add(start.wrapping_mul(0xd1b5_4a32_d192_ed03));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_structured_models::gpt2::Gpt2Config;

    const STEPS: Steps = Steps { total: 5, interval: 2 };

    fn model() -> Gpt2 {
        Gpt2Config::new(50).with_context(4).with_d_model(4).with_depth(1).with_heads(1).init(&Device::flex())
    }

    fn recipe(accumulation: usize) -> LanguageRecipe {
        LanguageRecipe { batch_size: 8, accumulation, eval_batches: 3, ..LanguageRecipe::default() }
    }

    fn tokens() -> TokenSource {
        TokenSource::memory((0..500).map(|token| token % 50).collect())
    }

    fn loader(accumulation: usize, epoch: usize) -> TrainingBatches {
        training_batches(&tokens(), &model(), &recipe(accumulation), STEPS, epoch, &Device::flex()).unwrap()
    }

    /// The first tokens and the targets of all sequences of each batch of an epoch.
    fn epoch(loader: &dyn DataLoader<TokenBatch>) -> Vec<Vec<i64>> {
        let mut batches = loader.iter();
        let mut all = Vec::new();
        for batch in batches.by_ref() {
            let batch = batch.unwrap();
            all.push(batch.inputs.into_data().iter::<i64>().chain(batch.targets.into_data().iter::<i64>()).collect());
        }
        let progress = batches.progress();
        let sequences: usize = all.iter().map(|batch: &Vec<i64>| batch.len() / 8).sum();
        assert!(progress.is_completed() && progress.items_total == sequences);
        all
    }

    #[test]
    fn epochs_end_with_the_last_step() {
        let loader = loader(2, 0);
        let epochs: Vec<_> = (0..4).map(|_| epoch(&loader)).collect();
        assert_eq!(epochs.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2, 0]);
        assert!(epochs[0] != epochs[1]);
        // After one epoch, the same as without a break.
        let resumed = self::loader(2, 1);
        assert_eq!(epoch(&resumed), epochs[1]);
        assert_eq!(epoch(&resumed), epochs[2]);
    }

    #[test]
    fn parts_and_devices_share_the_sequences_of_a_step() {
        let whole = epoch(&loader(1, 0));
        let inputs = |batch: &[i64]| batch[..batch.len() / 2].to_vec();
        let parts: Vec<_> =
            epoch(&loader(2, 0)).chunks(2).map(|step| [inputs(&step[0]), inputs(&step[1])].concat()).collect();
        assert_eq!(parts, whole.iter().map(|step| inputs(step)).collect::<Vec<_>>());

        // Two devices, each with half of both parts.
        let loader = loader(2, 0);
        let items = loader.num_items();
        let devices = [loader.slice(0, items / 2), loader.slice(items / 2, items)].map(|device| epoch(&*device));
        for (step, whole) in whole.iter().enumerate() {
            let halves = [0, 1].map(|part| [0, 1].map(|device| inputs(&devices[device][2 * step + part])).concat());
            assert_eq!(halves.concat(), inputs(whole));
        }
    }

    #[test]
    fn evaluations_have_the_same_sequences_from_all_of_the_text() {
        let loader = validation_batches(&tokens(), &model(), &recipe(1), STEPS, 1, &Device::flex()).unwrap();
        let evaluation = |loader: &ValidationBatches| -> Vec<_> { loader.iter().map(Result::unwrap).collect() };
        let (first, second) = (evaluation(&loader), evaluation(&loader));
        let inputs = |batches: &[ValidationBatch]| -> Vec<i64> {
            batches.iter().flat_map(|batch| batch.batch.inputs.to_data().iter::<i64>().collect::<Vec<_>>()).collect()
        };
        assert_eq!(inputs(&first), inputs(&second));
        assert_eq!(
            (inputs(&first)[..4].to_vec(), inputs(&first)[92..].to_vec()),
            (vec![0, 1, 2, 3], vec![45, 46, 47, 48])
        );
        let finished = |batches: &[ValidationBatch]| batches.iter().map(|batch| batch.finished).collect::<Vec<_>>();
        assert_eq!((finished(&first), finished(&second)), (vec![None, None, Some(4)], vec![None, None, Some(5)]));
    }

    #[test]
    fn text_without_one_sequence_is_an_error() {
        let short = tokens().slice(0..4);
        assert!(training_batches(&short, &model(), &recipe(1), STEPS, 0, &Device::flex()).is_err());
        let error = validation_batches(&short, &model(), &recipe(1), STEPS, 0, &Device::flex()).err().unwrap();
        assert!(matches!(error, DataError::TooFewTokens { tokens: 4, needed: 5, .. }), "{error}");
    }
}
