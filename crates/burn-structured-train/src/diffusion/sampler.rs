//! Images from noise.

use super::{NoiseSchedule, gaussian};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_structured_models::dit::Dit;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

/// How images are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// Evaluations of the model for each image; of time steps if there are more.
    pub steps: usize,
    /// Strength `w` of classifier-free guidance, `ε = ε_none + w (ε_class − ε_none)`; 1 is the model's own prediction.
    pub guidance: f64,
    /// Images at a time.
    pub batch_size: usize,
    /// Seed of the noise that the images start from: models with one seed start from the same noise.
    pub seed: u64,
}

impl Default for Sampling {
    /// 50 steps with a guidance of 2.
    fn default() -> Self {
        Self { steps: 50, guidance: 2.0, batch_size: 64, seed: 42 }
    }
}

/// One image for each of the `classes`, `[classes, channels, height, width]` in `[−1, 1]`, by DDIM without noise between the steps
/// (Song, Meng, Ermon, *Denoising Diffusion Implicit Models*, 2021).
///
/// `progress` is told the number of images that are finished.
///
/// # Panics
///
/// If there is no such class.
pub fn sample(
    model: &Dit,
    schedule: &NoiseSchedule,
    classes: &[usize],
    sampling: &Sampling,
    device: &Device,
    mut progress: impl FnMut(usize),
) -> Tensor<4> {
    let (model, device) = (model.valid(), device.clone().inner());
    let mut rng = StdRng::seed_from_u64(sampling.seed);
    let [channels, height, width] = model.image_shape();
    let mut finished = 0;
    let batch = |classes: &[usize]| {
        let start = gaussian([classes.len(), channels, height, width], &mut rng, &device);
        let images = denoise(&model, schedule, start, classes, sampling);
        finished += classes.len();
        progress(finished);
        images
    };
    let batches: Vec<_> = classes.chunks(sampling.batch_size.max(1)).map(batch).collect();
    if batches.is_empty() { Tensor::zeros([0, channels, height, width], &device) } else { Tensor::cat(batches, 0) }
}

fn denoise(
    model: &Dit,
    schedule: &NoiseSchedule,
    mut x: Tensor<4>,
    classes: &[usize],
    sampling: &Sampling,
) -> Tensor<4> {
    let times = schedule.descending(sampling.steps);
    for (index, &time) in times.iter().enumerate() {
        let noise = guided(model, x.clone(), time, classes, sampling.guidance);
        let image = (x - noise.clone().mul_scalar(schedule.noise(time))).div_scalar(schedule.signal(time));
        // Predictions outside the range of pixels come from small shares of the image, which enlarge errors.
        let image = image.clamp(-1.0, 1.0);
        x = match times.get(index + 1) {
            Some(&next) => image.mul_scalar(schedule.signal(next)) + noise.mul_scalar(schedule.noise(next)),
            None => image,
        };
    }
    x
}

/// The predicted noise, away from that of no class by `guidance`.
fn guided(model: &Dit, x: Tensor<4>, time: usize, classes: &[usize], guidance: f64) -> Tensor<4> {
    let (count, time) = (classes.len(), time as f64);
    if guidance == 1.0 {
        return model.forward(x, &vec![time; count], classes);
    }
    let both = [classes, &vec![model.null_class(); count]].concat();
    let noise = model.forward(Tensor::cat(vec![x.clone(), x], 0), &vec![time; 2 * count], &both);
    let [of_class, of_none] = [0, count].map(|start| noise.clone().narrow(0, start, count));
    of_none.clone() + (of_class - of_none).mul_scalar(guidance)
}

#[cfg(test)]
mod tests {
    use super::super::ScheduleKind;
    use super::*;
    use burn::module::{ModuleMapper, Param};
    use burn::tensor::{Distribution, TensorData, Tolerance};
    use burn_structured_models::dit::DitConfig;

    fn model(device: &Device) -> Dit {
        DitConfig::new(2).with_image_size(8).with_d_model(16).with_depth(1).with_heads(2).init(device)
    }

