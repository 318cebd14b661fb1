//! Trains a small diffusion transformer on CIFAR-10, samples images from it, and compresses it.
//!
//! ```text
//! cargo run --release --features compress --example dit_cifar
//! cargo run --release --features compress --example dit_cifar -- --compress blast:b=4,ratio=0.5,low-rank:ratio=0.5 --retrain 300
//! cargo run --release --features compress --example dit_cifar -- --init runs/dit_cifar --out runs/dit_monarch --compress monarch:b=4,ratio=0.5 --retrain 300
//! ```
//!
//! The images come from `--data-dir`, else from the cache folder, else from the web; with none of them the example runs
//! on a built-in synthetic set, and says so on every output.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod arguments;
mod compress;
mod quality;

#[path = "../shared/ctrl_c.rs"]
mod ctrl_c;
#[path = "../shared/images.rs"]
mod images;
#[path = "../shared/progress.rs"]
mod progress;
#[path = "../shared/structures.rs"]
mod structures;

use arguments::Arguments;
use burn::tensor::Device;
use burn_structured::models::dit::Dit;
use burn_structured::train::comparison::{DiffusionQuality, DiffusionReport, ModelCost};
use burn_structured::train::data::ImageSet;
use burn_structured::train::device;
use burn_structured::train::diffusion::{
    DiffusionSettings, DiffusionStep, ImageGrid, centred, load_diffusion, run_diffusion,
};
use burn_structured::train::training::{Interrupter, RunFolder};
use clap::Parser;
use mimalloc::MiMalloc;
use quality::Judge;
use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps the pages of freed tensors for the next ones of their size, where the system's takes them back at every step.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What all parts of the program use.
struct Session {
    arguments: Arguments,
    set: ImageSet,
    device: Device,
    interrupter: Interrupter,
}

