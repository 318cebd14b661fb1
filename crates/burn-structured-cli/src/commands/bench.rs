//! `burn-structured bench`: how fast models are, in turns on this machine.

use super::Answer;
use crate::arguments::DeviceArgument;
use crate::context::Context;
use crate::failure::Failure;
use crate::model::{Model, cannot_run, open, with_decoder};
use crate::table::Table;
use crate::text::at_least_one;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_structured_models::decoder::Decoder;
use burn_structured_models::decoder::generate::{GenerationConfig, generate_tokens};
use burn_structured_train::device;
use clap::{Args, ValueHint};
use serde::Serialize;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Measure latency and throughput of models side by side
///
/// The models take turns, pass for pass, so that all see the same machine; medians are printed. A sentence encoder's
/// latency is that of one sentence, its throughput that of a batch; for a language model a pass is the prefill of a prompt, and
/// the speed of generation is measured, too. Tokens are arbitrary: the time does not depend on them.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  burn-structured bench all-MiniLM-L6-v2 small
  burn-structured bench gpt2 gpt2-half gpt2-quarter --length 256 --seconds 20
  burn-structured bench all-MiniLM-L6-v2 small --json > speed.json")]
pub struct Arguments {
    /// Folder with the dense model, which the others are compared with
    #[arg(value_name = "DENSE", value_hint = ValueHint::AnyPath)]
    dense: PathBuf,
    /// Folders with compressed models
    #[arg(value_name = "COMPRESSED", required = true, value_hint = ValueHint::AnyPath)]
    compressed: Vec<PathBuf>,
    /// Tokens of a sentence or prompt [default: 64, or what the models have positions for]
    #[arg(long, value_name = "TOKENS", value_parser = at_least_one)]
    length: Option<usize>,
    /// Sentences or prompts of a batch
    #[arg(long, value_name = "NUMBER", default_value_t = 32, value_parser = at_least_one)]
    batch: usize,
    /// Time for each measurement of all models together
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = positive)]
    seconds: f64,
    #[command(flatten)]
    device: DeviceArgument,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds < 1e6 => Ok(seconds),
        _ => Err("give a number of seconds above 0".into()),
    }
}

/// Tokens of a sentence unless the models or the user say otherwise.
const LENGTH: usize = 64;

/// Tokens that a language model generates in one pass.
const GENERATED: usize = 16;

#[derive(Serialize)]
struct Report {
    device: String,
    length: usize,
    measurements: Vec<Measurement>,
}

#[derive(Serialize)]
struct Measurement {
    model: String,
    /// `latency`, `throughput` or `generation`.
    kind: &'static str,
    batch: usize,
    passes: usize,
    /// Median time of a pass.
    milliseconds: f64,
    /// What is done a second: sentences or tokens.
    per_second: f64,
    unit: &'static str,
    /// How many times as fast as the dense model.
    speedup: f64,
}

/// A model and what it does in a pass.
struct Runner {
    name: String,
    model: Model,
}

/// What a pass does.
#[derive(Clone, Copy)]
enum Pass {
    Forward { batch: usize, length: usize },
    Generate { length: usize },
}

/// The measurements.
///
/// # Errors
///
/// If a model cannot be read or run, or the models are of different kinds.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Answer, Failure> {
    let device = device::from_name(&arguments.device.device)?;
    context.handle_ctrl_c()?;
    let mut runners = Vec::new();
    for path in std::iter::once(&arguments.dense).chain(&arguments.compressed) {
        let checkpoint = open(path)?;
        let model = Model::load(&checkpoint, &device)?;
        if matches!(model, Model::Other) {
            return Err(cannot_run(&checkpoint, "bench"));
        }
        runners.push(Runner { name: path.display().to_string(), model });
    }
    let language = matches!(runners[0].model, Model::Language(..));
    if let Some(other) = runners.iter().find(|runner| matches!(runner.model, Model::Language(..)) != language) {
        let message = format!("{} and {} are models of different kinds; compare", runners[0].name, other.name);
        return Err(Failure::usage(message + " sentence encoders with each other, and language models"));
    }
    let length = length(arguments, &runners, if language { GENERATED + 1 } else { 0 })?;
    let mut passes = vec![
        ("latency", 1, Pass::Forward { batch: 1, length }),
        ("throughput", arguments.batch, Pass::Forward { batch: arguments.batch, length }),
    ];
    if language {
        passes.push(("generation", 1, Pass::Generate { length }));
    }
    let mut measurements = Vec::new();
    for (kind, batch, pass) in passes {
        let times = measure(&runners, pass, arguments.seconds, kind, &device, context)?;
        let dense = median(&times[0]);
        for (runner, times) in runners.iter().zip(&times) {
            let seconds = median(times);
            let (done, unit) = match pass {
                Pass::Forward { batch, .. } if !language => (batch, "sentences"),
                Pass::Forward { batch, length } => (batch * length, "tokens"),
                Pass::Generate { .. } => (GENERATED, "tokens"),
            };
            measurements.push(Measurement {
                model: runner.name.clone(),
                kind,
                batch,
                passes: times.len(),
                milliseconds: 1000.0 * seconds,
                per_second: done as f64 / seconds,
                unit,
                speedup: dense / seconds,
            });
        }
    }
    let report = Report { device: arguments.device.device.clone(), length, measurements };
    Answer::new(table(&report), &report)
}

