//! Continues texts with a GPT-2 or a Llama, or measures how fast one with random weights does.
//!
//! ```text
//! cargo run --release --features tokenizers --example generate -- --model runs/gpt2_text --prompt "A structured matrix" --slide
//! cargo run --release --features tokenizers --example generate -- --model gpt2 --compare gpt2-blast --prompt "Once upon a time" --top-k 40
//! cargo run --release --features tokenizers --example generate -- --model TinyLlama-1.1B --prompt "Once upon a time" --top-p 0.9
//! cargo run --release --features tokenizers --example generate -- --random small --structure dense,blast:b=6,ratio=0.5 --prefill 512
//! cargo run --release --features tokenizers --example generate -- --random smollm2-135m --decode 10,100,1000
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod measure;
#[path = "../shared/tokenizer.rs"]
mod tokenizer;

use burn::tensor::Device;
use burn_structured::models::decoder::generate::{
    GenerateError, Generation, GenerationConfig, Generator, Overflow, SamplingConfig, Speed,
};
use burn_structured::models::decoder::{Decoder, end_tokens};
use burn_structured::models::gpt2::{Gpt2, Gpt2Config};
use burn_structured::models::llama::{Llama, LlamaConfig};
use burn_structured::models::text::Tokenizer;
use burn_structured::train::device;
use clap::Parser;
use measure::Size;
use mimalloc::MiMalloc;
use serde::Serialize;
use std::error::Error;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Keeps the pages of freed tensors for the next ones of their size, where the system's takes them back at every step.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Continues texts with a GPT-2 or a Llama, or measures how fast one with random weights does.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Folder with config.json, the weights and the tokenizer, of Hugging Face or of gpt2_text; or a safetensors file beside the
    /// other two
    #[arg(long, value_name = "FOLDER|FILE", required_unless_present = "random")]
    model: Option<PathBuf>,
    /// How text becomes tokens: bytes, gpt2 or a tokenizer.json [default: the tokenizer in --model]
    #[arg(long, value_name = "NAME|FILE", conflicts_with = "random")]
    tokenizer: Option<String>,
    /// Text to continue; repeat it for a batch [default: standard input]
    #[arg(long, conflicts_with = "random")]
    prompt: Vec<String>,
    /// Continue the same prompts with this model, too
    #[arg(long, value_name = "FOLDER|FILE", conflicts_with = "random")]
    compare: Option<PathBuf>,

    /// New tokens of each text, at most
    #[arg(long, default_value_t = 100)]
    tokens: usize,
    /// Below 1 likely tokens become likelier; 0 always takes the likeliest
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Draw from this many of the likeliest tokens only
    #[arg(long)]
    top_k: Option<usize>,
    /// Draw from the fewest likeliest tokens that have this probability together
    #[arg(long)]
    top_p: Option<f64>,
    /// Makes tokens that the text already holds less likely, from 1 up
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f64,
    /// Seed of the draws; text i of a batch draws with the seed plus i
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// End a text before this string; repeat it for several
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Go on beyond the model's context: start again with its last half each time it is full
    #[arg(long)]
    slide: bool,
    /// Tokens of a prompt that go through the model at once
    #[arg(long, default_value_t = 512)]
    prefill_chunk: usize,

    /// Measure a model of this size with random weights instead
    #[arg(long, value_enum, value_name = "PRESET", conflicts_with = "model")]
    random: Option<Size>,
    /// Structures to measure: dense,blast:b=6,ratio=0.5; repeat it for rules
    #[arg(long, requires = "random", default_value = "dense", value_name = "STRUCTURES")]
    structure: Vec<String>,
    /// Tokens of the measured prompt [default: half the context, at most 512]
    #[arg(long, requires = "random")]
    prefill: Option<usize>,
    /// New tokens of the measured text; several lengths are measured one after the other: 10,100,1000
    #[arg(long, requires = "random", default_value = "64", value_delimiter = ',', value_name = "TOKENS")]
    decode: Vec<usize>,
    /// Texts of the measured batch
    #[arg(long, requires = "random", default_value_t = 1)]
    batch: usize,
    /// Measurements of each structure, after one to warm up; the median is printed
    #[arg(long, requires = "random", default_value_t = 3)]
    repeats: usize,

    /// Write texts and speeds to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where to compute: flex, or cuda[:index], vulkan, … as compiled in by --features
    #[arg(long, default_value = "flex")]
    device: String,
}

/// What a model made of the prompts.
#[derive(Serialize)]
struct Output<'a> {
    model: String,
    prompts: &'a [String],
    #[serde(flatten)]
    generation: Generation,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let device = device::from_name(&args.device)?;
    match (args.random, &args.model) {
        (Some(preset), _) => write_json(args, &measure::all(args, preset, &device)?),
        (None, Some(model)) => {
            let paths = std::iter::once(model).chain(&args.compare);
            let writers = paths.map(|path| Writer::read(args, path, &device)).collect::<Result<Vec<_>, _>>()?;
            let prompts = prompts(args)?;
            let outputs =
                writers.iter().map(|writer| writer.continue_all(args, &prompts)).collect::<Result<Vec<_>, _>>()?;
            write_json(args, &outputs)
        }
        (None, None) => Err("give --model or --random".into()),
    }
}

