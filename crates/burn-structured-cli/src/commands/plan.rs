//! `burn-structured plan`: a dry run that says what becomes of each layer.

use super::Answer;
use crate::arguments::{DeviceArgument, TextArguments};
use crate::context::Context;
use crate::failure::{Failure, check_writable};
use crate::format::{bytes, count, percent};
use crate::model::{Model, cannot_run, open, with_decoder};
use crate::statistics::{Samples, observe};
use crate::table::Table;
use burn::tensor::Device;
use burn_structured_checkpoint::{Checkpoint, linears};
use burn_structured_compress::calibrate::Calibrator;
use burn_structured_compress::pipeline::PipelineError;
use burn_structured_compress::plan::{self, Change, Pattern, Plan, PlanConfig, PlanProgress, PlanTable, sensitivities};
use burn_structured_nn::{BlockModel, Structure};
use burn_structured_train::device;
use clap::{ArgGroup, Args, ValueEnum, ValueHint};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Choose a structure and a rank for each layer, without compressing anything
///
/// Every layer keeps the same share of its weights, in the structure of the least error if several are offered. With
/// --allocation the error of each layer is measured at several ranks, and the ranks are chosen so that the sum of errors
/// is smallest at the wanted size. With --text or --calibration the errors are those of the layers' outputs. The plan is
/// a TOML file of ordered rules, pattern to structure or `keep`, of which the first that matches a layer's name counts;
/// edit it as you like, and look at it again with --show.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("what").args(["target_params", "show"]).required(true)), after_help = "\
Examples:
  burn-structured plan all-MiniLM-L6-v2 --target-params 0.5 --text lines.txt -o plan.toml
  burn-structured plan all-MiniLM-L6-v2 --target-params 0.5 --structure blast:b=6 \\
    --structure low-rank --skip 'layer\\.0\\.' -o plan.toml
  burn-structured plan model.safetensors --target-params 0.3 --calibration stats.safetensors
  burn-structured plan gpt2 --target-params 0.5 --text lines.txt --allocation effect -o plan.toml
  burn-structured plan all-MiniLM-L6-v2 --show plan.toml")]
pub struct Arguments {
    /// A model folder, a safetensors file, or the index of several
    #[arg(value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    model: PathBuf,
    /// Share of the planned layers' weights to keep, between 0 and 1
    #[arg(long, value_name = "SHARE", value_parser = share)]
    target_params: Option<f64>,
    /// Structures to choose from, without a rank, which follows from --target-params: blast:b=6, low-rank, monarch:b=4; repeat it for
    /// several
    #[arg(long, value_name = "STRUCTURE", default_value = "blast", value_parser = open_structure)]
    structure: Vec<Structure>,
    /// Which layers keep more of their weights than others
    #[arg(long, value_enum, value_name = "NAME", default_value_t = Allocation::Uniform)]
    allocation: Allocation,
    /// Keep layers dense whose names match this regular expression, and do not count them; repeat it for several
    #[arg(long, value_name = "REGEX")]
    skip: Vec<Pattern>,
    /// Statistics of the layers' inputs, from `calibrate`: errors are then those of the outputs
    #[arg(long, value_name = "STATS", value_hint = ValueHint::FilePath)]
    calibration: Option<PathBuf>,
    #[command(flatten)]
    text: TextArguments,
    /// Show what this plan makes of the model instead of making one
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath,
        conflicts_with_all = ["structure", "allocation", "skip", "calibration", "text", "output"])]
    show: Option<PathBuf>,
    /// Write the plan to this file
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// Replace an earlier plan, edited or not
    #[arg(long, requires = "output")]
    force: bool,
    #[command(flatten)]
    device: DeviceArgument,
}

/// How a number of weights is distributed over the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Allocation {
    /// None: every layer keeps the same share
    Uniform,
    /// Those with the largest errors
    Error,
    /// Those whose errors change the model's output most on --text
    Effect,
}