impl Session {
    /// Trains under a bar with this message, until Ctrl-C.
    fn watch<R>(
        &self,
        message: &str,
        steps: usize,
        train: impl FnOnce(&mut dyn FnMut(&DiffusionStep) -> ControlFlow<()>) -> R,
    ) -> Result<R, Box<dyn Error>> {
        let bar = progress::progress(steps, "steps")?;
        let mut mean = None;
        let result = train(&mut |step| {
            // An average over about the last fifty steps: single batches differ in their times.
            let last = *mean.get_or_insert(step.loss);
            let smooth = last + (step.loss - last) / (step.step.min(50) as f64);
            mean = Some(smooth);
            bar.set_message(format!("{message}  loss {smooth:.4}"));
            bar.set_position(step.step as u64);
            if self.interrupter.should_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        bar.finish_and_clear();
        Ok(result)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.arguments.out.join(name)
    }
}

/// The model to sample from.
struct Trained {
    model: Dit,
    name: String,
    settings: DiffusionSettings,
}

/// Trains the model or reads it; `None` if Ctrl-C stopped the training.
fn trained(session: &Session) -> Result<Option<Trained>, Box<dyn Error>> {
    let arguments = &session.arguments;
    if let Some(folder) = &arguments.init {
        let (model, settings) = load_diffusion(&RunFolder::new(folder), &session.device)?;
        let expected = [session.set.channels, session.set.height, session.set.width];
        if model.image_shape() != expected || model.null_class() != session.set.classes.len() {
            return Err(format!("{} was trained on other images than {}", folder.display(), session.set.name).into());
        }
        let name = folder.display().to_string();
        return Ok(Some(Trained { model, name, settings }));
    }
    let settings = DiffusionSettings {
        model: arguments.model(&session.set),
        recipe: arguments.recipe(),
        dataset: session.set.name.clone(),
        train_images: session.set.train.len(),
    };
    let folder = RunFolder::new(&arguments.out);
    eprintln!("training in {}", folder.path().display());
    let outcome = session.watch("training", settings.recipe.steps, |progress| {
        run_diffusion(&settings, &session.set, &session.device, &folder, arguments.start(), progress)
    })??;
    let Some((model, result)) = outcome else {
        println!("\ninterrupted; the weights as they were are in {}", folder.interrupted_model().display());
        return Ok(None);
    };
    println!(
        "trained {} steps in {:.0} s; noise error {:.4}",
        settings.recipe.steps, result.seconds, result.noise_error
    );
    Ok(Some(Trained { model, name: arguments.out.display().to_string(), settings }))
}

fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    arguments.check()?;
    let device = device::from_name(&arguments.device)?;
    let set = arguments.images.read(arguments.seed)?;
    let set = centred(set.limit(arguments.limit, Some(arguments.test_limit), arguments.seed));
    if set.train.is_empty() {
        return Err("there is no image to train on; raise --limit".into());
    }
    if set.height != set.width {
        return Err(format!("the images are {} x {}; a DiT takes square ones", set.height, set.width).into());
    }
    println!(
        "dataset: {} ({} training, {} test images, {} classes); device: {}",
        set.name,
        set.train.len(),
        set.test.len(),
        set.classes.len(),
        arguments.device
    );
    let session = Session { arguments, set, device, interrupter: Interrupter::new() };
    let structures = compress::structures(&session)?;
    ctrl_c::stop_on_ctrl_c(&session.interrupter)?;
    let judge = Judge::new(&session)?;
    let Some(Trained { model, name, settings }) = trained(&session)? else { return Ok(ExitCode::from(130)) };
    let recipe = &settings.recipe;
    if recipe.class_dropout == 0.0 && session.arguments.guidance != 1.0 {
        return Err("the model was trained with --class-dropout 0, so it has no class-free prediction to guide by; give --guidance 1".into());
    }
    let out = &session.arguments.out;
    std::fs::create_dir_all(out).map_err(|error| format!("cannot create {}: {error}", out.display()))?;
    let cost: ModelCost = model.cost().into();
    println!(
        "{:.2} M parameters, {:.1} M FLOPs for an image and a step, {:.0} % of the dense linear layers' FLOPs",
        cost.params as f64 / 1e6,
        cost.model_flops as f64 / 1e6,
        100.0 * cost.relative_flops
    );
    let grid = judge.grid(&session, &model, recipe, "sampling")?;
    grid.save(&session.path("samples.png"))?;
    println!(
        "samples: {} (each row: classes {})",
        session.path("samples.png").display(),
        session.set.classes.join(", ")
    );
    let dense = judge.measure(&session, &model, recipe)?;
    describe("not compressed", dense);
    if structures.is_empty() {
        println!("weights: {}", RunFolder::new(&session.arguments.out).model().display());
        return Ok(ExitCode::SUCCESS);
    }
    let mut report = DiffusionReport {
        model: name,
        dataset: session.set.name.clone(),
        test_images: session.set.test.len(),
        frechet_images: judge.frechet_images(),
        device: session.arguments.device.clone(),
        dense,
        dense_cost: cost,
        rows: Vec::new(),
    };
    let mut grids = vec![grid];
    for structure in structures {
        let Some(found) = compress::run(&session, &judge, &model, &settings, structure)? else {
            println!("\ninterrupted while retraining {structure}; the models before it are saved");
            return Ok(ExitCode::from(130));
        };
        report.rows.push(found.row);
        grids.extend(found.grids);
    }
    ImageGrid::concat_horizontally(&grids).save(&session.path("comparison.png"))?;
    println!("\n{report}");
    let [json, svg] = report.save(&session.arguments.out)?;
    println!("saved {} and {}", json.display(), svg.display());
    let order = if session.arguments.retrain > 0 { ", each compressed and then retrained" } else { "" };
    println!(
        "saved {} (not compressed, then the structures in order{order}, from the same noise)",
        session.path("comparison.png").display()
    );
    Ok(ExitCode::SUCCESS)
}

/// The line about one model.
fn describe(name: &str, quality: DiffusionQuality) {
    let distance = quality.frechet_distance_on_vit_features;
    let distance =
        distance.map_or(String::new(), |distance| format!(", Fréchet distance on ViT features {distance:.3}"));
    println!("{name}: noise error {:.4}{distance}", quality.noise_error);
}

fn main() -> ExitCode {
    run(Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
