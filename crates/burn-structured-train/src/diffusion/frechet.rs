//! The Fréchet distance between two sets of images, on the features of a vision transformer.
//!
//! The formula is that of the Fréchet inception distance (Heusel et al., 2017), but the features are those of a classifier of this
//! repository instead of Inception-v3, so that the numbers are **not** FID and compare only with others on the same features.

use crate::data::Normalization;
use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use burn_structured_models::vit::ViT;
use faer::{Mat, Side};
use thiserror::Error;

/// Why there is no distance.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrechetError {
    /// A covariance needs more images.
    #[error("{images} images give no covariance; use at least 2")]
    Images {
        /// Their number.
        images: usize,
    },
    /// The features are of different models.
    #[error("features of {first} and of {second} numbers cannot be compared")]
    Features {
        /// Features of the first set.
        first: usize,
        /// Features of the second set.
        second: usize,
    },
    /// A feature is infinite or no number.
    #[error("features are not finite")]
    NotFinite,
    /// The decomposition of a covariance did not converge.
    #[error("the eigenvalues of a covariance did not converge")]
    Eigenvalues,
}

/// Mean and covariance of features.
#[derive(Clone, Debug)]
pub struct Gaussian {
    mean: Vec<f64>,
    covariance: Mat<f64>,
}

impl Gaussian {
    /// The mean and the unbiased covariance of features, one row for each image.
    ///
    /// # Errors
    ///
    /// If there are fewer than two images, or a feature is not finite.
    pub fn of(features: &[Vec<f64>]) -> Result<Self, FrechetError> {
        let count = features.len();
        if count < 2 {
            return Err(FrechetError::Images { images: count });
        }
        let width = features[0].len();
        if let Some(row) = features.iter().find(|row| row.len() != width) {
            return Err(FrechetError::Features { first: width, second: row.len() });
        }
        if features.iter().flatten().any(|value| !value.is_finite()) {
            return Err(FrechetError::NotFinite);
        }
        let mean: Vec<f64> =
            (0..width).map(|column| features.iter().map(|row| row[column]).sum::<f64>() / count as f64).collect();
        let centred = Mat::from_fn(count, width, |row, column| features[row][column] - mean[column]);
        let covariance = (centred.transpose() * &centred) * faer::Scale(1.0 / (count - 1) as f64);
        Ok(Self { mean, covariance })
    }
}

/// `‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁^½ Σ₂ Σ₁^½)^½)`.
///
/// # Errors
///
/// If the features have different lengths, or a decomposition does not converge.
pub fn frechet_distance(first: &Gaussian, second: &Gaussian) -> Result<f64, FrechetError> {
    let width = first.mean.len();
    if width != second.mean.len() {
        return Err(FrechetError::Features { first: width, second: second.mean.len() });
    }
    let eigen = |matrix: &Mat<f64>| matrix.self_adjoint_eigen(Side::Lower).map_err(|_| FrechetError::Eigenvalues);
    // Roundoff makes eigenvalues of singular covariances negative.
    let decomposed = eigen(&first.covariance)?;
    let (vectors, values) = (decomposed.U(), decomposed.S().column_vector());
    let scaled = Mat::from_fn(width, width, |row, column| vectors[(row, column)] * values[column].max(0.0).sqrt());
    let root = &scaled * vectors.transpose();
    let product = &root * &second.covariance * &root;
    let symmetric = Mat::from_fn(width, width, |row, column| 0.5 * (product[(row, column)] + product[(column, row)]));
    let decomposed = eigen(&symmetric)?;
    let values = decomposed.S().column_vector();
    let coupled: f64 = (0..width).map(|index| values[index].max(0.0).sqrt()).sum();
    let trace = |matrix: &Mat<f64>| (0..width).map(|index| matrix[(index, index)]).sum::<f64>();
    let means: f64 = first.mean.iter().zip(&second.mean).map(|(a, b)| (a - b).powi(2)).sum();
    Ok(means + trace(&first.covariance) + trace(&second.covariance) - 2.0 * coupled)
}

/// What the head of `model` sees of images `[count, channels, height, width]` with pixels in `[−1, 1]`; `normalization` is that of the images
/// that the model was trained on.
///
/// # Panics
///
/// If the images have another size or number of channels than those of the model.
pub fn features(model: &ViT, images: Tensor<4>, normalization: &Normalization, batch_size: usize) -> Vec<Vec<f64>> {
    let model = model.valid();
    let count = images.dims()[0];
    let images = to_normalized(images, normalization);
    let mut rows = Vec::with_capacity(count);
    for start in (0..count).step_by(batch_size.max(1)) {
        let features = model.features(images.clone().narrow(0, start, batch_size.max(1).min(count - start)));
        let width = features.dims()[1];
        let values: Vec<f64> = features.into_data().iter::<f64>().collect();
        rows.extend(values.chunks(width).map(<[f64]>::to_vec));
    }
    rows
}