fn write_json(args: &Args, value: &impl Serialize) -> Result<(), Box<dyn Error>> {
    let Some(path) = &args.json else { return Ok(()) };
    let text = serde_json::to_string_pretty(value)? + "\n";
    Ok(std::fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?)
}

fn prompts(args: &Args) -> Result<Vec<String>, Box<dyn Error>> {
    if !args.prompt.is_empty() {
        return Ok(args.prompt.clone());
    }
    if std::io::stdin().is_terminal() {
        eprintln!("reading the text to continue from standard input; end it with Ctrl-D");
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map_err(|error| format!("cannot read standard input: {error}"))?;
    Ok(vec![text])
}

fn config(args: &Args) -> GenerationConfig {
    let sampling = SamplingConfig::new()
        .with_temperature(args.temperature)
        .with_top_k(args.top_k)
        .with_top_p(args.top_p)
        .with_repetition_penalty(args.repetition_penalty)
        .with_seed(args.seed);
    GenerationConfig::new()
        .with_tokens(args.tokens)
        .with_sampling(sampling)
        .with_stop(args.stop.clone())
        .with_overflow(if args.slide { Overflow::Slide } else { Overflow::Error })
        .with_prefill_chunk(args.prefill_chunk)
}

/// A model of either family.
enum Model {
    Gpt2(Box<Gpt2>),
    Llama(Box<Llama>),
}

impl Model {
    /// The model of a folder, or of a file of weights beside its configuration.
    fn read(path: &Path, folder: &Path, device: &Device) -> Result<Self, Box<dyn Error>> {
        let config = folder.join("config.json");
        Ok(match family(&config)?.as_str() {
            "llama" => Self::Llama(Box::new(LlamaConfig::from_file(config)?.try_init(device)?.with_weights(path)?)),
            _ => Self::Gpt2(Box::new(Gpt2Config::from_file(config)?.try_init(device)?.with_weights(path)?)),
        })
    }
}

/// The `model_type` of a configuration; those of GPT-2 may lack it.
fn family(config: &Path) -> Result<String, Box<dyn Error>> {
    let error = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", config.display());
    let text = std::fs::read_to_string(config).map_err(|source| error(&source))?;
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|source| error(&source))?;
    Ok(json["model_type"].as_str().unwrap_or("gpt2").to_string())
}

/// A model that continues texts.
struct Writer<'a> {
    path: &'a Path,
    model: Model,
    tokenizer: Tokenizer,
    end_tokens: Vec<u32>,
}

impl<'a> Writer<'a> {
    fn read(args: &Args, path: &'a Path, device: &Device) -> Result<Self, Box<dyn Error>> {
        let folder = path.parent().filter(|_| path.is_file()).unwrap_or(path);
        let model = Model::read(path, folder, device)?;
        let tokenizer = match &args.tokenizer {
            Some(name) => tokenizer::from_name(name)?,
            None => Tokenizer::from_folder(folder)?,
        };
        Ok(Self { path, model, tokenizer, end_tokens: end_tokens(folder)? })
    }

    /// Prints the prompts with what the model adds to them: one text as it grows, several when all are there.
    fn continue_all<'p>(&self, args: &Args, prompts: &'p [String]) -> Result<Output<'p>, Box<dyn Error>> {
        match &self.model {
            Model::Gpt2(model) => self.continue_with(&**model, args, prompts),
            Model::Llama(model) => self.continue_with(&**model, args, prompts),
        }
    }

    fn continue_with<'p>(
        &self,
        model: &impl Decoder,
        args: &Args,
        prompts: &'p [String],
    ) -> Result<Output<'p>, Box<dyn Error>> {
        if args.compare.is_some() {
            println!("# {}\n", self.path.display());
        }
        let mut out = std::io::stdout();
        let streamed = prompts.len() == 1;
        if let [prompt] = prompts {
            write!(out, "{prompt}")?;
            out.flush()?;
        }
        let config = config(args).with_end_tokens(self.end_tokens.clone());
        let generation = Generator::new(model, &self.tokenizer)?.generate(prompts, &config, |_, text| {
            if streamed {
                // The text is still in the result when the pipe is closed.
                let _ = write!(out, "{text}").and_then(|()| out.flush());
            }
        });
        if streamed {
            println!();
        }
        let generation = generation.map_err(|error| match error {
            GenerateError::Context { .. } => format!("{error} (--slide)"),
            error => error.to_string(),
        })?;
        if !streamed {
            for (index, (prompt, continuation)) in prompts.iter().zip(&generation.continuations).enumerate() {
                println!("## {}\n{prompt}{}\n", index + 1, continuation.text);
            }
        }
        let cost = model.cost();
        println!(
            "\n{:.1} M parameters, {:.0} % of the dense linear layers' FLOPs; prefill: {}; decode: {}\n",
            cost.params as f64 / 1e6,
            100.0 * cost.replaced.flops_ratio(),
            speed(&generation.prefill),
            speed(&generation.decode)
        );
        Ok(Output { model: self.path.display().to_string(), prompts, generation })
    }
}

fn speed(speed: &Speed) -> String {
    match speed.tokens {
        0 => "no tokens".into(),
        tokens => format!("{tokens} tokens, {:.1} tokens/s", speed.tokens_per_second()),
    }
}
