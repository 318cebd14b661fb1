//! Measures of a model: images, the noise error, and the Fréchet distance on ViT features.

use crate::Session;
use crate::progress::progress;
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::Dataset;
use burn::tensor::Tensor;
use burn_structured::models::dit::Dit;
use burn_structured::models::vit::{ViT, ViTConfig};
use burn_structured::train::comparison::DiffusionQuality;
use burn_structured::train::data::{CifarKind, ImageBatcher, Normalization};
use burn_structured::train::diffusion::{
    DiffusionRecipe, Gaussian, ImageGrid, NoiseSchedule, Sampling, features, frechet_distance, noise_error, sample,
};
use burn_structured::train::training::RunFolder;
use burn_structured::train::vision::RunSettings;
use std::error::Error;

pub struct Judge {
    frechet: Option<Frechet>,
}

/// A vision transformer, and its features of the test images.
struct Frechet {
    model: ViT,
    normalization: Normalization,
    test: Gaussian,
    images: usize,
}

impl Judge {
    pub fn new(session: &Session) -> Result<Self, Box<dyn Error>> {
        let Some(folder) = &session.arguments.features_from else { return Ok(Self { frechet: None }) };
        let (set, run) = (&session.set, RunFolder::new(folder));
        let settings: RunSettings<ViTConfig> = run.settings()?;
        let (image_size, channels) = (settings.model.image_size, settings.model.channels);
        if [channels, image_size, image_size] != [set.channels, set.height, set.width] {
            return Err(format!("{} was trained on images of another size", folder.display()).into());
        }
        if settings.dataset != set.name {
            let (folder, trained) = (folder.display(), &settings.dataset);
            return Err(format!(
                "{folder} was trained on {trained}, not on {}; give a run on the same images",
                set.name
            )
            .into());
        }
        // A run does not keep the constants of its images; those of CIFAR are known.
        let known = [CifarKind::Cifar10, CifarKind::Cifar100].into_iter().find(|kind| kind.name() == settings.dataset);
        let normalization = match known {
            Some(CifarKind::Cifar10) => Normalization::cifar10(),
            Some(CifarKind::Cifar100) => Normalization::cifar100(),
            None => Normalization::measure(set.train.pixels(), set.channels, set.height * set.width),
        };
        let model = run.load(settings.model.try_init(&session.device)?)?;
        let Ok(items) = set.test.get_many((0..set.test.len()).collect()) else {
            return Err("the test images cannot be read".into());
        };
        let images = ImageBatcher::evaluation(set).batch(items, &session.device).images;
        let test = Gaussian::of(&features(&model, images, &normalization, session.arguments.batch_size))?;
        Ok(Self { frechet: Some(Frechet { model, normalization, test, images: session.arguments.frechet_images }) })
    }

    /// Sampled images of a distance; 0 without one.
    pub fn frechet_images(&self) -> usize {
        self.frechet.as_ref().map_or(0, |frechet| frechet.images)
    }

    pub fn measure(
        &self,
        session: &Session,
        model: &Dit,
        recipe: &DiffusionRecipe,
    ) -> Result<DiffusionQuality, Box<dyn Error>> {
        let schedule = NoiseSchedule::new(recipe.schedule, recipe.times);
        let error = noise_error(model, &session.set, &schedule, session.arguments.batch_size, session.arguments.seed);
        let distance = match &self.frechet {
            None => None,
            Some(frechet) => {
                let classes: Vec<usize> = (0..frechet.images).map(|image| image % model.null_class()).collect();
                // Other noise than that of the grid.
                let sampling = session.arguments.sampling();
                let sampling = Sampling { seed: sampling.seed.wrapping_add(1), ..sampling };
                let images = sample_with_bar(session, model, recipe, &classes, &sampling, "sampling for the distance")?;
                let found = features(&frechet.model, images, &frechet.normalization, session.arguments.batch_size);
                Some(frechet_distance(&Gaussian::of(&found)?, &frechet.test)?)
            }
        };
        Ok(DiffusionQuality { noise_error: error, frechet_distance_on_vit_features: distance })
    }

    /// A column for each class, from the same noise for every model.
    pub fn grid(
        &self,
        session: &Session,
        model: &Dit,
        recipe: &DiffusionRecipe,
        message: &str,
    ) -> Result<ImageGrid, Box<dyn Error>> {
        let columns = model.null_class();
        let classes: Vec<usize> = (0..session.arguments.samples * columns).map(|image| image % columns).collect();
        let images = sample_with_bar(session, model, recipe, &classes, &session.arguments.sampling(), message)?;
        Ok(ImageGrid::new(images, columns))
    }
}

fn sample_with_bar(
    session: &Session,
    model: &Dit,
    recipe: &DiffusionRecipe,
    classes: &[usize],
    sampling: &Sampling,
    message: &str,
) -> Result<Tensor<4>, Box<dyn Error>> {
    let bar = progress(classes.len(), "images")?;
    bar.set_message(message.to_string());
    let schedule = NoiseSchedule::new(recipe.schedule, recipe.times);
    let images = sample(model, &schedule, classes, sampling, &session.device, |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    Ok(images)
}