    #[test]
    fn seed_decides_the_images() {
        let device = Device::flex();
        let (model, schedule) = (model(&device), NoiseSchedule::new(ScheduleKind::Cosine, 100));
        let images = |seed, batch_size| {
            let sampling = Sampling { steps: 4, seed, batch_size, ..Sampling::default() };
            let mut seen = Vec::new();
            let images = sample(&model, &schedule, &[0, 1, 1], &sampling, &device, |finished| seen.push(finished));
            assert_eq!((images.dims(), seen.last()), ([3, 3, 8, 8], Some(&3)));
            images.into_data()
        };
        images(1, 2).assert_eq(&images(1, 2), true);
        images(1, 3).assert_approx_eq::<f32>(&images(1, 2), Tolerance::absolute(1e-6));
        assert_ne!(images(1, 2), images(2, 2));
        assert!(images(1, 2).iter::<f32>().all(|value| (-1.0..=1.0).contains(&value)));
    }

    /// A model whose output depends on the image, the time and the class.
    fn noisy_model(device: &Device) -> Dit {
        struct Noise;
        impl ModuleMapper for Noise {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                param.map(|tensor| tensor.random_like(Distribution::Normal(0.0, 0.2)))
            }
        }
        device.seed(5);
        model(device).map(&mut Noise)
    }

    fn values(tensor: Tensor<4>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }

    #[test]
    fn denoise_takes_the_steps_of_ddim_with_guidance() {
        let device = Device::flex();
        let (model, schedule) = (noisy_model(&device), NoiseSchedule::new(ScheduleKind::Cosine, 50));
        let sampling = Sampling { steps: 3, guidance: 2.5, ..Sampling::default() };
        let start = Tensor::<4>::random([2, 3, 8, 8], Distribution::Normal(0.0, 1.0), &device);
        let found = values(denoise(&model, &schedule, start.clone(), &[1, 0], &sampling));
        let (mut x, shape) = (values(start), [2, 3, 8, 8]);
        let (times, none) = (schedule.descending(3), model.null_class());
        for (index, time) in times.iter().enumerate() {
            let predict = |classes: [usize; 2]| {
                let x = Tensor::from_data(TensorData::new(x.clone(), shape), &device);
                values(model.forward(x, &[*time as f64; 2], &classes))
            };
            let (of_class, of_none) = (predict([1, 0]), predict([none; 2]));
            assert!(of_class.iter().zip(&of_none).any(|(a, b)| (a - b).abs() > 1e-2), "the class matters");
            for (i, x) in x.iter_mut().enumerate() {
                let noise = of_none[i] + 2.5 * (of_class[i] - of_none[i]);
                let image = ((*x - schedule.noise(*time) * noise) / schedule.signal(*time)).clamp(-1.0, 1.0);
                *x = match times.get(index + 1) {
                    Some(next) => schedule.signal(*next) * image + schedule.noise(*next) * noise,
                    None => image,
                };
            }
        }
        for (found, expected) in found.iter().zip(x) {
            assert!((found - expected).abs() < 1e-4, "{found}, not {expected}");
        }
    }

    #[test]
    fn no_predicted_noise_leaves_the_direction_of_the_start() {
        // A fresh model predicts zeros, so that every step divides by the signal and clips.
        let device = Device::flex();
        let (model, schedule) = (model(&device), NoiseSchedule::new(ScheduleKind::Linear, 10));
        let start = Tensor::<4>::full([1, 3, 8, 8], 0.01, &device);
        let sampling = Sampling { steps: 3, guidance: 1.0, ..Sampling::default() };
        let found = denoise(&model, &schedule, start, &[0], &sampling).into_data();
        let mut expected = 0.01f64;
        let times = schedule.descending(3);
        for (index, time) in times.iter().enumerate() {
            let image = (expected / schedule.signal(*time)).min(1.0);
            expected = times.get(index + 1).map_or(image, |next| image * schedule.signal(*next));
        }
        assert!(found.iter::<f64>().all(|value| (value - expected).abs() < 1e-5), "{expected}");
    }
}
