//! The commands, one file each: their arguments, and a function from these to an [`Answer`].

pub mod bench;
pub mod calibrate;
pub mod completions;
pub mod compress;
pub mod drop;
pub mod eval;
pub mod import;
pub mod inspect;
pub mod man;
pub mod plan;
pub mod quantize;
pub mod report;
pub mod to_dense;
pub mod verify;

use crate::arguments::Command;
use crate::context::Context;
use crate::exit;
use crate::failure::Failure;
use serde::Serialize;

/// What a command prints on standard output, in both forms.
pub struct Answer {
    /// For people.
    pub text: String,
    /// For programs: one document.
    pub json: String,
    /// The exit code.
    pub code: u8,
}

impl Answer {
    /// The answer of a command that succeeded.
    ///
    /// # Errors
    ///
    /// If `value` has no JSON form.
    pub fn new(text: String, value: &impl Serialize) -> Result<Self, Failure> {
        Ok(Self { text, json: serde_json::to_string_pretty(value)? + "\n", code: exit::OK })
    }
}

/// Runs a command.
///
/// # Errors
///
/// With one line about the culprit and the way out.
pub fn run(command: &Command, context: &Context) -> Result<Answer, Failure> {
    match command {
        Command::Inspect(arguments) => inspect::run(arguments),
        Command::Plan(arguments) => plan::run(arguments, context),
        Command::Calibrate(arguments) => calibrate::run(arguments, context),
        Command::Compress(arguments) => compress::run(arguments, context),
        Command::Drop(arguments) => drop::run(arguments, context),
        Command::Quantize(arguments) => quantize::run(arguments, context),
        Command::ToDense(arguments) => to_dense::run(arguments, context),
        Command::Verify(arguments) => verify::run(arguments),
        Command::Eval(arguments) => eval::run(arguments, context),
        Command::Bench(arguments) => bench::run(arguments, context),
        Command::Report(arguments) => report::run(arguments),
        Command::Import(arguments) => import::run(arguments),
        Command::Completions(arguments) => completions::run(arguments),
        Command::Man(arguments) => man::run(arguments),
    }
}
