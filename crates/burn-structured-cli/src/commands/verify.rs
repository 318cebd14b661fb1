//! `burn-structured verify`: whether a compressed model is what its report says.

use super::Answer;
use crate::arguments::DeviceArgument;
use crate::exit;
use crate::failure::Failure;
use crate::model::open;
use burn_structured_compress::pipeline::{self, Outcome, Verification};
use burn_structured_train::device;
use clap::{Args, ValueHint};
use serde_json::json;
use std::path::PathBuf;

/// Check a compressed model against its report: files, layers, errors
///
/// Every layer is loaded, hashes are compared, and with --dense the errors of the weights are computed anew. Exit code
/// 3 means that the model can be read but is not what its report says.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  burn-structured verify small
  burn-structured verify small --dense all-MiniLM-L6-v2")]
pub struct Arguments {
    /// The folder or file that `compress` wrote
    #[arg(value_name = "COMPRESSED", value_hint = ValueHint::AnyPath)]
    compressed: PathBuf,
    /// The dense model that it was made of: the errors of the weights are computed anew, all other tensors compared
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    dense: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgument,
}

/// The checks; exit code 3 if one failed.
///
/// # Errors
///
/// If a file cannot be read, or the model is not compressed.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let compressed = open(&arguments.compressed)?;
    let dense = arguments.dense.as_deref().map(open).transpose()?;
    let device = device::from_name(&arguments.device.device)?;
    let found = pipeline::verify(&compressed, dense.as_ref(), &device)?;
    let Verification { checks, weight_errors } = &found;
    let value = json!({ "passed": found.passed(), "checks": checks, "weight_errors": weight_errors });
    let mut answer = Answer::new(text(&found), &value)?;
    if !found.passed() {
        answer.code = exit::UNVERIFIED;
    }
    Ok(answer)
}

fn text(found: &Verification) -> String {
    let mut text = String::new();
    for check in &found.checks {
        let outcome = match check.outcome {
            Outcome::Passed => "ok",
            Outcome::Failed => "FAILED",
            Outcome::Skipped => "skipped",
        };
        text += &format!("{outcome:<8} {}: {}\n", check.name, check.detail);
    }
    let compared = found.checks.iter().any(|check| check.name == "files" && check.outcome == Outcome::Passed);
    text += if found.passed() && !compared {
        "\nall layers load; without a report there is nothing to compare the files with\n"
    } else if found.passed() {
        "\nthe model is what its report says\n"
    } else {
        "\nthe model is not what its report says; compress it again, or fetch its files again\n"
    };
    text
}
