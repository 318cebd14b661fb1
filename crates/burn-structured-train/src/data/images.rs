//! Labelled images in memory, which every source gives.
//!
//! Reading them once keeps I/O and its errors out of the training loop.

use std::fmt;
use std::sync::Arc;

use burn::data::dataset::{Dataset, DatasetError};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::Normalization;

/// One labelled image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageItem {
    /// Pixel bytes in `[channels, height, width]` order.
    pub pixels: Vec<u8>,
    /// Index of the class.
    pub label: usize,
}

/// Labelled images of one size, in memory. Clones share the buffers.
#[derive(Clone)]
pub struct Images {
    pixels: Arc<[u8]>,
    labels: Arc<[usize]>,
    image_len: usize,
}

impl Images {
    /// Takes `labels.len()` consecutive images of `image_len = channels * height * width` bytes each.
    pub(crate) fn new(pixels: Vec<u8>, labels: Vec<usize>, image_len: usize) -> Self {
        debug_assert_eq!(pixels.len(), labels.len() * image_len);
        Self { pixels: pixels.into(), labels: labels.into(), image_len }
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The label of each image, in order.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The bytes of all images, one `[channels, height, width]` block after the other.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Keeps at most `n` images, sampled with `seed` so that classes keep their proportions; the order is unchanged.
    ///
    /// The same seed always gives the same subset.
    pub fn limit(&self, n: usize, seed: u64) -> Self {
        if n >= self.len() {
            return self.clone();
        }
        self.select(&stratified(&self.labels, n, seed))
    }

    /// Those that [`limit`](Self::limit) keeps, and the others.
    pub fn split(&self, n: usize, seed: u64) -> (Self, Self) {
        let kept = stratified(&self.labels, n.min(self.len()), seed);
        let others: Vec<usize> = (0..self.len()).filter(|index| kept.binary_search(index).is_err()).collect();
        (self.select(&kept), self.select(&others))
    }

    fn select(&self, indices: &[usize]) -> Self {
        let mut pixels = Vec::with_capacity(indices.len() * self.image_len);
        for &index in indices {
            pixels.extend_from_slice(self.block(index));
        }
        let labels = indices.iter().map(|&index| self.labels[index]).collect();
        Self::new(pixels, labels, self.image_len)
    }

    fn block(&self, index: usize) -> &[u8] {
        &self.pixels[index * self.image_len..(index + 1) * self.image_len]
    }
}

impl Dataset<ImageItem> for Images {
    fn get(&self, index: usize) -> Result<ImageItem, DatasetError> {
        Ok(ImageItem { pixels: self.block(index).to_vec(), label: self.labels[index] })
    }

    fn len(&self) -> usize {
        self.labels.len()
    }
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Images({} of {} bytes)", self.len(), self.image_len)
    }
}

/// `n` of the indices of `labels`, ascending, each class keeping its share.
///
/// Every class gets the whole part of its share; what is left goes to the largest remainders.
fn stratified(labels: &[usize], n: usize, seed: u64) -> Vec<usize> {
    let mut rng = StdRng::seed_from_u64(seed);
    let classes = labels.iter().max().map_or(0, |&last| last + 1);
    let mut members = vec![Vec::new(); classes];
    for (index, &label) in labels.iter().enumerate() {
        members[label].push(index);
    }
    let mut quota: Vec<usize> = members.iter().map(|class| class.len() * n / labels.len()).collect();
    let mut by_remainder: Vec<usize> = (0..classes).collect();
    by_remainder.sort_by_key(|&class| std::cmp::Reverse(members[class].len() * n % labels.len()));
    let missing = n - quota.iter().sum::<usize>();
    for &class in by_remainder.iter().take(missing) {
        quota[class] += 1;
    }
    let mut kept = Vec::with_capacity(n);
    for (class, quota) in members.iter_mut().zip(quota) {
        class.shuffle(&mut rng);
        kept.extend_from_slice(&class[..quota]);
    }
    kept.sort_unstable();
    kept
}

/// A classification dataset: what it is called, what its images look like, and its two splits.
#[derive(Clone, Debug)]
pub struct ImageSet {
    /// A short name for reports, such as `cifar10`.
    pub name: String,
    /// The name of each class, by label.
    pub classes: Vec<String>,
    /// Colour channels of an image.
    pub channels: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// The images to train on.
    pub train: Images,
    /// The images to evaluate on.
    pub test: Images,
    /// The constants that centre and scale the pixels, known or measured on the *training* images.
    pub normalization: Normalization,
    /// Whether the images are generated.
    pub synthetic: bool,
}

impl ImageSet {
    /// Keeps at most that many images of each split (`None` keeps all); see [`Images::limit`].
    pub fn limit(mut self, train: Option<usize>, test: Option<usize>, seed: u64) -> Self {
        if let Some(n) = train {
            self.train = self.train.limit(n, seed);
        }
        if let Some(n) = test {
            self.test = self.test.limit(n, seed);
        }
        self
    }

    /// A set to choose settings with: `n` of the training images, sampled with `seed`, become the test images.
    pub fn hold_out(&self, n: usize, seed: u64) -> Self {
        let (test, train) = self.train.split(n, seed);
        Self { train, test, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `counts[c]` images of class `c`, all of class 0 first; the two bytes of an image hold its index.
    fn blocks(counts: &[usize]) -> Images {
        let labels: Vec<usize> = counts.iter().enumerate().flat_map(|(c, &k)| std::iter::repeat_n(c, k)).collect();
        let pixels = (0..labels.len()).flat_map(|i| (i as u16).to_be_bytes()).collect();
        Images::new(pixels, labels, 2)
    }

    fn count(images: &Images, class: usize) -> usize {
        images.labels().iter().filter(|&&label| label == class).count()
    }

    #[test]
    fn limit_keeps_class_proportions() {
        let limited = blocks(&[60, 30, 10]).limit(20, 1);
        assert_eq!([count(&limited, 0), count(&limited, 1), count(&limited, 2)], [12, 6, 2]);
        let uneven = blocks(&[10, 10, 10]).limit(10, 1);
        assert_eq!(uneven.len(), 10);
        assert!((0..3).all(|class| (3..=4).contains(&count(&uneven, class))));
    }

    #[test]
    fn limit_is_reproducible_and_keeps_the_order() {
        let all = blocks(&[50, 50]);
        let first = all.limit(10, 7);
        assert_eq!(first.pixels(), all.limit(10, 7).pixels());
        assert_ne!(first.pixels(), all.limit(10, 8).pixels());
        assert!(first.pixels().chunks(2).is_sorted());
    }

    #[test]
    fn held_out_images_are_not_trained_on() {
        let (held, rest) = blocks(&[60, 40]).split(10, 3);
        assert_eq!([count(&held, 0), count(&held, 1), rest.len()], [6, 4, 90]);
        let mut all: Vec<&[u8]> = held.pixels().chunks(2).chain(rest.pixels().chunks(2)).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 100);
    }

    #[test]
    fn limit_beyond_the_size_keeps_everything() {
        let all = blocks(&[3, 2]);
        assert_eq!(all.limit(99, 0).len(), 5);
        assert!(all.limit(0, 0).is_empty());
        assert!(blocks(&[]).limit(3, 0).is_empty());
    }

    #[test]
    fn items_carry_their_own_pixels_and_label() {
        let item = blocks(&[2, 2]).get(3).expect("in memory");
        assert_eq!(item, ImageItem { pixels: vec![0, 3], label: 1 });
    }

    #[test]
    fn debug_omits_the_pixels() {
        assert_eq!(format!("{:?}", blocks(&[500])), "Images(500 of 2 bytes)");
    }
}
