//! One run, or a comparison of several.

use crate::Session;
use crate::arguments::all;
use crate::sample::Sampling;
use burn::module::Module;
use burn_structured::models::decoder::{DecoderCost, LayerRules};
use burn_structured::models::gpt2::Gpt2;
use burn_structured::train::comparison::{LanguageReport, LanguageRow, SeedRun};
use burn_structured::train::language::{
    LanguageResult, LanguageSettings, Launch, best_learning_rate, search_learning_rate, train_language,
};
use burn_structured::train::training::{RunFolder, Start};
use std::error::Error;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

/// The weights of an exported model.
const WEIGHTS: &str = "model.safetensors";

/// A run that Ctrl-C stopped has no result.
type Stopped<T> = Result<Option<T>, Box<dyn Error>>;

pub fn run(session: &Session) -> Result<ExitCode, Box<dyn Error>> {
    let arguments = &session.arguments;
    let compared = all(&arguments.model.compare);
    let structures = match &session.initial {
        Some(initial) => vec![initial.structures()?],
        None if compared.is_empty() => vec![arguments.model.structure.clone()],
        None => compared,
    };
    let seeds = &arguments.training.seeds;
    let several = !arguments.model.compare.is_empty() || seeds.len() > 1;
    check_folders(&structures)?;
    let sampling = Sampling::new(session)?;
    let root = |rules: &LayerRules| match several {
        true => arguments.run.out.join(folder_name(rules)),
        false => arguments.run.out.clone(),
    };
    let folder = |rules: &LayerRules, seed: u64| match seeds.len() {
        1 => RunFolder::new(root(rules)),
        _ => RunFolder::new(root(rules).join(format!("seed-{seed}"))),
    };
    // Report a structure that does not fit, or an earlier run, before the first one has been trained for an hour.
    for rules in &structures {
        for seed in seeds {
            folder(rules, *seed).check(session.start)?;
        }
        let settings = session.settings(rules, seeds[0])?;
        let model = settings.model.try_init(&session.devices[0])?;
        settings.recipe.check_for(&model.factors(), session.devices.len())?;
        println!("{rules}: {}", describe(&model.cost()));
    }

    let first = session.settings(&structures[0], seeds[0])?;
    let mut report = LanguageReport {
        data: session.corpus.data.name.clone(),
        tokenizer: session.corpus.data.tokenizer.clone(),
        train_tokens: session.corpus.data.train.len(),
        validation_tokens: 0,
        context: first.model.context,
        stride: first.recipe.eval_stride,
        devices: arguments.run.devices.clone(),
        recipe: first.recipe,
        rows: Vec::new(),
    };
    for rules in &structures {
        let Some(lr) = session.learning_rate(rules, &root(rules))? else { return Ok(interrupted(None)) };
        let mut runs = Vec::new();
        for seed in seeds {
            let folder = folder(rules, *seed);
            let mut settings = session.settings(rules, *seed)?;
            settings.recipe.min_lr *= lr / settings.recipe.lr;
            settings.recipe.lr = lr;
            let Some(result) = session.train(&settings, &folder, sampling.clone())? else {
                return Ok(interrupted(Some(&folder)));
            };
            report.validation_tokens = result.validation.tokens;
            runs.push(SeedRun {
                seed: *seed,
                loss: result.validation.loss,
                perplexity: result.validation.perplexity,
                training_tokens_per_second: result.training_tokens_per_second,
                inference_tokens_per_second: result.validation.tokens_per_second,
            });
        }
        let cost = session.settings(rules, seeds[0])?.model.try_init(&session.devices[0])?.cost();
        report.rows.push(LanguageRow { structures: rules.clone(), lr, runs, cost: cost.into() });
    }

    println!("\n{report}");
    if several {
        let [json, svg] = report.save(&arguments.run.out)?;
        println!("saved {} and {}", json.display(), svg.display());
    } else {
        finish(session, &arguments.run.out, sampling)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Session {
    fn settings(&self, rules: &LayerRules, seed: u64) -> Result<LanguageSettings, Box<dyn Error>> {
        let arguments = &self.arguments;
        let model = match &self.initial {
            Some(initial) => {
                initial.model.config()?.with_structures(rules.clone()).with_dropout(arguments.model.dropout)
            }
            None => arguments.model.config(self.corpus.data.vocab_size, rules.clone()),
        };
        Ok(LanguageSettings {
            recipe: arguments.training.recipe(model.context, seed)?,
            model,
            initial: self.initial.as_ref().map(|initial| initial.folder.display().to_string()),
            dataset: self.corpus.data.name.clone(),
            tokenizer: self.corpus.data.tokenizer.clone(),
            train_tokens: self.corpus.data.train.len(),
            validation_tokens: self.corpus.data.validation.len(),
        })
    }

    fn launch(&self, folder: &RunFolder) -> Launch {
        let launch = Launch::new(self.devices[0].clone(), folder.clone())
            .with_devices(self.devices.clone())
            .with_distributed(self.arguments.run.ddp)
            .with_start(self.start)
            .with_interrupter(self.interrupter.clone());
        match &self.initial {
            Some(initial) => launch.with_initial(initial.model.clone()),
            None => launch,
        }
    }

    /// The learning rate of a structure: the best of `--lr-search`, or `--lr`.
    fn learning_rate(&self, rules: &LayerRules, root: &Path) -> Stopped<f64> {
        let training = &self.arguments.training;
        let settings = self.settings(rules, training.seeds[0])?;
        if training.lr_search.is_empty() {
            return Ok(Some(settings.recipe.lr));
        }
        eprintln!("\nsearching the learning rate of {rules} in {}", root.display());
        let steps = training.search_steps.unwrap_or(settings.recipe.steps.div_ceil(3));
        let launch = self.launch(&RunFolder::new(root));
        let Some(trials) = search_learning_rate(&settings, &self.corpus.data, &launch, &training.lr_search, steps)?
        else {
            return Ok(None);
        };
        for trial in &trials {
            println!("{rules}, lr {}: loss {:.4} on held-out training text", trial.lr, trial.loss);
        }
        Ok(Some(best_learning_rate(&trials).unwrap_or(settings.recipe.lr)))
    }

    /// Trains in `folder` and saves the model there; a run that is finished already is not repeated with `--resume`.
    fn train(
        &self,
        settings: &LanguageSettings,
        folder: &RunFolder,
        sampling: Option<Sampling>,
    ) -> Stopped<LanguageResult> {
        if self.start == Start::Resume
            && let Some(result) = folder.finished(settings)?
        {
            if !folder.path().join(WEIGHTS).exists() {
                self.export(settings, folder)?;
            }
            return Ok(Some(result));
        }
        // The model of an earlier run is not that of this one.
        if folder.path().join("settings.json").exists() {
            remove(&folder.path().join(WEIGHTS))?;
        }
        eprintln!(
            "\ntraining {} with seed {} in {}",
            settings.model.structures,
            settings.recipe.seed,
            folder.path().display()
        );
        let mut launch = self.launch(folder);
        if let Some(sampling) = sampling {
            launch = launch.with_after_evaluation(move |step, model| match sampling.of(model) {
                Ok(text) => eprintln!("sample after step {step}: {text}\n"),
                Err(error) => eprintln!("no sample after step {step}: {error}"),
            });
        }
        let Some(result) = train_language(settings, &self.corpus.data, &launch)? else { return Ok(None) };
        self.export(settings, folder)?;
        Ok(Some(result))
    }

    /// Saves the weights of a finished run in the Hugging Face layout, with the tokenizer.
    fn export(&self, settings: &LanguageSettings, folder: &RunFolder) -> Result<(), Box<dyn Error>> {
        let (model, path) = (settings.model.try_init(&self.devices[0])?, folder.model());
        let model = model.try_load_file(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Ok(model.save_folder(folder.path(), Some(&self.corpus.tokenizer))?)
    }
}

fn remove(path: &Path) -> Result<(), Box<dyn Error>> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", path.display()).into())
        }
        _ => Ok(()),
    }
}

