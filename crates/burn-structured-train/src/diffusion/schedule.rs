//! How much noise there is at which time.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use std::f64::consts::FRAC_PI_2;

/// The largest share of noise that one step adds.
const LARGEST_BETA: f64 = 0.999;

/// The offset of the cosine, which keeps the first steps from adding next to nothing.
const OFFSET: f64 = 0.008;

/// A family of noise schedules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// `ᾱ_t = cos²((t/T + 0.008) / 1.008 · π/2)`, scaled to 1 at 0 (Nichol and Dhariwal, *Improved Denoising Diffusion Probabilistic
    /// Models*, 2021).
    #[default]
    Cosine,
    /// `β_t` from `0.1 / T` to `20 / T`, which are 0.0001 and 0.02 for 1000 steps (Ho et al., 2020).
    Linear,
}

/// The shares of signal and noise at each time `t`, from 0, the least noise, to `steps − 1`.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseSchedule {
    betas: Vec<f64>,
    alpha_bars: Vec<f64>,
}

impl NoiseSchedule {
    /// A schedule of so many steps.
    ///
    /// ```
    /// use burn_structured_train::diffusion::{NoiseSchedule, ScheduleKind};
    ///
    /// let schedule = NoiseSchedule::new(ScheduleKind::Cosine, 1000);
    /// assert!(schedule.signal(0) > 0.999 && schedule.noise(999) > 0.999);
    /// ```
    ///
    /// # Panics
    ///
    /// If there is no step.
    pub fn new(kind: ScheduleKind, steps: usize) -> Self {
        assert!(steps > 0, "a noise schedule has at least one step");
        let betas = (0..steps).map(|step| match kind {
            ScheduleKind::Cosine => {
                let level = |step: usize| ((step as f64 / steps as f64 + OFFSET) / (1.0 + OFFSET) * FRAC_PI_2).cos();
                (1.0 - (level(step + 1) / level(step)).powi(2)).min(LARGEST_BETA)
            }
            ScheduleKind::Linear => {
                let progress = step as f64 / (steps - 1).max(1) as f64;
                ((0.1 + (20.0 - 0.1) * progress) / steps as f64).min(LARGEST_BETA)
            }
        });
        let betas: Vec<f64> = betas.collect();
        let alpha_bars = betas.iter().scan(1.0, |product, beta| {
            *product *= 1.0 - beta;
            Some(*product)
        });
        Self { alpha_bars: alpha_bars.collect(), betas }
    }

    /// The number of steps.
    pub fn steps(&self) -> usize {
        self.betas.len()
    }

    /// `β_t`, the share of noise that step `t` adds.
    ///
    /// # Panics
    ///
    /// If there is no such step.
    pub fn beta(&self, time: usize) -> f64 {
        self.betas[time]
    }

    /// `√ᾱ_t`, the share of the image at time `t`.
    ///
    /// # Panics
    ///
    /// If there is no such step.
    pub fn signal(&self, time: usize) -> f64 {
        self.alpha_bars[time].sqrt()
    }

    /// `√(1 − ᾱ_t)`, the share of the noise at time `t`.
    ///
    /// # Panics
    ///
    /// If there is no such step.
    pub fn noise(&self, time: usize) -> f64 {
        (1.0 - self.alpha_bars[time]).sqrt()
    }

    /// `√ᾱ_t · images + √(1 − ᾱ_t) · noise`, each image at its time.
    ///
    /// # Panics
    ///
    /// If the shapes differ, there are not as many times as images, or there is no such step.
    pub fn add_noise(&self, images: Tensor<4>, noise: Tensor<4>, times: &[usize]) -> Tensor<4> {
        let share = |share: &dyn Fn(usize) -> f64| {
            let values: Vec<f64> = times.iter().map(|time| share(*time)).collect();
            let data = TensorData::new(values, [times.len(), 1, 1, 1]).convert_dtype(images.dtype());
            Tensor::<4>::from_data(data, (&images.device(), images.dtype()))
        };
        let (signal, share_of_noise) = (share(&|time| self.signal(time)), share(&|time| self.noise(time)));
        images * signal + noise * share_of_noise
    }

    /// `count` times from the last to the first, evenly spaced; all of them if there are no more.
    pub fn descending(&self, count: usize) -> Vec<usize> {
        let (last, count) = (self.steps() - 1, count.clamp(1, self.steps()));
        if count == 1 {
            return vec![last];
        }
        (0..count).rev().map(|index| (index as f64 * last as f64 / (count - 1) as f64).round() as usize).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tolerance};

    const KINDS: [ScheduleKind; 2] = [ScheduleKind::Cosine, ScheduleKind::Linear];

    #[test]
    fn shares_keep_the_variance() {
        for kind in KINDS {
            for steps in [1, 2, 10, 1000] {
                let schedule = NoiseSchedule::new(kind, steps);
                for time in 0..steps {
                    let total = schedule.signal(time).powi(2) + schedule.noise(time).powi(2);
                    assert!((total - 1.0).abs() < 1e-12, "{kind:?} {steps}: {total} at {time}");
                }
            }
        }
    }

    #[test]
    fn signal_is_the_product_of_the_steps_and_falls() {
        for kind in KINDS {
            let schedule = NoiseSchedule::new(kind, 50);
            let mut product = 1.0;
            for time in 0..50 {
                let before = product;
                product *= 1.0 - schedule.beta(time);
                assert!((schedule.signal(time).powi(2) - product).abs() < 1e-12 && product < before);
                assert!(schedule.beta(time) > 0.0 && schedule.beta(time) <= LARGEST_BETA);
            }
        }
    }

    #[test]
    fn schedules_are_those_of_their_papers() {
        let linear = NoiseSchedule::new(ScheduleKind::Linear, 1000);
        assert!((linear.beta(0) - 1e-4).abs() < 1e-12 && (linear.beta(999) - 0.02).abs() < 1e-12);
        let cosine = NoiseSchedule::new(ScheduleKind::Cosine, 1000);
        let level = |share: f64| ((share + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2);
        for time in [0, 10, 499, 900] {
            let expected = level((time + 1) as f64 / 1000.0) / level(0.0);
            assert!((cosine.signal(time).powi(2) - expected).abs() < 1e-12, "{time}");
        }
        assert_eq!(cosine.beta(999), LARGEST_BETA);
    }

    #[test]
    fn every_image_has_its_time() {
        let device = Device::flex();
        let schedule = NoiseSchedule::new(ScheduleKind::Cosine, 10);
        let images = Tensor::<4>::ones([2, 1, 1, 1], &device);
        let mixed = schedule.add_noise(images.clone(), images * -1.0, &[2, 9]).into_data();
        let expected = [2, 9].map(|time| schedule.signal(time) - schedule.noise(time));
        let expected = TensorData::new(expected.to_vec(), [2, 1, 1, 1]).convert::<f32>();
        mixed.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-6));
    }

    #[test]
    fn descending_times_reach_both_ends() {
        let schedule = NoiseSchedule::new(ScheduleKind::Linear, 1000);
        assert_eq!(schedule.descending(1), [999]);
        assert_eq!(schedule.descending(4), [999, 666, 333, 0]);
        assert_eq!(schedule.descending(5000).len(), 1000);
    }
}
