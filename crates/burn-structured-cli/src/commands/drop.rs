//! `burn-structured drop`: whole blocks left out, the baseline.

use super::Answer;
use super::compress::{Events, Length};
use crate::arguments::{DeviceArgument, TextArguments};
use crate::context::Context;
use crate::distillation::DistillArguments;
use crate::failure::Failure;
use crate::format::{bytes, count, error, percent, seconds};
use crate::model::{Model, cannot_run, open, with_decoder};
use crate::statistics::Samples;
use crate::stored::{Stored, fingerprint};
use crate::text::at_least_one;
use burn::tensor::Device;
use burn_structured_checkpoint::Checkpoint;
use burn_structured_compress::drop::blocks_to_keep;
use burn_structured_compress::pipeline::{BlockFormat, Dropped, Event, Output, Texts, drop_blocks};
use burn_structured_compress::report::DistillResult;
use burn_structured_train::device;
use clap::{Args, ValueHint};
use serde::Serialize;
use std::path::PathBuf;

/// Leave whole blocks out: the baseline that compression has to beat
///
/// Blocks are left out one after another, each time the one whose absence changes the model's output on held-out text
/// least. With --distill what is left is trained to give the dense model's outputs. The result is an ordinary dense
/// model with fewer blocks, in a folder like MODEL, which any tool loads; it can be compressed further.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  burn-structured drop all-MiniLM-L6-v2 --keep 3 --text lines.txt -o three
  burn-structured drop all-MiniLM-L6-v2 --keep 3 --text lines.txt --distill 10 -o three
  burn-structured eval all-MiniLM-L6-v2 small three --sts sts-dev.csv")]
pub struct Arguments {
    /// A folder with a BERT sentence encoder, a GPT-2 or a Llama
    #[arg(value_name = "MODEL", value_hint = ValueHint::DirPath, requires = "text")]
    model: PathBuf,
    /// Blocks to keep
    #[arg(long, value_name = "NUMBER", value_parser = at_least_one)]
    keep: usize,
    /// The folder to write
    #[arg(short, long, value_name = "OUTPUT", value_hint = ValueHint::DirPath)]
    output: PathBuf,
    #[command(flatten)]
    text: TextArguments,
    #[command(flatten)]
    distillation: DistillArguments,
    /// Seed of the order of the samples in training
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
    /// Replace OUTPUT, and start anew if OUTPUT.partial was started with something else
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArgument,
}

#[derive(Serialize)]
struct Report {
    output: String,
    /// The blocks of the model that are left, from 0.
    kept: Vec<usize>,
    /// The model's number of blocks.
    blocks: usize,
    /// `‖y − y_dense‖ / ‖y_dense‖` of the outputs on held-out text, before any training.
    output_error: f64,
    distillation: Option<Distillation>,
    before: Size,
    after: Size,
    seconds: f64,
}

#[derive(Serialize)]
struct Distillation {
    steps: usize,
    /// What the training was to lower on held-out text: `output_error`, or `divergence` of the next token.
    measure: &'static str,
    before: f64,
    after: f64,
}

impl From<DistillResult> for Distillation {
    fn from(result: DistillResult) -> Self {
        let [before, after] = result.lowered();
        let measure = result.divergence.map_or("output_error", |_| "divergence");
        Self { steps: result.steps, measure, before, after }
    }
}

#[derive(Serialize)]
struct Size {
    parameters: u64,
    bytes: u64,
}

/// Writes the model with fewer blocks.
///
/// # Errors
///
/// If a file cannot be read or written, the model or the text cannot be used, or after Ctrl-C.
pub fn run(arguments: &Arguments, context: &Context) -> Result<Answer, Failure> {
    let checkpoint = open(&arguments.model)?;
    let device = device::from_name(&arguments.device.device)?;
    context.handle_ctrl_c()?;
    let Arguments { text, distillation, .. } = arguments;
    let job = Job { arguments, checkpoint: &checkpoint, device: &device, context };
    let report = match Model::load(&checkpoint, &device)? {
        Model::Encoder(encoder) => {
            let samples = Samples::sentences(text, distillation.lines(), &encoder, &device)?;
            job.run(&encoder.model, &samples)
        }
        Model::Language(model) => with_decoder!(&model, model => {
            let samples = Samples::windows(text, distillation.windows(), &checkpoint, &**model, &device)?;
            job.run(&**model, &samples)
        }),
        Model::Other => Err(cannot_run(&checkpoint, "drop")),
    }?;
    Answer::new(printed(&report), &report)
}

