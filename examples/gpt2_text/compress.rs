//! A dense model compressed to several structures, and each of them retrained.

use crate::arguments::all;
use crate::progress::progress;
use crate::train::{check_folders, folder_name};
use crate::{Initial, Session};
use burn::tensor::{Int, Tensor, TensorData};
use burn_structured::compress::approximate;
use burn_structured::compress::calibrate::Calibrator;
use burn_structured::compress::factorize::FactorizerConfig;
use burn_structured::models::decoder::LayerRules;
use burn_structured::models::gpt2::{Gpt2, linear_names};
use burn_structured::nn::{Structure, StructuredLinear, layer_paths};
use burn_structured::train::comparison::{RetrainingReport, RetrainingRow};
use burn_structured::train::language::{Evaluation, Parameters, RetrainConfig, Retrained, perplexity, retrain};
use std::error::Error;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Share of the identity in the second moment of a layer's inputs.
const REGULARIZATION: f64 = 0.01;

/// Time between two lines about the retraining.
const INTERVAL: Duration = Duration::from_secs(10);

pub fn run(session: &Session, dense: &Initial) -> Result<ExitCode, Box<dyn Error>> {
    let arguments = &session.arguments;
    let structures = all(&arguments.compression.compress);
    check_folders(&structures)?;
    let depth = dense.model.blocks.len();
    for rules in &structures {
        rules.check(depth, linear_names)?;
    }
    if let Some((name, _)) = dense.model.linears().find(|(_, layer)| !matches!(layer, StructuredLinear::Dense(_))) {
        return Err(format!("{name} of {} is not dense; compress the dense model", dense.folder.display()).into());
    }
    let config = retrain_config(session, dense)?;
    let before = evaluate(session, &dense.model)?;
    println!("dense: perplexity {:.3} of {} tokens", before.perplexity, before.tokens);
    let (moments, calibration_tokens) = calibrate(session, &dense.model)?;

    let mut report = RetrainingReport {
        model: dense.folder.display().to_string(),
        data: session.corpus.data.name.clone(),
        calibration_tokens,
        retraining: describe(session, config.as_ref()),
        validation_tokens: before.tokens,
        context: dense.model.context(),
        stride: arguments.training.recipe(dense.model.context(), 0)?.eval_stride,
        device: arguments.run.devices[0].clone(),
        dense: before.perplexity,
        dense_cost: dense.model.cost().into(),
        rows: Vec::new(),
    };
    for rules in &structures {
        let began = Instant::now();
        let (mut model, layer_error) = compress(session, &dense.model, rules, &moments)?;
        let compression_seconds = began.elapsed().as_secs_f64();
        let compressed = evaluate(session, &model)?.perplexity;
        println!("{rules}: perplexity {compressed:.3} after compression");
        let mut row = RetrainingRow {
            structures: rules.clone(),
            cost: model.cost().into(),
            layer_error,
            compressed,
            retrained: None,
            compression_seconds,
            retraining_seconds: 0.0,
            retraining_steps: 0,
        };
        if let Some(config) = &config {
            let retrained = retrain_one(session, model, &dense.model, rules, config)?;
            let Some(retrained) = retrained else { return Ok(interrupted()) };
            model = retrained.model;
            row.retraining_seconds = retrained.seconds;
            row.retraining_steps = retrained.steps.len();
            let perplexity = evaluate(session, &model)?.perplexity;
            println!("{rules}: perplexity {perplexity:.3} after retraining");
            row.retrained = Some(perplexity);
        }
        model.save_folder(arguments.run.out.join(folder_name(rules)), Some(&session.corpus.tokenizer))?;
        report.rows.push(row);
    }
    println!("\n{report}");
    let [json, svg] = report.save(&arguments.run.out)?;
    println!("saved {} and {}, and the models in folders beside them", json.display(), svg.display());
    Ok(ExitCode::SUCCESS)
}

fn interrupted() -> ExitCode {
    println!("\ninterrupted while retraining; the models before it are saved");
    ExitCode::from(130)
}