/// The tokens of a sentence or prompt, which have to fit every model with `more` after them.
fn length(arguments: &Arguments, runners: &[Runner], more: usize) -> Result<usize, Failure> {
    let longest = runners.iter().map(Runner::positions).min().unwrap_or(1);
    let room = longest.saturating_sub(more).max(1);
    match arguments.length {
        Some(length) if length > room => Err(Failure::usage(format!(
            "--length {length} is too long: the models have positions for {longest} tokens{}; give at most {room}",
            if more > 0 { format!(", {more} of which are generated") } else { String::new() }
        ))),
        length => Ok(length.unwrap_or(LENGTH.min(room))),
    }
}

impl Runner {
    fn positions(&self) -> usize {
        match &self.model {
            Model::Encoder(encoder) => encoder.model.embeddings.longest(),
            Model::Language(model) => with_decoder!(model, model => model.context()),
            Model::Other => 0,
        }
    }

    /// The seconds of one pass.
    fn run(&self, pass: Pass, device: &Device) -> Result<f64, Failure> {
        let began = Instant::now();
        match (&self.model, pass) {
            (Model::Encoder(encoder), Pass::Forward { batch, length }) => {
                let vocabulary = encoder.model.embeddings.words.weight.dims()[0];
                let inside = Tensor::<2, Int>::ones([batch, length], device).equal_elem(1);
                drop(black_box(encoder.model.embed(tokens(batch, length, vocabulary, device), inside)));
            }
            (Model::Language(model), Pass::Forward { batch, length }) => with_decoder!(model, model => {
                drop(black_box(model.forward(tokens(batch, length, model.vocab_size(), device))));
            }),
            (Model::Language(model), Pass::Generate { length }) => {
                return with_decoder!(model, model => generation_seconds(&**model, length));
            }
            (Model::Encoder(_), Pass::Generate { .. }) | (Model::Other, _) => {}
        }
        device
            .sync()
            .map_err(|error| Failure::new(format!("the device failed: {error:?}; choose another --device")))?;
        Ok(began.elapsed().as_secs_f64())
    }
}

/// The seconds of the new tokens behind a prompt of `length`.
fn generation_seconds(model: &impl Decoder, length: usize) -> Result<f64, Failure> {
    let prompt = ids(length, model.vocab_size()).map(|id| id as u32).collect();
    // The first new token comes from the prefill.
    let config = GenerationConfig::new().with_tokens(GENERATED + 1);
    let generated = generate_tokens(model, &[prompt], &config, |_, _| Ok(ControlFlow::Continue(())))?;
    Ok(generated.decode.seconds)
}

/// Token ids from the whole vocabulary.
fn ids(count: usize, vocabulary: usize) -> impl Iterator<Item = i64> {
    (0..count).map(move |index| (index * 7919 % vocabulary) as i64)
}

fn tokens(batch: usize, length: usize, vocabulary: usize, device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i64> = ids(batch * length, vocabulary).collect();
    Tensor::from_data(TensorData::new(ids, [batch, length]), device)
}

/// The seconds of every pass of every model; the models take turns.
fn measure(
    runners: &[Runner],
    pass: Pass,
    seconds: f64,
    kind: &str,
    device: &Device,
    context: &Context,
) -> Result<Vec<Vec<f64>>, Failure> {
    let progress = context.progress(100, "%");
    progress.message(kind);
    // The first pass compiles kernels and fills caches.
    runners.iter().try_for_each(|runner| runner.run(pass, device).map(drop))?;
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); runners.len()];
    let (began, budget) = (Instant::now(), Duration::from_secs_f64(seconds));
    while times[0].len() < 3 || began.elapsed() < budget {
        for (runner, times) in runners.iter().zip(&mut times) {
            context.check("nothing was measured; start again")?;
            times.push(runner.run(pass, device)?.max(1e-9));
        }
        progress.set((100.0 * began.elapsed().as_secs_f64() / seconds).min(100.0) as usize);
    }
    Ok(times)
}

fn median(times: &[f64]) -> f64 {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    let middle = times.len() / 2;
    if times.len() % 2 == 1 { times[middle] } else { (times[middle - 1] + times[middle]) / 2.0 }
}

fn table(report: &Report) -> String {
    let mut table = Table::new(&["model", "what", ">batch", ">median", ">a second", "", ">speed-up", ">passes"]);
    for row in &report.measurements {
        table.row([
            row.model.clone(),
            row.kind.to_string(),
            row.batch.to_string(),
            format!("{:.2} ms", row.milliseconds),
            format!("{:.1}", row.per_second),
            row.unit.to_string(),
            format!("{:.2}×", row.speedup),
            row.passes.to_string(),
        ]);
    }
    format!("device {}, {} tokens each\n\n{table}", report.device, report.length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle() {
        assert_eq!([median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])], [2.0, 2.5]);
    }
}
