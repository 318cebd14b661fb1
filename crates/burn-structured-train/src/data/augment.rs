//! Augmentation of images and targets on the CPU, as functions of their input and a random generator.
//!
//! Shapes are `[channels, height, width]`, and `[batch, channels, height, width]` for the batch functions. Those pair
//! image `i` with image `batch - 1 - i` (the middle one of an odd batch with itself), which is a random partner as long
//! as the order of the images is.

use rand::{Rng, RngExt};
use rand_distr::{Beta, Distribution};

use super::DataError;

/// The part of the zero-padded image that starts at row `dy` and column `dx` of the original, in the original's size.
pub fn shift(pixels: &[u8], [_, height, width]: [usize; 3], dy: isize, dx: isize) -> Vec<u8> {
    let mut shifted = vec![0; pixels.len()];
    // The range of target positions whose source position exists.
    let range = |offset: isize, size: usize| {
        let shorter = size.saturating_sub(offset.unsigned_abs());
        if offset < 0 { size - shorter..size } else { 0..shorter }
    };
    let (rows, columns) = (range(dy, height), range(dx, width));
    for (target, source) in shifted.chunks_exact_mut(height * width).zip(pixels.chunks_exact(height * width)) {
        for row in rows.clone() {
            let from = row.wrapping_add_signed(dy) * width + columns.start.wrapping_add_signed(dx);
            let to = row * width + columns.start;
            target[to..to + columns.len()].copy_from_slice(&source[from..from + columns.len()]);
        }
    }
    shifted
}

/// Pads the image with `pad` zeros on each side and cuts the original size out at a random place.
pub fn random_crop<R: Rng + ?Sized>(pixels: &[u8], shape: [usize; 3], pad: usize, rng: &mut R) -> Vec<u8> {
    let mut offset = || rng.random_range(0..=2 * pad) as isize - pad as isize;
    let (dy, dx) = (offset(), offset());
    shift(pixels, shape, dy, dx)
}

/// Mirrors left and right in place; `width` is the length of a row.
pub fn flip_horizontal(pixels: &mut [u8], width: usize) {
    pixels.chunks_exact_mut(width).for_each(<[u8]>::reverse);
}

/// Moves the share `epsilon` of each target row `[classes]` to all classes equally:
/// `t * (1 - epsilon) + epsilon / classes`.
pub fn smooth(targets: &mut [f32], classes: usize, epsilon: f32) {
    for target in targets {
        *target = *target * (1.0 - epsilon) + epsilon / classes as f32;
    }
}

/// Blends each image and its targets with its partner's: `weight` of its own, `1 - weight` of the other's.
pub fn mixup(images: &mut [f32], targets: &mut [f32], batch: usize, weight: f32) {
    for_each_pair(images, batch, |own, other| blend(own, other, weight));
    for_each_pair(targets, batch, |own, other| blend(own, other, weight));
}

/// Exchanges `area` between partners; targets are mixed by the share of the image that stays.
pub fn cutmix(images: &mut [f32], targets: &mut [f32], [batch, _, height, width]: [usize; 4], area: &Area) {
    for_each_pair(images, batch, |own, other| {
        let planes = own.chunks_exact_mut(height * width).zip(other.chunks_exact_mut(height * width));
        for (own, other) in planes {
            for row in area.top..area.bottom {
                let span = row * width + area.left..row * width + area.right;
                own[span.clone()].swap_with_slice(&mut other[span]);
            }
        }
    });
    let exchanged = (area.bottom - area.top) * (area.right - area.left);
    let weight = 1.0 - exchanged as f32 / (height * width) as f32;
    for_each_pair(targets, batch, |own, other| blend(own, other, weight));
}

/// A rectangle of pixels; `bottom` and `right` are the first row and column outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    /// First row.
    pub top: usize,
    /// First row below.
    pub bottom: usize,
    /// First column.
    pub left: usize,
    /// First column to the right.
    pub right: usize,
}

impl Area {
    /// A rectangle of the image's proportions and `share` of its area around a random centre, cut off at the borders.
    pub fn random<R: Rng + ?Sized>(share: f64, height: usize, width: usize, rng: &mut R) -> Self {
        let mut span = |size: usize| {
            let half = (size as f64 * share.sqrt()) as usize / 2;
            let centre = rng.random_range(0..size);
            (centre.saturating_sub(half), (centre + half).min(size))
        };
        let (top, bottom) = span(height);
        let (left, right) = span(width);
        Self { top, bottom, left, right }
    }
}