/// A structure whose size is left open.
fn open_structure(text: &str) -> Result<Structure, String> {
    let structure: Structure = text.parse().map_err(|error| format!("{error}"))?;
    let settings = text.split_once(':').map_or("", |(_, settings)| settings).split(',');
    let sizes =
        settings.filter(|setting| setting.split('=').next().is_some_and(|key| ["r", "ratio"].contains(&key.trim())));
    match sizes.map(str::trim).next() {
        Some(size) => Err(format!("leave out {size}: --target-params decides it; a plan written by hand may have it")),
        None => Ok(structure),
    }
}

/// A share above 0 and below 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share < 1.0 => Ok(share),
        _ => Err("give a number between 0 and 1, such as 0.5".into()),
    }
}

#[derive(Serialize)]
struct Report {
    model: String,
    /// The file that was written.
    output: Option<String>,
    /// The plan as TOML.
    plan: String,
    /// Rules that decide nothing, from 1.
    unused_rules: Vec<usize>,
    #[serde(flatten)]
    table: PlanTable,
}

/// The plan and what it makes of the model.
///
/// # Errors
///
/// If a file cannot be read or written, the target is out of reach, or a structure does not fit a layer.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Answer, Failure> {
    let checkpoint = open(&arguments.model)?;
    arguments.output.iter().try_for_each(|path| match path.exists() && !arguments.force {
        true => Err(PipelineError::Exists { path: path.clone() }.into()),
        false => check_writable(path),
    })?;
    let (plan, table) = match (&arguments.show, arguments.target_params) {
        (Some(path), _) => {
            let plan = Plan::load(path)?;
            let table = plan::table(&checkpoint, &plan).map_err(|error| in_file(path, error))?;
            if table.rows.iter().all(|row| row.structure.is_none()) {
                let model = arguments.model.display();
                let message = format!(
                    "no rule gives a layer of {model} a structure; `inspect --linears` lists the layers' names"
                );
                return Err(in_file(path, message));
            }
            (plan, table)
        }
        (None, Some(target)) => propose(arguments, target, &checkpoint, context)?,
        (None, None) => return Err(Failure::usage("give --target-params or --show")),
    };
    if let Some(path) = &arguments.output {
        plan.save(path)?;
    }
    let report = Report {
        model: arguments.model.display().to_string(),
        output: arguments.output.as_ref().map(|path| path.display().to_string()),
        plan: plan.to_toml(),
        unused_rules: plan.unused(&linears(&checkpoint)).into_iter().map(|rule| rule + 1).collect(),
        table,
    };
    Answer::new(text(&report), &report)
}

/// The error of a plan's file, which the plan itself does not know.
fn in_file(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

fn propose(
    arguments: &Arguments,
    target: f64,
    checkpoint: &Checkpoint,
    context: &Context,
) -> Result<(Plan, PlanTable), Failure> {
    let device = device::from_name(&arguments.device.device)?;
    context.handle_ctrl_c()?;
    let known = arguments.calibration.as_ref().map(|path| Calibrator::load(path)).transpose()?;
    let config = PlanConfig::new(target).with_structures(arguments.structure.clone()).with_skip(arguments.skip.clone());
    let effect = arguments.allocation == Allocation::Effect;
    let (config, calibration) = match (arguments.text.text.is_empty(), effect) {
        (true, true) => return Err(Failure::usage("--allocation effect is measured on text; give some with --text")),
        (true, false) => (config, known),
        (false, _) => {
            let regularization = config.regularization;
            let measurement = Measurement { arguments, checkpoint, device: &device, regularization, context };
            let (costs, statistics) = measurement.run(known)?;
            (config.with_sensitivities(costs), Some(statistics))
        }
    };
    let config = if arguments.allocation == Allocation::Uniform { config.uniform() } else { config };
    let progress = context.progress(1, "layers");
    let proposal = plan::propose(checkpoint, &config, calibration.as_ref(), &device, &mut |step| {
        progress.message(step.layer);
        progress.set_of(step.done, step.layers);
        context.flow()
    });
    let proposal = proposal.map_err(|error| context.interrupted_or(error, "nothing was written; start again"))?;
    Ok((proposal.plan, proposal.table))
}

/// What is measured on text.
struct Measurement<'a> {
    arguments: &'a Arguments,
    checkpoint: &'a Checkpoint,
    device: &'a Device,
    regularization: f64,
    context: &'a Context,
}

