//! `burn-structured eval`: how good models are at their task.

use super::Answer;
use crate::arguments::DeviceArgument;
use crate::context::Context;
use crate::failure::Failure;
use crate::format::{bytes, count, seconds};
use crate::model::{self, Model, cannot_run, open, with_decoder};
use crate::table::Table;
use crate::text;
use burn_structured_checkpoint::Checkpoint;
use burn_structured_compress::report::{self, RunInfo};
use burn_structured_models::bert::SentenceEncoder;
use burn_structured_models::decoder::Decoder;
use burn_structured_train::device;
use burn_structured_train::language::perplexity;
use burn_structured_train::similarity::SentencePairs;
use clap::{ArgGroup, Args, ValueHint};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Score models: correlation on sentence pairs, or perplexity on a text
///
/// Sentence encoders are scored by how well the cosines of their embeddings rank the pairs of an STS benchmark file
/// (Spearman's rank correlation, times 100; higher is better). Language models, GPT-2
/// and Llama, are scored by their perplexity on a text (lower is better).
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("data").args(["sts", "text"]).required(true)), after_help = "\
Examples:
  burn-structured eval all-MiniLM-L6-v2 small --sts sts-dev.csv --record
  burn-structured eval gpt2 gpt2-small --text wikitext2-test.txt --stride 512")]
pub struct Arguments {
    /// Folders with BERT sentence encoders, GPT-2s or Llamas, dense or compressed
    #[arg(value_name = "MODEL", required = true, value_hint = ValueHint::AnyPath)]
    models: Vec<PathBuf>,
    /// Sentence pairs in the layout of the STS benchmark: score and sentences in columns 5 to 7, separated by tabs
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    sts: Option<PathBuf>,
    /// Text to measure the perplexity on; repeat it for several files
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    text: Vec<PathBuf>,
    /// Tokens that the window moves on by: the fewer, the more each token sees before it [default: the model's context]
    #[arg(long, value_name = "TOKENS", requires = "text", value_parser = text::at_least_one)]
    stride: Option<usize>,
    /// How the text becomes tokens: bytes, gpt2 or a tokenizer.json [default: the tokenizer in MODEL]
    #[arg(long, value_name = "NAME|FILE", requires = "text")]
    tokenizer: Option<String>,
    /// Keep the scores of compressed models in their run.json, for `report`, beside that of the dense model if it is named, too
    #[arg(long)]
    record: bool,
    #[command(flatten)]
    device: DeviceArgument,
}

/// The file of a run in its output.
const RUN: &str = "run.json";

#[derive(Serialize)]
struct Scores {
    /// `spearman`, times 100, or `perplexity`.
    metric: &'static str,
    data: String,
    device: String,
    models: Vec<Score>,
}

#[derive(Serialize)]
struct Score {
    model: String,
    score: f64,
    /// Sentence pairs or tokens.
    samples: usize,
    parameters: u64,
    bytes: u64,
    seconds: f64,
}

/// The scores.
///
/// # Errors
///
/// If a file cannot be read, or a model cannot run on this data.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Answer, Failure> {
    if arguments.record {
        check_record(&arguments.models)?;
    }
    let device = device::from_name(&arguments.device.device)?;
    let pairs = arguments.sts.as_ref().map(SentencePairs::from_file).transpose()?;
    let progress = context.progress(arguments.models.len(), "models");
    let mut models = Vec::new();
    for path in &arguments.models {
        progress.message(path.display().to_string());
        let checkpoint = open(path)?;
        let began = Instant::now();
        let (score, samples) = match (Model::load(&checkpoint, &device)?, &pairs) {
            (Model::Encoder(encoder), Some(pairs)) => spearman(&encoder, pairs)?,
            (Model::Language(model), None) => {
                with_decoder!(&model, model => language(arguments, &checkpoint, &**model))?
            }
            (Model::Encoder(_), None) => return Err(other_data(path, "a sentence encoder", "--sts")),
            (Model::Language(..), Some(_)) => return Err(other_data(path, "a language model", "--text")),
            (Model::Other, _) => return Err(cannot_run(&checkpoint, "eval")),
        };
        models.push(Score {
            model: path.display().to_string(),
            score,
            samples,
            parameters: checkpoint.tensors().map(|tensor| tensor.elements() as u64).sum(),
            bytes: checkpoint.tensors().map(|tensor| tensor.byte_len() as u64).sum(),
            seconds: began.elapsed().as_secs_f64(),
        });
        progress.advance();
    }
    drop(progress);
    let files = arguments.sts.iter().chain(&arguments.text).map(|path| path.display().to_string());
    let scores = Scores {
        metric: if pairs.is_some() { "spearman" } else { "perplexity" },
        data: files.collect::<Vec<_>>().join(", "),
        device: arguments.device.device.clone(),
        models,
    };
    let mut text = table(&scores);
    if arguments.record {
        text += &record(arguments, &scores)?;
    }
    Answer::new(text, &scores)
}