fn evaluate(session: &Session, model: &Gpt2) -> Result<Evaluation, Box<dyn Error>> {
    let recipe = session.arguments.training.recipe(model.context(), 0)?;
    let validation = &session.corpus.data.validation;
    Ok(perplexity(model, validation, model.context(), recipe.eval_stride, recipe.batch_size)?)
}

/// The second moments of the inputs of all layers, and the tokens they are from: windows spread evenly over the text.
fn calibrate(session: &Session, model: &Gpt2) -> Result<(Calibrator, usize), Box<dyn Error>> {
    let (tokens, context) = (&session.corpus.data.train, model.context());
    let windows = session.arguments.compression.calibration.min(tokens.len() / context);
    let bar = progress(windows, "windows")?;
    bar.set_message("calibrating");
    let mut calibrator = Calibrator::new();
    for window in 0..windows {
        let start = window * (tokens.len() - context) / windows.max(1);
        let ids: Vec<i32> =
            tokens.read(start..start + context, model.vocab_size())?.into_iter().map(|id| id as i32).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, context]), &model.device());
        calibrator.record(model, || model.features(ids))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok((calibrator, windows * context))
}

/// The dense model with its layers approximated, and the mean of their relative errors.
fn compress(
    session: &Session,
    dense: &Gpt2,
    rules: &LayerRules,
    moments: &Calibrator,
) -> Result<(Gpt2, f64), Box<dyn Error>> {
    let settings = FactorizerConfig::new().with_steps(session.arguments.compression.factorizer_steps);
    let (paths, depth) = (layer_paths(dense), dense.blocks.len());
    let mut model = dense.clone();
    let layers: Vec<_> = model.linears_mut().collect();
    let bar = progress(layers.len(), "layers")?;
    let (per_block, mut errors) = (layers.len() / depth, Vec::new());
    for (index, (name, slot)) in layers.into_iter().enumerate() {
        bar.set_message(name.clone());
        let structure = rules.structure_of(&name, index / per_block, depth);
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
    let mean = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
    Ok((model, mean))
}

/// How compressed models are retrained; `None` without `--retrain`.
fn retrain_config(session: &Session, dense: &Initial) -> Result<Option<RetrainConfig>, Box<dyn Error>> {
    let (compression, training) = (&session.arguments.compression, &session.arguments.training);
    let Some(budget) = compression.retrain else { return Ok(None) };
    let mut config = RetrainConfig {
        recipe: training.recipe(dense.model.context(), training.seeds[0])?,
        parameters: if compression.factors_only { Parameters::Factors } else { Parameters::All },
        cross_entropy: compression.cross_entropy,
        logits: compression.teacher,
        temperature: compression.temperature,
        hidden_states: compression.hidden,
        ..RetrainConfig::default()
    };
    budget.apply(&mut config, &dense.folder)?;
    Ok(Some(config))
}

fn describe(session: &Session, config: Option<&RetrainConfig>) -> String {
    let (Some(config), Some(budget)) = (config, session.arguments.compression.retrain) else {
        return "not retrained".into();
    };
    let what = if config.parameters == Parameters::Factors { "the factors" } else { "all parameters" };
    let time = config.seconds.map_or(String::new(), |seconds| format!(" ({seconds:.0} s)"));
    format!("{what} retrained for {budget}{time}")
}

/// `None` if Ctrl-C stopped it.
fn retrain_one(
    session: &Session,
    student: Gpt2,
    dense: &Gpt2,
    rules: &LayerRules,
    config: &RetrainConfig,
) -> Result<Option<Retrained>, Box<dyn Error>> {
    eprintln!("\nretraining {rules}");
    let mut printed = Instant::now();
    let teacher = config.needs_teacher().then_some(dense);
    let retrained = retrain(student, teacher, &session.corpus.data.train, config, |step| {
        if printed.elapsed() >= INTERVAL {
            eprintln!("step {}  {:.0} %  loss {:.4}  lr {:.1e}", step.step, 100.0 * step.progress, step.loss, step.lr);
            printed = Instant::now();
        }
        if session.interrupter.should_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    Ok((!session.interrupter.should_stop()).then_some(retrained))
}
