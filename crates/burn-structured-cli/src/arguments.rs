//! The command line: what all commands share. The arguments of each are in its file of [`commands`](crate::commands).

use crate::commands::{
    bench, calibrate, completions, compress, drop, eval, import, inspect, man, plan, quantize, report, to_dense, verify,
};
use crate::failure::Failure;
use clap::{Args, Parser, Subcommand, ValueHint};
use std::path::PathBuf;

/// Compress pretrained safetensors models with structured matrices, verify and measure the result
///
/// MODEL is a folder of Hugging Face's layout (config.json, model.safetensors or its index, tokenizer.json), or a
/// safetensors file or index. Layers of any model can be compressed one by one; BERT sentence encoders, GPT-2 and Llama
/// can also be calibrated, compressed block after block with refinement and distillation on raw text, evaluated and
/// benchmarked.
#[derive(Parser, Debug)]
#[command(name = "burn-structured", version, max_term_width = 120, after_help = AFTER_HELP, after_long_help = AFTER_LONG_HELP)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Example: halve the encoder of a model
  burn-structured plan all-MiniLM-L6-v2 --target-params 0.5 --text lines.txt -o plan.toml
  burn-structured compress all-MiniLM-L6-v2 --plan plan.toml --text lines.txt --refine 10 -o small
  burn-structured verify small --dense all-MiniLM-L6-v2
all-MiniLM-L6-v2 is a folder from Hugging Face; lines.txt is text of the kind that the model is for, a sentence or a paragraph a line.

`burn-structured help COMMAND` shows examples of each command; `--help` the exit codes.";

const AFTER_LONG_HELP: &str = "\
Examples:
  What is in the model?
    burn-structured inspect all-MiniLM-L6-v2
  Half of the encoder's weights, each layer with its own structure; look at the table, edit the file
    burn-structured plan all-MiniLM-L6-v2 --target-params 0.5 --text lines.txt -o plan.toml
  Compress block after block, with 10 minutes of training each way; Ctrl-C and power cuts only pause it
    burn-structured compress all-MiniLM-L6-v2 --plan plan.toml --text lines.txt \\
      --refine 10 --distill 10 -o small
  Is every file whole, and every error as recorded? How good and how fast is it?
    burn-structured verify small --dense all-MiniLM-L6-v2
    burn-structured eval all-MiniLM-L6-v2 small --sts sts-dev.csv --record
    burn-structured bench all-MiniLM-L6-v2 small
  Is it better than the model with half of its blocks?
    burn-structured drop all-MiniLM-L6-v2 --keep 3 --text lines.txt --distill 20 -o three
    burn-structured eval small three --sts sts-dev.csv
  A quarter of the bytes of what is left
    burn-structured quantize small -o small-int8
  A page with all of it; the same model with dense weights, for other tools
    burn-structured report small --dense all-MiniLM-L6-v2 -o report.html
    burn-structured to-dense small -o small-dense

Exit codes:
  0    success
  1    the command failed; standard error has one line that says why and what to do
  2    the arguments are wrong
  3    `verify` found a difference
  130  ended by Ctrl-C or a request to terminate";

/// What every command takes.
#[derive(Args, Debug)]
pub struct Global {
    /// Print one JSON document instead of text; progress and errors stay on standard error
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
    /// No progress on standard error
    #[arg(short, long, global = true, help_heading = "Output")]
    pub quiet: bool,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    Inspect(inspect::Arguments),
    Plan(plan::Arguments),
    Calibrate(calibrate::Arguments),
    Compress(compress::Arguments),
    Drop(drop::Arguments),
    Quantize(quantize::Arguments),
    ToDense(to_dense::Arguments),
    Verify(verify::Arguments),
    Eval(eval::Arguments),
    Bench(bench::Arguments),
    Report(report::Arguments),
    Import(import::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

/// Where to compute.
#[derive(Args, Debug)]
pub struct DeviceArgument {
    /// Where to compute: flex (the processor), or a device whose Cargo feature the program was built with, such as cuda[:INDEX] or vulkan
    #[arg(long, default_value = "flex", value_name = "NAME")]
    pub device: String,
}

/// Raw text for calibration and training.
#[derive(Args, Debug)]
pub struct TextArguments {
    /// Raw text, for sentence encoders a sentence or a paragraph a line; repeat it for several files
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub text: Vec<PathBuf>,
    /// Use at most so many samples, spread evenly over the text: lines for sentence encoders [default: 1500], windows
    /// as long as the model's context for language models [default: 128]
    #[arg(long, value_name = "NUMBER", value_parser = crate::text::at_least_one)]
    pub samples: Option<usize>,
    /// How a language model's text becomes tokens: bytes, gpt2 or a tokenizer.json [default: the tokenizer in MODEL]
    #[arg(long, value_name = "NAME|FILE")]
    pub tokenizer: Option<String>,
}

impl TextArguments {
    /// # Errors
    ///
    /// If a tokenizer is named for a sentence encoder, which has its own.
    pub fn check_for_encoder(&self) -> Result<(), Failure> {
        match self.tokenizer {
            Some(_) => {
                Err(Failure::usage("a sentence encoder reads text with its own tokenizer; leave --tokenizer out"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:\n  burn-structured "), "{}: {help}", command.get_name());
        }
    }
}
