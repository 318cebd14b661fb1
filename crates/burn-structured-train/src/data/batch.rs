//! From items to tensors: bytes become normalised numbers, and labels soft targets.

use std::sync::{Mutex, PoisonError};

use burn::data::dataloader::batcher::Batcher;
use burn::prelude::*;
use burn::tensor::TensorData;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::augment::{self, Mixing};
use super::{DataError, ImageItem, ImageSet, Normalization};

/// What is done to training images. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Zeros added on each side before a random crop back to size, in pixels; 0 for no crop. 4 is usual for CIFAR.
    pub pad: usize,
    /// Whether half of the images are mirrored left to right.
    pub flip: bool,
    /// Strength alpha of mixup; 0 turns it off.
    pub mixup: f64,
    /// Strength alpha of CutMix; 0 turns it off. With mixup on as well, each batch gets one of the two at random.
    pub cutmix: f64,
    /// Share of each target that is spread over all classes, in 0..1.
    pub label_smoothing: f64,
}

/// A batch ready for a classifier.
#[derive(Clone, Debug)]
pub struct ImageBatch {
    /// Normalised images `[batch, channels, height, width]`.
    pub images: Tensor<4>,
    /// Class probabilities `[batch, classes]`; each row sums to 1.
    pub targets: Tensor<2>,
    /// The true class of each image `[batch]`, before any mixing.
    pub labels: Tensor<1, Int>,
}

/// Normalises, augments and stacks images.
///
/// Augmentation depends on the seed and on the order of the batches; it is reproducible with up to one
/// worker thread, as more of them compete for the next batch.
#[derive(Debug)]
pub struct ImageBatcher {
    shape: [usize; 3],
    classes: usize,
    tables: Vec<[f32; 256]>,
    training: Option<Training>,
}

#[derive(Debug)]
struct Training {
    pad: usize,
    flip: bool,
    smoothing: f32,
    mixing: Mixing,
    /// Gives each batch a seed of its own, so that it is only locked for a moment.
    seeds: Mutex<StdRng>,
}

impl ImageBatcher {
    /// A batcher for training on `set`.
    ///
    /// # Errors
    ///
    /// [`DataError::Setting`] if a number of `augmentation` is out of range.
    pub fn training(set: &ImageSet, augmentation: Augmentation, seed: u64) -> Result<Self, DataError> {
        let Augmentation { pad, flip, mixup, cutmix, label_smoothing } = augmentation;
        if pad > 0 && pad >= set.height.min(set.width) {
            return Err(DataError::Setting {
                name: "crop padding",
                value: pad.to_string(),
                expected: "give fewer pixels than a side of the image has",
            });
        }
        if !(0.0..1.0).contains(&label_smoothing) {
            return Err(DataError::Setting {
                name: "label smoothing",
                value: label_smoothing.to_string(),
                expected: "give a share from 0 to below 1, such as 0.1",
            });
        }
        let training = Training {
            pad,
            flip,
            smoothing: label_smoothing as f32,
            mixing: Mixing::new(mixup, cutmix)?,
            seeds: Mutex::new(StdRng::seed_from_u64(seed)),
        };
        Ok(Self { training: Some(training), ..Self::evaluation(set) })
    }

    /// A batcher for evaluating on `set`: no augmentation, all of a target on the true class.
    pub fn evaluation(set: &ImageSet) -> Self {
        Self::plain([set.channels, set.height, set.width], set.classes.len(), &set.normalization)
    }

    /// As [`evaluation`](Self::evaluation), from what a trained model remembers of its set: the `[channels, height,
    /// width]` and the normalization of its images and the number of `classes`.
    pub fn plain(shape: [usize; 3], classes: usize, normalization: &Normalization) -> Self {
        Self { shape, classes, tables: normalization.tables(), training: None }
    }

    /// Appends an image to a batch, channel by channel.
    fn normalise(&self, pixels: &[u8], images: &mut Vec<f32>) {
        let plane = self.shape[1] * self.shape[2];
        for (channel, table) in pixels.chunks_exact(plane).zip(&self.tables) {
            images.extend(channel.iter().map(|&byte| table[usize::from(byte)]));
        }
    }
}

impl Training {
    fn batch_rng(&self) -> StdRng {
        // A thread that panicked while holding the lock cannot have left a generator in a bad state.
        let seed = self.seeds.lock().unwrap_or_else(PoisonError::into_inner).random();
        StdRng::seed_from_u64(seed)
    }

    fn augment(&self, mut pixels: Vec<u8>, shape: [usize; 3], rng: &mut StdRng) -> Vec<u8> {
        if self.pad > 0 {
            pixels = augment::random_crop(&pixels, shape, self.pad, rng);
        }
        if self.flip && rng.random_bool(0.5) {
            augment::flip_horizontal(&mut pixels, shape[2]);
        }
        pixels
    }
}