impl Measurement<'_> {
    /// What the layers' errors cost the model if that is wanted, and the statistics of its layers' inputs if they are
    /// not known.
    fn run(&self, known: Option<Calibrator>) -> Result<(BTreeMap<String, f64>, Calibrator), Failure> {
        let Self { arguments, checkpoint, device, .. } = self;
        match Model::load(checkpoint, device)? {
            Model::Encoder(encoder) => {
                let samples = Samples::sentences(&arguments.text, 0, &encoder, device)?;
                self.measure(&encoder.model, &samples, known)
            }
            Model::Language(model) => with_decoder!(&model, model => {
                let samples = Samples::windows(&arguments.text, 0, checkpoint, &**model, device)?;
                self.measure(&**model, &samples, known)
            }),
            Model::Other => Err(cannot_run(checkpoint, "plan --text")),
        }
    }

    fn measure<M: BlockModel>(
        &self,
        model: &M,
        samples: &Samples<M>,
        known: Option<Calibrator>,
    ) -> Result<(BTreeMap<String, f64>, Calibrator), Failure> {
        let Self { arguments, context, .. } = self;
        let statistics = match known {
            Some(statistics) => statistics,
            None => observe(model, &samples.calibration, context)?,
        };
        if arguments.allocation != Allocation::Effect {
            return Ok((BTreeMap::new(), statistics));
        }
        let progress = context.progress(1, "steps");
        progress.message("measuring what errors cost");
        let observer = &mut |step: PlanProgress<'_>| {
            progress.set_of(step.done, step.layers);
            context.flow()
        };
        let found = sensitivities(model, &samples.held_out, Some(&statistics), self.regularization, observer);
        let found = found.map_err(|error| context.interrupted_or(error, "nothing was written; start again"))?;
        Ok((found, statistics))
    }
}

fn text(report: &Report) -> String {
    let mut table = Table::new(&["layer", "structure", ">params", "", ">FLOPs/token", "", ">bytes", "", ">error"]);
    for row in &report.table.rows {
        let change = Change { before: row.before, after: row.after };
        let structure = row.structure.map_or_else(|| "keep".to_string(), |structure| structure.to_string());
        let error = row.predicted_error.map_or_else(String::new, |error| format!("{error:.3}"));
        table.row(line(&row.layer, structure, &change, error));
    }
    let totals = &report.table.totals;
    for (name, change) in
        [("replaced layers", totals.replaced), ("all linear layers", totals.linear), ("the whole file", totals.file)]
    {
        table.row(line(name, percent(change.after.params as u64, change.before.params as u64), &change, String::new()));
    }
    let unused: Vec<String> = report.unused_rules.iter().map(usize::to_string).collect();
    let mut text = table.to_string();
    if !unused.is_empty() {
        text += &format!("\nunused rules, whose patterns decide nothing: {}\n", unused.join(", "));
    }
    if let Some(output) = &report.output {
        text += &format!("\nwrote {output}\n");
    }
    text
}

fn line(name: &str, structure: String, change: &Change, error: String) -> [String; 9] {
    let Change { before, after } = *change;
    let to = |after: String| format!("→ {after}");
    [
        name.to_string(),
        structure,
        count(before.params as u64),
        to(count(after.params as u64)),
        count(before.flops_per_token as u64),
        to(count(after.flops_per_token as u64)),
        bytes(before.bytes as u64),
        to(bytes(after.bytes as u64)),
        error,
    ]
}
