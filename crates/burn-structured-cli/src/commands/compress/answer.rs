//! What a finished run prints.

use super::Answer;
use crate::failure::Failure;
use crate::format::{bytes, count, error, percent, seconds};
use crate::table::Table;
use burn_structured_compress::pipeline::Finished;
use burn_structured_compress::report::Report;
use serde_json::json;
use std::path::Path;

/// The layers, the blocks and the totals of a run on the dense model at `dense`.
///
/// # Errors
///
/// If the report has no JSON form.
pub fn new(finished: &Finished, dense: &Path) -> Result<Answer, Failure> {
    let Finished { path, report, run } = finished;
    let value = json!({ "output": path.display().to_string(), "report": report, "run": run });
    let memory = run.peak_memory.map_or_else(String::new, |peak| format!(", {} of memory at most", bytes(peak)));
    let mut text = layers(report);
    if !report.blocks.is_empty() {
        text += &format!("\n{}", blocks(report));
    }
    text += &format!("\n{}", totals(report));
    text += &format!(
        "\nwrote {path} in {}{memory}\nnext: burn-structured verify {path} --dense {}\n",
        seconds(run.seconds),
        dense.display(),
        path = path.display(),
    );
    Answer::new(text, &value)
}

fn layers(report: &Report) -> String {
    let mut table = Table::new(&["layer", "structure", ">params", "", ">weight error", ">output error"]);
    let error = |error: Option<f64>| error.map_or_else(|| "-".to_string(), |error| format!("{error:.3}"));
    for layer in report.compressed() {
        table.row([
            layer.name.clone(),
            layer.structure.map_or_else(String::new, |structure| structure.to_string()),
            count(layer.before.params as u64),
            format!("→ {}", count(layer.after.params as u64)),
            error(layer.weight_error),
            error(layer.output_error),
        ]);
    }
    table.to_string()
}

fn blocks(report: &Report) -> String {
    let mut table = Table::new(&["block", ">α", ">output error", ">refined in", ">output error then"]);
    let mut undone = false;
    let mut training = |steps: usize, [before, after]: [f64; 2]| {
        let useless = steps > 0 && after >= before;
        undone |= useless;
        format!("{steps} steps{}", if useless { ", undone" } else { "" })
    };
    for block in &report.blocks {
        let refined = block.refinement.as_ref().map(|refined| (refined.steps, refined.lowered()));
        table.row([
            block.block.to_string(),
            block.alpha.map_or_else(|| "-".to_string(), |alpha| alpha.to_string()),
            error(block.output_error),
            refined.map_or_else(|| "-".to_string(), |(steps, lowered)| training(steps, lowered)),
            refined.map_or_else(|| "-".to_string(), |(_, [_, after])| error(after)),
        ]);
    }
    let mut text = table.to_string();
    if let Some(distilled) = &report.distillation {
        let lowered = distilled.lowered();
        let what = distilled.divergence.map_or("the model's output error", |_| "divergence of the next token");
        let steps = training(distilled.steps, lowered);
        let [before, after] = lowered.map(error);
        text += &format!("distilled in {steps}: {what} {before} → {after}\n");
    }
    if undone {
        text += "undone: training that did not lower the error on held-out text; give it more steps, or more text\n";
    }
    text
}

fn totals(report: &Report) -> String {
    let change = |name: &str, before: u64, after: u64, unit: &dyn Fn(u64) -> String| {
        format!("{name}: {} → {}, {}\n", unit(before), unit(after), percent(after, before))
    };
    let (linear, file) = (&report.linear, &report.file);
    change("weights of the linear layers", linear.before.params as u64, linear.after.params as u64, &count)
        + &change("parameters of the file", file.before.params as u64, file.after.params as u64, &count)
        + &change("bytes of the file", file.before.bytes as u64, file.after.bytes as u64, &bytes)
}
