//! `burn-structured report`: what was done, what it cost and what it brought, for people.

use super::Answer;
use crate::arguments::DeviceArgument;
use crate::failure::Failure;
use crate::model::{check_finished, open};
use burn_structured_checkpoint::files;
use burn_structured_compress::pipeline::Finished;
use burn_structured_compress::report::{Page, html, model_card, spectra};
use burn_structured_train::device;
use clap::{Args, ValueHint};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Write a page about a compressed model: errors, sizes, scores
///
/// The page is one HTML file without references to others. A model card in Markdown has the same numbers. Scores are
/// those that `eval --record` has kept.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  burn-structured report small
  burn-structured report small --dense all-MiniLM-L6-v2 --with smaller --with smallest \\
    -o report.html --card card.md")]
pub struct Arguments {
    /// The folder that `compress` wrote
    #[arg(value_name = "COMPRESSED", value_hint = ValueHint::DirPath)]
    compressed: PathBuf,
    /// The dense model that it was made of, to show its singular values
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::AnyPath)]
    dense: Option<PathBuf>,
    /// Another folder that `compress` made of the same model, for the chart of scores against size; repeat it for
    /// several
    #[arg(long, value_name = "COMPRESSED", value_hint = ValueHint::DirPath)]
    with: Vec<PathBuf>,
    /// The page to write [default: COMPRESSED/report.html]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// The model card to write [default: COMPRESSED/MODEL_CARD.md]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    card: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgument,
}

/// Writes the page and the card.
///
/// # Errors
///
/// If the folder holds no report, the dense model cannot be read, or a file cannot be written.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    check_finished(&arguments.compressed)?;
    let Finished { path, report, run } = Finished::load(&arguments.compressed)?;
    let others = arguments.with.iter().map(|path| Finished::load(path)).collect::<Result<Vec<_>, _>>()?;
    if let Some(other) = others.iter().find(|other| other.report.source != report.source) {
        let (first, other) = (path.display(), other.path.display());
        return Err(Failure::usage(format!(
            "{other} was not made of the same model as {first}; leave it out of --with"
        )));
    }
    let others: Vec<_> = others.into_iter().map(|other| (other.report, other.run)).collect();
    let spectra = match &arguments.dense {
        Some(dense) => spectra(&open(dense)?, &report, &device::from_name(&arguments.device.device)?)?,
        None => Vec::new(),
    };
    let page = Page { run: Some(&run), spectra: &spectra, others: &others, ..Page::new(&report) };
    let page_path = arguments.output.clone().unwrap_or_else(|| path.join("report.html"));
    let card_path = arguments.card.clone().unwrap_or_else(|| path.join("MODEL_CARD.md"));
    write(&page_path, &html(&page))?;
    write(&card_path, &model_card(&report, Some(&run)))?;
    let [page, card] = [page_path, card_path].map(|path| path.display().to_string());
    Answer::new(
        format!("wrote {page} and {card}\n"),
        &json!({ "page": page, "card": card, "report": report, "run": run }),
    )
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let unwritable = |error| Failure::new(format!("cannot write {}: {error}; choose another file", path.display()));
    files::replace(path, text.as_bytes()).map_err(unwritable)
}