/// Images with pixels in `[−1, 1]`, normalised as a classifier of images takes them.
fn to_normalized(images: Tensor<4>, normalization: &Normalization) -> Tensor<4> {
    let channels = normalization.mean.len();
    let (device, dtype) = (images.device(), images.dtype());
    let of_channels = |values: &[f32]| {
        Tensor::<4>::from_data(
            TensorData::new(values.to_vec(), [1, channels, 1, 1]).convert_dtype(dtype),
            (&device, dtype),
        )
    };
    ((images + 1.0) / 2.0 - of_channels(&normalization.mean)) / of_channels(&normalization.std)
}

#[cfg(test)]
mod tests {
    use super::super::centred;
    use super::*;
    use crate::data::{ImageBatcher, ImageSet, synthetic};
    use burn::data::dataloader::batcher::Batcher;
    use burn::data::dataset::Dataset;
    use burn::tensor::{Device, Tolerance};
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use rand_distr::{Distribution, StandardNormal};

    fn diagonal(mean: [f64; 3], variances: [f64; 3]) -> Gaussian {
        let covariance = Mat::from_fn(3, 3, |row, column| if row == column { variances[row] } else { 0.0 });
        Gaussian { mean: mean.to_vec(), covariance }
    }

    #[test]
    fn diagonal_gaussians_have_a_closed_form() {
        let (first, second) =
            (diagonal([1.0, 2.0, -1.0], [4.0, 1.0, 0.25]), diagonal([0.0, 2.5, -1.0], [1.0, 9.0, 0.0]));
        // Σ (μ₁ − μ₂)² + Σ (σ₁ − σ₂)²
        let expected = 1.0 + 0.25 + (2.0f64 - 1.0).powi(2) + (1.0f64 - 3.0).powi(2) + 0.25;
        let distance = frechet_distance(&first, &second).unwrap();
        assert!((distance - expected).abs() < 1e-12, "{distance} instead of {expected}");
        assert!((frechet_distance(&second, &first).unwrap() - expected).abs() < 1e-12);
        assert!(frechet_distance(&first, &first).unwrap().abs() < 1e-12);
    }

    #[test]
    fn rotations_of_both_change_nothing() {
        let (a, b) = (diagonal([0.0; 3], [4.0, 1.0, 0.25]), diagonal([0.0; 3], [1.0, 9.0, 2.0]));
        let (sin, cos) = 0.7f64.sin_cos();
        let rotation = faer::mat![[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]];
        let rotated = |gaussian: &Gaussian| Gaussian {
            mean: gaussian.mean.clone(),
            covariance: &rotation * &gaussian.covariance * rotation.transpose(),
        };
        let (expected, found) =
            (frechet_distance(&a, &b).unwrap(), frechet_distance(&rotated(&a), &rotated(&b)).unwrap());
        assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
        // Different rotations do change it.
        assert!((frechet_distance(&rotated(&a), &b).unwrap() - expected).abs() > 1e-3);
    }

    #[test]
    fn gaussian_of_samples_is_theirs() {
        let mut rng = StdRng::seed_from_u64(1);
        let normal = |rng: &mut StdRng| -> f64 { StandardNormal.sample(rng) };
        let rows: Vec<Vec<f64>> =
            (0..20_000).map(|_| vec![3.0 + 2.0 * normal(&mut rng), normal(&mut rng) - 1.0]).collect();
        let Gaussian { mean, covariance } = Gaussian::of(&rows).unwrap();
        // Four standard errors of 20,000 samples.
        assert!((mean[0] - 3.0).abs() < 0.06 && (mean[1] + 1.0).abs() < 0.03, "{mean:?}");
        assert!((covariance[(0, 0)] - 4.0).abs() < 0.16 && (covariance[(1, 1)] - 1.0).abs() < 0.04);
        assert!(covariance[(0, 1)].abs() < 0.06 && covariance[(0, 1)] == covariance[(1, 0)]);
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        assert_eq!(Gaussian::of(&[vec![1.0]]).unwrap_err(), FrechetError::Images { images: 1 });
        let gaussian = |rows: [[f64; 2]; 2]| Gaussian::of(&rows.map(|row| row.to_vec()));
        assert_eq!(gaussian([[1.0, f64::NAN], [0.0, 0.0]]).unwrap_err(), FrechetError::NotFinite);
        let error = frechet_distance(&gaussian([[1.0, 2.0], [0.0, 0.0]]).unwrap(), &diagonal([0.0; 3], [1.0; 3]));
        assert_eq!(error.unwrap_err(), FrechetError::Features { first: 2, second: 3 });
    }

    #[test]
    fn centred_images_can_be_normalised_for_a_classifier() {
        let set = synthetic::generate(1, 1, 3);
        let images = |set: &ImageSet| {
            let items = set.train.get_many(vec![0, 3]).unwrap();
            ImageBatcher::evaluation(set).batch(items, &Device::flex()).images
        };
        let expected = images(&set).into_data();
        let normalization = set.normalization.clone();
        let centred = images(&centred(set));
        assert!(centred.to_data().iter::<f32>().all(|value| (-1.0..=1.0).contains(&value)));
        // Differences of numbers up to 1, divided by deviations of a tenth and more.
        to_normalized(centred, &normalization)
            .into_data()
            .assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
    }
}
