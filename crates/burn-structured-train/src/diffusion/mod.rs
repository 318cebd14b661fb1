//! Diffusion models of images: training to predict noise, and sampling without it.
//!
//! Images with pixels in `[−1, 1]` are mixed with Gaussian noise (Ho, Jain, Abbeel, *Denoising Diffusion Probabilistic Models*, 2020):
//!
//! ```text
//! x_t = √ᾱ_t · x_0 + √(1 − ᾱ_t) · ε        a NoiseSchedule
//! ‖model(x_t, t, class) − ε‖²              the objective, averaged
//! ```
//!
//! | item | what |
//! |---|---|
//! | [`NoiseSchedule`] | `ᾱ_t` of the cosine or the linear schedule |
//! | [`run_diffusion, save_diffusion`], [`train_dit`], [`noise_error`] | training a [`Dit`](burn_structured_models::dit::Dit), and its error on held-out images |
//! | [`sample`] | DDIM with classifier-free guidance, from noise that a seed decides |
//! | `frechet_distance`, `features` | with the feature `frechet`: how far two sets of images are from each other, on the features of a trained vision transformer |
//! | [`ImageGrid`] | images as a PNG |

#[cfg(feature = "frechet")]
mod frechet;
mod grid;
mod learner;
mod noise;
mod recipe;
mod run;
mod sampler;
mod schedule;

#[cfg(feature = "frechet")]
pub use frechet::{FrechetError, Gaussian, features, frechet_distance};
pub use grid::ImageGrid;
pub use learner::{DiffusionStep, TrainedDit, noise_error, train_dit};
pub use noise::gaussian;
pub use recipe::DiffusionRecipe;
pub use run::{DiffusionResult, DiffusionSettings, load_diffusion, run_diffusion, save_diffusion};
pub use sampler::{Sampling, sample};
pub use schedule::{NoiseSchedule, ScheduleKind};

use crate::data::{ImageSet, Normalization};

/// The images of `set` with pixels in `[−1, 1]`, the range that [`sample`] gives.
pub fn centred(set: ImageSet) -> ImageSet {
    let channels = set.channels;
    ImageSet { normalization: Normalization { mean: vec![0.5; channels], std: vec![0.5; channels] }, ..set }
}