/// Which of mixup and CutMix to apply to a batch, and how strongly.
#[derive(Clone, Debug)]
pub struct Mixing {
    mixup: Option<Beta<f64>>,
    cutmix: Option<Beta<f64>>,
}

impl Mixing {
    /// Weights are sampled from Beta(alpha, alpha); an alpha of 0 disables the method. With both enabled, each batch gets one
    /// of them at random.
    ///
    /// # Errors
    ///
    /// [`DataError::Setting`] if an alpha is negative or not finite.
    pub fn new(mixup: f64, cutmix: f64) -> Result<Self, DataError> {
        Ok(Self { mixup: weights("mixup", mixup)?, cutmix: weights("cutmix", cutmix)? })
    }

    /// Mixes a batch of `images` `[batch, channels, height, width]` and its `targets` `[batch, classes]` in place.
    pub fn apply<R: Rng + ?Sized>(&self, images: &mut [f32], targets: &mut [f32], shape: [usize; 4], rng: &mut R) {
        let [batch, _, height, width] = shape;
        let cut = match (&self.mixup, &self.cutmix) {
            (Some(_), Some(_)) => rng.random_bool(0.5),
            (_, cutmix) => cutmix.is_some(),
        };
        match (&self.mixup, &self.cutmix) {
            (_, Some(weights)) if cut => {
                let area = Area::random(1.0 - weights.sample(rng), height, width, rng);
                cutmix(images, targets, shape, &area);
            }
            (Some(weights), _) => mixup(images, targets, batch, weights.sample(rng) as f32),
            _ => {}
        }
    }
}

fn weights(name: &'static str, alpha: f64) -> Result<Option<Beta<f64>>, DataError> {
    if alpha == 0.0 {
        return Ok(None);
    }
    let expected = "give 0 to turn it off, or a positive number such as 0.8 or 1.0";
    let error = || DataError::Setting { name, value: alpha.to_string(), expected };
    if !alpha.is_finite() {
        return Err(error());
    }
    Beta::new(alpha, alpha).map(Some).map_err(|_| error())
}

/// Calls `exchange` with the equal parts `i` and `batch - 1 - i` of `values`, once per pair.
fn for_each_pair(values: &mut [f32], batch: usize, mut exchange: impl FnMut(&mut [f32], &mut [f32])) {
    let part = values.len() / batch.max(1);
    let (mut front, mut back) = values.split_at_mut(values.len() - batch / 2 * part);
    for _ in 0..batch / 2 {
        let (first, rest) = front.split_at_mut(part);
        let (before, last) = back.split_at_mut(back.len() - part);
        exchange(first, last);
        (front, back) = (rest, before);
    }
}

