//! Stochastic depth: a residual branch that is sometimes skipped.

use burn::config::Config;
use burn::module::{Flag, Module, Param};
use burn::tensor::{Device, Distribution, Tensor};

/// Configuration to create a [`DropPath`] using the [init function](DropPathConfig::init).
#[derive(Config, Debug)]
pub struct DropPathConfig {
    /// The probability of skipping the branch, for each image by itself.
    pub probability: f64,
}

/// Zeroes whole images of a branch during training, scaling the others by `1 / (1 - p)` so that the expectation stays
/// (Huang et al., *Deep Networks with Stochastic Depth*, 2016).
///
/// Should be created with [`DropPathConfig`].
#[derive(Module, Debug)]
pub struct DropPath {
    /// The probability of skipping the branch.
    pub probability: f64,
    /// Whether to behave as during training.
    pub training: Param<Flag>,
}

/// The share of the last block's probability that a block has: stochastic depth grows linearly with depth (Huang et al., 2016).
pub(crate) fn share_of_depth(index: usize, depth: usize) -> f64 {
    if depth > 1 { index as f64 / (depth - 1) as f64 } else { 1.0 }
}

impl DropPathConfig {
    /// Initialize a new [`DropPath`] module.
    ///
    /// # Panics
    ///
    /// If the probability is not in `[0, 1)`.
    pub fn init(&self) -> DropPath {
        assert!((0.0..1.0).contains(&self.probability), "DropPath: {} is not in [0, 1)", self.probability);
        DropPath { probability: self.probability, training: Param::from_bool(true) }
    }
}

impl DropPath {
    /// Whether branches on this device stay as they are.
    fn is_identity(&self, device: &Device) -> bool {
        self.probability == 0.0 || !self.training.is_enabled() || !device.is_autodiff()
    }

    /// `x + drop(branch(x, None))`; where no branch is dropped `branch(x, Some(x))`, which adds the residual as an epilogue of its last
    /// product.
    pub(crate) fn add_branch(
        &self,
        x: Tensor<3>,
        branch: impl Fn(Tensor<3>, Option<Tensor<3>>) -> Tensor<3>,
    ) -> Tensor<3> {
        match self.is_identity(&x.device()) {
            true => branch(x.clone(), Some(x)),
            false => x.clone() + self.forward(branch(x, None)),
        }
    }

    /// The branch `[batch, tokens, d_model]`, or zero for some of its images.
    pub fn forward(&self, branch: Tensor<3>) -> Tensor<3> {
        let device: Device = branch.device();
        if self.is_identity(&device) {
            return branch;
        }
        let keep = 1.0 - self.probability;
        let kept = Tensor::<3>::random([branch.dims()[0], 1, 1], Distribution::Bernoulli(keep), &device);
        branch * (kept / keep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_kept_or_dropped_as_a_unit() {
        let device = Device::flex().autodiff();
        device.seed(1);
        let branch = Tensor::<3>::ones([64, 2, 3], &device);
        let out = DropPathConfig::new(0.5).init().forward(branch);
        let values: Vec<f32> = out.into_data().iter::<f32>().collect();
        let images: Vec<&[f32]> = values.chunks(6).collect();
        assert!(images.iter().all(|image| image.iter().all(|value| *value == image[0])));
        assert!(images.iter().all(|image| image[0] == 0.0 || image[0] == 2.0));
        let kept = images.iter().filter(|image| image[0] > 0.0).count();
        assert!((16..=48).contains(&kept), "{kept} of 64 kept at probability one half");
    }

    #[test]
    fn inference_keeps_everything() {
        let branch = Tensor::<3>::ones([4, 2, 3], &Device::flex());
        let out = DropPathConfig::new(0.5).init().forward(branch.clone());
        out.into_data().assert_eq(&branch.into_data(), true);
    }
}