/// Everything but the model and the text.
struct Job<'a> {
    arguments: &'a Arguments,
    checkpoint: &'a Checkpoint,
    device: &'a Device,
    context: &'a Context,
}

impl Job<'_> {
    fn run<M: Stored>(&self, model: &M, samples: &Samples<M>) -> Result<Report, Failure> {
        let Self { arguments, checkpoint, device, context } = self;
        let depth = model.blocks().len();
        if arguments.keep >= depth {
            let (path, most) = (checkpoint.path().display(), depth.max(2) - 1);
            return Err(Failure::usage(format!("{path} has {depth} blocks; give --keep a number from 1 to {most}")));
        }
        let kept = self.kept(model, samples)?;
        let texts = Texts {
            calibration: &samples.calibration,
            held_out: &samples.held_out,
            distillation: &samples.distillation,
            fingerprint: fingerprint(samples),
        };
        let format = BlockFormat {
            save: &|model: &M, block| model.save(block, checkpoint),
            load: &|model: &mut M, block, shard| model.load(block, shard),
        };
        let config = arguments.distillation.config::<M>().map(|config| config.with_seed(arguments.seed));
        let output = Output::new(&arguments.output).with_force(arguments.force);
        let events = Events::new(context, None, arguments.distillation.budget().map(Length::from));
        let observer = &mut |event: &Event<'_>| events.observe(event);
        let student = model.with_blocks(&kept);
        let dropped =
            drop_blocks(checkpoint, model, student, &kept, &format, &texts, config.as_ref(), &output, device, observer);
        let Dropped { path, output_error, distillation, seconds } = dropped.map_err(|error| events.failure(error))?;
        let after = size(&Checkpoint::open(&path)?);
        Ok(Report {
            output: path.display().to_string(),
            kept,
            blocks: depth,
            output_error,
            distillation: distillation.map(Distillation::from),
            before: size(checkpoint),
            after,
            seconds,
        })
    }

    /// The blocks that stay.
    fn kept<M: Stored>(&self, model: &M, samples: &Samples<M>) -> Result<Vec<usize>, Failure> {
        let progress = self.context.progress(1, "passes");
        progress.message("choosing blocks");
        let kept = blocks_to_keep(model, &samples.held_out, self.arguments.keep, &mut |step| {
            progress.set_of(step.done, step.steps);
            self.context.flow()
        });
        kept.map_err(|error| self.context.interrupted_or(error, "nothing was written; start again"))
    }
}

fn size(checkpoint: &Checkpoint) -> Size {
    Size {
        parameters: checkpoint.tensors().map(|tensor| tensor.elements() as u64).sum(),
        bytes: checkpoint.tensors().map(|tensor| tensor.byte_len() as u64).sum(),
    }
}

fn printed(report: &Report) -> String {
    let Report { output, kept, blocks, output_error, before, after, .. } = report;
    let kept: Vec<String> = kept.iter().map(usize::to_string).collect();
    let mut text =
        format!("blocks {} of 0 to {} stay: output error {}", kept.join(", "), blocks - 1, error(*output_error));
    if let Some(Distillation { steps, measure, before, after }) = &report.distillation {
        let measure = measure.replace('_', " ");
        text += &format!("\ndistilled in {steps} steps: {measure} {} → {}", error(*before), error(*after));
    }
    text += &format!(
        "\nparameters of the file: {} → {}, {}\nbytes of the file: {} → {}, {}\n",
        count(before.parameters),
        count(after.parameters),
        percent(after.parameters, before.parameters),
        bytes(before.bytes),
        bytes(after.bytes),
        percent(after.bytes, before.bytes),
    );
    text + &format!("\nwrote {output} in {}\n", seconds(report.seconds))
}
