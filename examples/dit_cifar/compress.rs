//! The dense model with its layers approximated, and retrained.

use crate::progress::progress;
use crate::quality::Judge;
use crate::{Session, describe};
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::Dataset;
use burn_structured::compress::approximate;
use burn_structured::compress::calibrate::Calibrator;
use burn_structured::compress::factorize::FactorizerConfig;
use burn_structured::models::dit::Dit;
use burn_structured::nn::{Structure, StructuredLinear, layer_paths};
use burn_structured::train::comparison::DiffusionRow;
use burn_structured::train::data::ImageBatcher;
use burn_structured::train::diffusion::{
    DiffusionRecipe, DiffusionSettings, ImageGrid, NoiseSchedule, gaussian, save_diffusion, train_dit,
};
use burn_structured::train::training::RunFolder;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::error::Error;

/// Share of the identity in the second moment of a layer's inputs.
const REGULARIZATION: f64 = 0.01;

/// What to compress to; a structure that fits no model, or an earlier run of it, is reported before there is a model.
pub fn structures(session: &Session) -> Result<Vec<Structure>, Box<dyn Error>> {
    let Some(named) = &session.arguments.compress else { return Ok(Vec::new()) };
    let structures: Vec<Structure> = named.0.iter().map(|named| named.or_ratio(0.5)).collect();
    for structure in &structures {
        RunFolder::of_structure(&session.arguments.out, *structure).check(session.arguments.start())?;
    }
    if session.arguments.init.is_none() {
        for structure in &structures {
            session.arguments.model(&session.set).with_structure(*structure).try_init(&session.device)?;
        }
    }
    Ok(structures)
}

/// The figures and images of a structure.
pub struct Compressed {
    pub row: DiffusionRow,
    /// Images of the compressed model and, with retraining, of the retrained one.
    pub grids: Vec<ImageGrid>,
}

/// Compresses the dense model, measures it and retrains it; `None` if Ctrl-C stopped it.
pub fn run(
    session: &Session,
    judge: &Judge,
    dense: &Dit,
    settings: &DiffusionSettings,
    structure: Structure,
) -> Result<Option<Compressed>, Box<dyn Error>> {
    let recipe = &settings.recipe;
    let (model, layer_error) = compress(session, dense, recipe, structure)?;
    let mut grids = vec![judge.grid(session, &model, recipe, &format!("sampling {structure}"))?];
    let compressed = judge.measure(session, &model, recipe)?;
    describe(&format!("{structure} compressed"), compressed);
    let mut row = DiffusionRow {
        structure,
        cost: model.cost().into(),
        layer_error,
        compressed,
        retrained: None,
        retraining_steps: 0,
        retraining_seconds: 0.0,
    };
    let folder = RunFolder::of_structure(&session.arguments.out, structure);
    let mut settings =
        DiffusionSettings { model: settings.model.clone().with_structure(structure), ..settings.clone() };
    let mut model = model;
    if session.arguments.retrain > 0 {
        let steps = session.arguments.retrain;
        let retraining = DiffusionRecipe {
            steps,
            lr: session.arguments.retrain_lr,
            warmup: steps / 10,
            batch_size: session.arguments.batch_size,
            seed: session.arguments.seed,
            ..recipe.clone()
        };
        let trained = session.watch(&format!("retraining {structure}"), steps, |progress| {
            train_dit(model, &session.set, &retraining, progress)
        })??;
        if trained.stopped {
            return Ok(None);
        }
        model = trained.model;
        settings.recipe = retraining;
        grids.push(judge.grid(session, &model, recipe, &format!("sampling {structure}"))?);
        let retrained = judge.measure(session, &model, recipe)?;
        describe(&format!("{structure} retrained"), retrained);
        row.retrained = Some(retrained);
        row.retraining_steps = steps;
        row.retraining_seconds = trained.steps.last().map_or(0.0, |step| step.seconds);
    }
    save_diffusion(model, &settings, &folder, session.arguments.start())?;
    ImageGrid::concat_horizontally(&grids).save(&folder.path().join("samples.png"))?;
    Ok(Some(Compressed { row, grids }))
}

/// The model with all layers that take a structure approximated on the inputs they see, and the mean of their relative errors.
fn compress(
    session: &Session,
    dense: &Dit,
    recipe: &DiffusionRecipe,
    structure: Structure,
) -> Result<(Dit, f64), Box<dyn Error>> {
    if let Some((name, _)) = dense.linears().find(|(_, layer)| !matches!(layer, StructuredLinear::Dense(_))) {
        return Err(format!("{name} is not dense; compress the dense model").into());
    }
    let moments = calibrate(session, dense, recipe)?;
    let (paths, settings) = (layer_paths(dense), FactorizerConfig::new());
    let mut model = dense.clone();
    let layers: Vec<_> = model.linears_mut().collect();
    let (bar, mut errors) = (progress(layers.len(), "layers")?, Vec::new());
    for (name, slot) in layers {
        bar.set_message(format!("{structure} {name}"));
        if let (StructuredLinear::Dense(linear), true) = (&*slot, structure != Structure::Dense) {
            let moment = paths.get(&linear.weight.id).and_then(|path| moments.moment(path));
            let moment = moment.map(|moment| moment.regularized(REGULARIZATION));
            let bias = linear.bias.as_ref().map(|bias| bias.val());
            let found = approximate(structure, slot.to_dense(), bias, moment.as_ref(), &settings);
            let found = found.map_err(|error| format!("{name}: {error}"))?;
            errors.push(found.relative_error);
            *slot = found.layer;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok((model, errors.iter().sum::<f64>() / errors.len().max(1) as f64))
}

/// The second moments of the inputs of all layers, on noisy training images at random times.
fn calibrate(session: &Session, model: &Dit, recipe: &DiffusionRecipe) -> Result<Calibrator, Box<dyn Error>> {
    let (set, mut rng) = (&session.set, StdRng::seed_from_u64(session.arguments.seed));
    let schedule = NoiseSchedule::new(recipe.schedule, recipe.times);
    let (batcher, mut calibrator) = (ImageBatcher::evaluation(set), Calibrator::new());
    let chosen: Vec<usize> = (0..session.arguments.calibration).map(|_| rng.random_range(0..set.train.len())).collect();
    let bar = progress(chosen.len(), "images")?;
    bar.set_message("calibrating");
    for batch in chosen.chunks(session.arguments.batch_size.max(1)) {
        let Ok(items) = set.train.get_many(batch.to_vec()) else { return Err("the images cannot be read".into()) };
        let classes: Vec<usize> = items.iter().map(|item| item.label).collect();
        let times: Vec<usize> = classes.iter().map(|_| rng.random_range(0..schedule.steps())).collect();
        let images = batcher.batch(items, &session.device).images;
        let noise = gaussian(images.dims(), &mut rng, &session.device);
        let noisy = schedule.add_noise(images, noise, &times);
        let times: Vec<f64> = times.into_iter().map(|time| time as f64).collect();
        calibrator.record(model, || model.forward(noisy, &times, &classes))?;
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    Ok(calibrator)
}