impl Batcher<ImageItem, ImageBatch> for ImageBatcher {
    /// # Panics
    ///
    /// If an item is not from the set the batcher was made for: another image size or a label out of range.
    fn batch(&self, items: Vec<ImageItem>, device: &Device) -> ImageBatch {
        let [channels, height, width] = self.shape;
        let (count, image_len) = (items.len(), channels * height * width);
        let mut rng = self.training.as_ref().map(Training::batch_rng);
        let mut images = Vec::with_capacity(count * image_len);
        let mut targets = vec![0.0; count * self.classes];
        let mut labels = Vec::with_capacity(count);
        for (index, ImageItem { mut pixels, label }) in items.into_iter().enumerate() {
            assert_eq!(pixels.len(), image_len, "the image is not of the batcher's {:?} bytes", self.shape);
            assert!(label < self.classes, "label {label} is not one of the batcher's {} classes", self.classes);
            if let (Some(training), Some(rng)) = (&self.training, &mut rng) {
                pixels = training.augment(pixels, self.shape, rng);
            }
            self.normalise(&pixels, &mut images);
            targets[index * self.classes + label] = 1.0;
            labels.push(label as i64);
        }
        if let (Some(training), Some(rng)) = (&self.training, &mut rng) {
            augment::smooth(&mut targets, self.classes, training.smoothing);
            training.mixing.apply(&mut images, &mut targets, [count, channels, height, width], rng);
        }
        ImageBatch {
            images: Tensor::from_data(TensorData::new(images, [count, channels, height, width]), device),
            targets: Tensor::from_data(TensorData::new(targets, [count, self.classes]), device),
            labels: Tensor::from_data(TensorData::new(labels, [count]), device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Images, synthetic};
    use burn::data::dataset::Dataset;

    fn items(images: &Images) -> Vec<ImageItem> {
        (0..images.len()).map(|index| images.get(index).expect("in memory")).collect()
    }

    fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data_as::<f32>().try_into_vec().expect("32-bit floats")
    }

    fn everything() -> Augmentation {
        Augmentation { pad: 4, flip: true, mixup: 0.8, cutmix: 1.0, label_smoothing: 0.1 }
    }

    #[test]
    fn evaluation_batches_are_normalised_with_hard_targets() {
        let set = synthetic::generate(6, 0, 3);
        let batch = ImageBatcher::evaluation(&set).batch(items(&set.train), &Device::flex());
        assert_eq!((batch.images.dims(), batch.targets.dims()), ([60, 3, 32, 32], [60, 10]));
        for channel in 0..3 {
            let values = floats(batch.images.clone().narrow(1, channel, 1));
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            let std = (values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / values.len() as f32).sqrt();
            assert!(mean.abs() < 1e-3 && (std - 1.0).abs() < 1e-3, "{mean} {std}");
        }
        let labels: Vec<i64> = batch.labels.into_data_as::<i64>().try_into_vec().expect("integers");
        for (row, &label) in floats(batch.targets).chunks(10).zip(&labels) {
            assert!(row.iter().enumerate().all(|(class, &target)| target == f32::from(class as i64 == label)));
        }
    }

    #[test]
    fn training_targets_sum_to_one() {
        let set = synthetic::generate(2, 0, 3);
        let batcher = ImageBatcher::training(&set, everything(), 1).expect("valid settings");
        for _ in 0..10 {
            let batch = batcher.batch(items(&set.train), &Device::flex());
            for row in floats(batch.targets).chunks(10) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5 && row.iter().all(|&target| target > 0.0));
            }
        }
    }

    #[test]
    fn without_augmentation_training_equals_evaluation() {
        let set = synthetic::generate(1, 0, 3);
        let plain = ImageBatcher::training(&set, Augmentation::default(), 1).expect("valid settings");
        let [trained, evaluated] =
            [plain, ImageBatcher::evaluation(&set)].map(|batcher| batcher.batch(items(&set.train), &Device::flex()));
        assert_eq!(floats(trained.images), floats(evaluated.images));
        assert_eq!(floats(trained.targets), floats(evaluated.targets));
    }

    #[test]
    fn seed_determines_the_augmentation_of_every_batch() {
        let set = synthetic::generate(1, 0, 3);
        let run = |seed| {
            let batcher = ImageBatcher::training(&set, everything(), seed).expect("valid settings");
            [(); 2].map(|()| floats(batcher.batch(items(&set.train), &Device::flex()).images))
        };
        let [first, second] = run(1);
        assert_ne!(first, second);
        assert_eq!([first.clone(), second], run(1));
        assert_ne!(first, run(2)[0]);
    }

    #[test]
    fn crop_padding_is_black() {
        let mut set = synthetic::generate(0, 0, 0);
        set.normalization = Normalization { mean: vec![0.5; 3], std: vec![0.5; 3] };
        let white = vec![ImageItem { pixels: vec![255; 3 * 32 * 32], label: 0 }; 20];
        let batcher = ImageBatcher::training(&set, Augmentation { pad: 4, ..Augmentation::default() }, 0);
        let values = floats(batcher.expect("valid settings").batch(white, &Device::flex()).images);
        assert!(values.iter().all(|value| value.abs() == 1.0) && values.contains(&-1.0));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let set = synthetic::generate(0, 0, 0);
        let error = |augmentation| ImageBatcher::training(&set, augmentation, 0).expect_err("out of range").to_string();
        let none = Augmentation::default;
        assert!(error(Augmentation { pad: 32, ..none() }).starts_with("crop padding = 32"));
        assert!(error(Augmentation { label_smoothing: 1.0, ..none() }).starts_with("label smoothing = 1"));
        assert!(error(Augmentation { label_smoothing: f64::NAN, ..none() }).starts_with("label smoothing"));
        assert!(error(Augmentation { mixup: -0.1, ..none() }).starts_with("mixup = -0.1"));
    }

    #[test]
    fn missing_augmentation_fields_have_defaults() {
        let read: Augmentation = serde_json::from_str(r#"{"flip": true}"#).expect("valid");
        assert_eq!(read, Augmentation { flip: true, ..Augmentation::default() });
        assert!(serde_json::from_str::<Augmentation>(r#"{"flipp": true}"#).is_err(), "a typo is not passed over");
    }
}
