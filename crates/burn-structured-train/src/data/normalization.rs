//! Per-channel mean and standard deviation, `(value - mean) / std`.

use serde::{Deserialize, Serialize};

/// Constants that turn pixel values in 0..=1 into centred inputs: `(value - mean[c]) / std[c]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// Mean of each channel, pixel values being in 0..=1.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel; positive.
    pub std: Vec<f32>,
}

impl Normalization {
    /// The constants of the CIFAR-10 training images, in RGB order.
    pub fn cifar10() -> Self {
        Self { mean: vec![0.4914, 0.4822, 0.4465], std: vec![0.2470, 0.2435, 0.2616] }
    }

    /// The constants of the CIFAR-100 training images, in RGB order.
    pub fn cifar100() -> Self {
        Self { mean: vec![0.5071, 0.4865, 0.4409], std: vec![0.2673, 0.2564, 0.2762] }
    }

    /// Measures images stored as consecutive `[channels, height, width]` byte blocks.
    ///
    /// `plane` is `height * width`. A channel without contrast (or no image at all) gets a standard deviation of 1, so
    /// that normalising never divides by zero.
    pub fn measure(pixels: &[u8], channels: usize, plane: usize) -> Self {
        let mut counts = vec![[0u64; 256]; channels];
        for (index, block) in pixels.chunks_exact(plane.max(1)).enumerate() {
            let histogram = &mut counts[index % channels];
            for &value in block {
                histogram[usize::from(value)] += 1;
            }
        }
        let (mean, std) = counts.iter().map(moments).unzip();
        Self { mean, std }
    }

    /// The normalised value of every byte, per channel: the batcher's inner loop is then a look-up.
    pub(crate) fn tables(&self) -> Vec<[f32; 256]> {
        let table = |(&mean, &std): (&f32, &f32)| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std);
        self.mean.iter().zip(&self.std).map(table).collect()
    }
}

/// Mean and standard deviation, on the 0..=1 scale, of the bytes a histogram counts.
fn moments(histogram: &[u64; 256]) -> (f32, f32) {
    let total: u64 = histogram.iter().sum();
    if total == 0 {
        return (0.0, 1.0);
    }
    let expect = |f: &dyn Fn(f64) -> f64| {
        let sum: f64 = histogram.iter().enumerate().map(|(byte, &count)| f(byte as f64 / 255.0) * count as f64).sum();
        sum / total as f64
    };
    let mean = expect(&|value| value);
    let std = expect(&|value| (value - mean).powi(2)).sqrt();
    (mean as f32, if std > 0.0 { std as f32 } else { 1.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_measured_separately() {
        // Two images of two channels and two pixels.
        let measured = Normalization::measure(&[0, 255, 51, 51, 0, 255, 51, 51], 2, 2);
        assert!((measured.mean[0] - 0.5).abs() < 1e-6 && (measured.std[0] - 0.5).abs() < 1e-6);
        assert!((measured.mean[1] - 0.2).abs() < 1e-6);
        assert_eq!(measured.std[1], 1.0, "a flat channel must not divide by zero");
    }

    #[test]
    fn no_image_gives_mean_zero_and_std_one() {
        assert_eq!(Normalization::measure(&[], 3, 4), Normalization { mean: vec![0.0; 3], std: vec![1.0; 3] });
    }

    #[test]
    fn tables_hold_the_normalised_bytes() {
        let tables = Normalization { mean: vec![0.5], std: vec![0.25] }.tables();
        assert_eq!((tables[0][0], tables[0][255]), (-2.0, 2.0));
    }
}