fn blend(own: &mut [f32], other: &mut [f32], weight: f32) {
    for (own, other) in own.iter_mut().zip(other) {
        (*own, *other) = (weight * *own + (1.0 - weight) * *other, weight * *other + (1.0 - weight) * *own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    /// Two channels of 2 x 3 pixels, numbered from 1.
    const SHAPE: [usize; 3] = [2, 2, 3];
    const PIXELS: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];

    #[test]
    fn shift_moves_every_channel_and_fills_with_zeros() {
        assert_eq!(shift(&PIXELS, SHAPE, 0, 0), PIXELS);
        assert_eq!(shift(&PIXELS, SHAPE, 1, 1), [5, 6, 0, 0, 0, 0, 11, 12, 0, 0, 0, 0]);
        assert_eq!(shift(&PIXELS, SHAPE, -1, -2), [0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 7]);
        assert_eq!(shift(&PIXELS, SHAPE, 9, -9), [0; 12], "nothing is left of an image moved out of sight");
    }

    #[test]
    fn random_crop_reaches_every_offset() {
        let mut rng = StdRng::seed_from_u64(0);
        let mut seen: Vec<Vec<u8>> = (0..500).map(|_| random_crop(&PIXELS, SHAPE, 1, &mut rng)).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 9);
    }

    #[test]
    fn flip_twice_is_the_identity() {
        let mut pixels = PIXELS;
        flip_horizontal(&mut pixels, 3);
        assert_eq!(pixels, [3, 2, 1, 6, 5, 4, 9, 8, 7, 12, 11, 10]);
        flip_horizontal(&mut pixels, 3);
        assert_eq!(pixels, PIXELS);
    }

    #[test]
    fn smoothing_keeps_the_sum() {
        let mut targets = [0.0, 1.0, 0.0, 0.0];
        smooth(&mut targets, 4, 0.5);
        assert_eq!(targets, [0.125, 0.625, 0.125, 0.125]);
    }

    /// Three images `[1, 2, 2]` filled with 10, 20 and 30, of classes 0, 1 and 2.
    fn batch() -> (Vec<f32>, Vec<f32>) {
        let images = [10.0, 20.0, 30.0].into_iter().flat_map(|value| [value; 4]).collect();
        (images, vec![1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0])
    }

    #[test]
    fn mixup_blends_pixels_and_targets_alike() {
        let (mut images, mut targets) = batch();
        mixup(&mut images, &mut targets, 3, 0.75);
        assert_eq!(images, [[15.0; 4], [20.0; 4], [25.0; 4]].concat());
        assert_eq!(targets, [0.75, 0.0, 0.25, 0.0, 1.0, 0.0, 0.25, 0.0, 0.75]);
    }

    #[test]
    fn cutmix_exchanges_the_area_and_its_share_of_the_targets() {
        let (mut images, mut targets) = batch();
        cutmix(&mut images, &mut targets, [3, 1, 2, 2], &Area { top: 0, bottom: 1, left: 1, right: 2 });
        assert_eq!(images[..4], [10.0, 30.0, 10.0, 10.0]);
        assert_eq!(images[8..], [30.0, 10.0, 30.0, 30.0]);
        assert_eq!(targets, [0.75, 0.0, 0.25, 0.0, 1.0, 0.0, 0.25, 0.0, 0.75]);
    }

    #[test]
    fn random_area_stays_inside_the_image() {
        let mut rng = StdRng::seed_from_u64(1);
        let areas: Vec<Area> = (0..200).map(|_| Area::random(0.25, 32, 16, &mut rng)).collect();
        assert!(areas.iter().all(|area| area.bottom <= 32 && area.right <= 16));
        assert!(areas.iter().any(|area| area.bottom - area.top == 16 && area.right - area.left == 8));
    }

    #[test]
    fn mixed_targets_match_the_pixels() {
        // Each image is filled with 1 at its own class and one channel per class, so that the mean of channel `c` over
        // an image is the share of class `c` in it.
        const SIDE: usize = 8;
        let settings = [(0.0, 0.0), (0.8, 0.0), (0.0, 1.0), (0.8, 1.0), (0.001, 0.001)];
        let mut rng = StdRng::seed_from_u64(2);
        for (mixup, cutmix) in settings {
            let mixing = Mixing::new(mixup, cutmix).expect("valid settings");
            for _ in 0..50 {
                let mut images = vec![0.0; 4 * 4 * SIDE * SIDE];
                let mut targets = vec![0.0; 4 * 4];
                for class in 0..4 {
                    targets[class * 4 + class] = 1.0;
                    let start = (class * 4 + class) * SIDE * SIDE;
                    images[start..start + SIDE * SIDE].fill(1.0);
                }
                mixing.apply(&mut images, &mut targets, [4, 4, SIDE, SIDE], &mut rng);
                for (target, plane) in targets.iter().zip(images.chunks(SIDE * SIDE)) {
                    let share = plane.iter().sum::<f32>() / (SIDE * SIDE) as f32;
                    assert!((share - target).abs() < 1e-5, "mixup {mixup} cutmix {cutmix}: {share} {target}");
                }
            }
        }
    }

    #[test]
    fn alpha_out_of_range_is_named() {
        for (mixup, cutmix, name) in [(-1.0, 0.0, "mixup"), (0.0, f64::NAN, "cutmix"), (f64::INFINITY, 0.0, "mixup")] {
            let message = Mixing::new(mixup, cutmix).expect_err("impossible").to_string();
            assert!(message.starts_with(name), "{message}");
        }
    }
}
