//! Trains a GPT-2 with structured linear layers on text, compares structures, or compresses and retrains a dense one.
//!
//! ```text
//! cargo run --release --features compress,tokenizers --example gpt2_text
//! cargo run --release --features compress,tokenizers --example gpt2_text -- --text book.txt --compare dense,blast,ss1,monarch,low-rank --seeds 1,2,3
//! cargo run --release --features compress,tokenizers --example gpt2_text -- --text book.txt --init-from runs/dense --compress blast,low-rank --retrain 10%
//! cargo run --release --features compress,tokenizers --example generate -- --model runs/gpt2_text --prompt "A structured matrix"
//! ```
//!
//! Without any file the text is the documentation of this repository, which is tiny, and every output says so.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod arguments;
mod budget;
mod builtin;
mod compress;
mod corpus;
#[path = "../shared/ctrl_c.rs"]
mod ctrl_c;
mod prepare;
mod preset;
#[path = "../shared/progress.rs"]
mod progress;
mod sample;
#[path = "../shared/tokenizer.rs"]
mod tokenizer;
mod train;

use arguments::Arguments;
use burn::tensor::Device;
use burn_structured::models::decoder::{DecoderError, LayerRules};
use burn_structured::models::gpt2::Gpt2;
use burn_structured::models::text::Tokenizer;
use burn_structured::train::device;
use burn_structured::train::language::perplexity;
use burn_structured::train::training::{Interrupter, Start};
use clap::Parser;
use corpus::Corpus;
use mimalloc::MiMalloc;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Keeps the pages of freed tensors for the next ones of their size, where the system's takes them back at every step.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What every kind of run works with.
struct Session {
    arguments: Arguments,
    devices: Vec<Device>,
    corpus: Corpus,
    /// The model of `--init-from`.
    initial: Option<Initial>,
    interrupter: Interrupter,
    start: Start,
}

struct Initial {
    folder: PathBuf,
    model: Gpt2,
    tokenizer: Option<Tokenizer>,
}

fn main() -> ExitCode {
    run(Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let devices = arguments.run.devices.iter().map(|name| device::from_name(name)).collect::<Result<Vec<_>, _>>()?;
    let compressing = !arguments.compression.compress.is_empty();
    if (compressing || arguments.run.evaluate) && (devices.len() > 1 || arguments.training.seeds.len() > 1) {
        return Err("--compress and --evaluate use one device and one seed; leave out the others".into());
    }
    if arguments.text.prepare {
        return prepare::run(&arguments);
    }
    let read = |folder: &PathBuf| Initial::read(folder.clone(), &arguments.run.out, &devices[0]);
    let initial = arguments.model.init_from.as_ref().map(read).transpose()?;
    let corpus = Corpus::read(&arguments, initial.as_ref().and_then(|initial| initial.tokenizer.as_ref()))?;
    println!("{corpus}; devices: {}", arguments.run.devices.join(", "));

    let interrupter = Interrupter::new();
    ctrl_c::stop_on_ctrl_c(&interrupter)?;
    let start = match (arguments.run.resume, arguments.run.fresh) {
        (true, _) => Start::Resume,
        (_, true) => Start::Fresh,
        _ => Start::New,
    };
    let session = Session { arguments, devices, corpus, initial, interrupter, start };
    match &session.initial {
        Some(initial) if session.arguments.run.evaluate => session.evaluate(&initial.model),
        Some(initial) if compressing => compress::run(&session, initial),
        _ => train::run(&session),
    }
}

impl Initial {
    /// # Errors
    ///
    /// If the folder holds no model, or is the one to write to.
    fn read(folder: PathBuf, out: &Path, device: &Device) -> Result<Self, Box<dyn Error>> {
        if folder.canonicalize().is_ok_and(|folder| out.canonicalize().is_ok_and(|out| out == folder)) {
            return Err(format!("--init-from and --out are both {}; write elsewhere", folder.display()).into());
        }
        let model = Gpt2::from_folder(&folder, device)?;
        let tokenizer = corpus::in_folder(&folder)?;
        Ok(Self { folder, model, tokenizer })
    }

    /// The structures of the model's layers; one for all where they are alike.
    fn structures(&self) -> Result<LayerRules, DecoderError> {
        let structures: Vec<_> = self.model.linears().map(|(_, layer)| layer.structure()).collect();
        match structures.first() {
            Some(Some(first)) if structures.iter().all(|other| *other == Some(*first)) => Ok((*first).into()),
            _ => Ok(self.model.config()?.structures),
        }
    }
}

impl Session {
    /// Prints the perplexity of a model.
    fn evaluate(&self, model: &Gpt2) -> Result<ExitCode, Box<dyn Error>> {
        let recipe = self.arguments.training.recipe(model.context(), 0)?;
        let (context, stride) = (model.context(), recipe.eval_stride);
        let found = perplexity(model, &self.corpus.data.validation, context, stride, recipe.batch_size)?;
        println!(
            "loss {:.4}, perplexity {:.3} of {} tokens (context {context}, stride {stride}), {:.0} tokens/s",
            found.loss, found.perplexity, found.tokens, found.tokens_per_second
        );
        Ok(ExitCode::SUCCESS)
    }
}