fn describe(cost: &DecoderCost) -> String {
    format!(
        "{:.2} M parameters, {:.2} M FLOPs/token, {:.0} % of the dense linear layers' FLOPs",
        cost.params as f64 / 1e6,
        cost.model_flops() as f64 / 1e6,
        100.0 * cost.replaced.flops_ratio()
    )
}

/// The last words of a single run: a sample, and where everything is.
fn finish(session: &Session, out: &Path, sampling: Option<Sampling>) -> Result<(), Box<dyn Error>> {
    if let Some(sampling) = sampling {
        let model = Gpt2::from_folder(out, &session.devices[0])?;
        println!("sample: {}\n", sampling.of(&model)?);
    }
    println!("model, tokenizer, losses and result: {}", out.display());
    println!(
        "continue a text with it: cargo run --release --features compress,tokenizers --example generate -- --model {} --prompt 'The' --slide",
        out.display()
    );
    Ok(())
}

/// The name of the folder of these structures: `blast-b-4-ratio-0.33`.
pub fn folder_name(rules: &LayerRules) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '-' };
    rules.to_string().chars().map(safe).collect()
}

/// # Errors
///
/// If two structures would share a folder.
pub fn check_folders(structures: &[LayerRules]) -> Result<(), Box<dyn Error>> {
    for (index, rules) in structures.iter().enumerate() {
        if let Some(other) = structures[..index].iter().find(|other| folder_name(other) == folder_name(rules)) {
            return Err(format!(
                "`{other}` and `{rules}` would share the folder {}; give them apart",
                folder_name(rules)
            )
            .into());
        }
    }
    Ok(())
}

/// Says how to go on after Ctrl-C; `folder` has the weights, unless it was a trial.
fn interrupted(folder: Option<&RunFolder>) -> ExitCode {
    match folder {
        Some(folder) => {
            println!("\ninterrupted; the weights as they were are in {}", folder.interrupted_model().display())
        }
        None => println!("\ninterrupted while searching the learning rate"),
    }
    println!("continue after the last checkpoint by adding --resume to the same command");
    ExitCode::from(130)
}