fn other_data(path: &Path, kind: &str, option: &str) -> Failure {
    Failure::usage(format!("{} is {kind}; score it with {option}", path.display()))
}

fn spearman(encoder: &SentenceEncoder, pairs: &SentencePairs) -> Result<(f64, usize), Failure> {
    let correlation = pairs.spearman(encoder)?;
    if correlation.is_nan() {
        return Err(Failure::new("the pairs have no order: all scores, or all cosines, are the same; give more pairs"));
    }
    Ok((100.0 * correlation, pairs.scores.len()))
}

fn language(arguments: &Arguments, checkpoint: &Checkpoint, model: &impl Decoder) -> Result<(f64, usize), Failure> {
    let tokenizer = model::tokenizer(checkpoint, model, arguments.tokenizer.as_deref())?;
    let tokens = text::read_tokens(&arguments.text, &tokenizer)?;
    let context = model.context();
    // Batches of about 2,048 tokens.
    let batch = (2048 / context).max(1);
    let evaluation = perplexity(model, &tokens, context, arguments.stride.unwrap_or(context), batch)?;
    Ok((evaluation.perplexity, evaluation.tokens))
}

/// Whether a model has a run.json to keep scores in.
fn is_recorded(path: &Path) -> bool {
    path.join(RUN).is_file()
}

/// Which models --record takes for what is checked before anything is computed.
fn check_record(models: &[PathBuf]) -> Result<(), Failure> {
    let dense: Vec<String> =
        models.iter().filter(|path| !is_recorded(path)).map(|path| path.display().to_string()).collect();
    if dense.len() == models.len() {
        return Err(Failure::new(
            "no model has the run.json that `compress` writes; leave --record out, or name such a folder",
        ));
    }
    if dense.len() > 1 {
        let message = format!("--record compares with one dense model, but {} have no run.json", dense.join(" and "));
        return Err(Failure::usage(message + "; name one of them"));
    }
    Ok(())
}

/// Adds the scores to the reports of the compressed models; a line about each.
fn record(arguments: &Arguments, scores: &Scores) -> Result<String, Failure> {
    let higher_is_better = scores.metric == "spearman";
    let what = if higher_is_better { "Spearman's correlation × 100" } else { "perplexity" };
    let name = format!("{what}, {}", scores.data);
    let (compressed, others): (Vec<_>, Vec<_>) =
        arguments.models.iter().zip(&scores.models).partition(|(path, _)| is_recorded(path));
    let dense = others.first().map(|(_, score)| score.score);
    let beside = others.first().map_or_else(
        || "without the score of a dense model".to_string(),
        |(path, _)| format!("beside the dense model {}", path.display()),
    );
    let mut text = String::new();
    for (path, score) in compressed {
        let mut run = RunInfo::load(path)?;
        run.add_score(report::Score { name: name.clone(), higher_is_better, dense, compressed: score.score });
        run.save(path)?;
        text += &format!("\nrecorded in {}, {beside}", path.join(RUN).display());
    }
    Ok(text + "\n")
}

fn table(scores: &Scores) -> String {
    let unit = if scores.metric == "spearman" { ">pairs" } else { ">tokens" };
    let metric = format!(">{}", scores.metric);
    let mut table = Table::new(&["model", &metric, unit, ">parameters", ">size", ">time"]);
    for score in &scores.models {
        table.row([
            score.model.clone(),
            format!("{:.2}", score.score),
            score.samples.to_string(),
            count(score.parameters),
            bytes(score.bytes),
            seconds(score.seconds),
        ]);
    }
    table.to_string()
}
