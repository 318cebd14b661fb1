//! A model card.

use super::html::{date, duration, grouped, percent};
use super::{Report, RunInfo};
use std::fmt::Write;

/// The card of an output, as Markdown: what it is, how well it does, how it was made and how to load it.
pub fn model_card(report: &Report, run: Option<&RunInfo>) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write_card(&mut text, report, run);
    text
}

fn write_card(text: &mut String, report: &Report, run: Option<&RunInfo>) -> std::fmt::Result {
    let compressed = report.compressed().count();
    writeln!(text, "# {}, compressed\n", inline(&report.model))?;
    writeln!(
        text,
        "{compressed} of {} linear layers are structured matrices with {} of the parameters of the dense model's linear layers, \
         {} of those of the whole file.\n",
        report.layers.len(),
        percent(report.linear.params_share()),
        percent(report.file.params_share())
    )?;
    writeln!(text, "| | dense | compressed |\n|---|---:|---:|")?;
    let (linear, file) = (report.linear, report.file);
    for (name, before, after) in [
        ("parameters of the linear layers", linear.before.params, linear.after.params),
        ("FLOPs a token of the linear layers", linear.before.flops_per_token, linear.after.flops_per_token),
        ("parameters in the file", file.before.params, file.after.params),
        ("bytes of the tensors", file.before.bytes, file.after.bytes),
    ] {
        writeln!(text, "| {name} | {} | {} |", grouped(before), grouped(after))?;
    }
    for score in run.map(|run| run.scores.as_slice()).unwrap_or_default() {
        let dense = score.dense.map(|dense| format!("{dense:.4}")).unwrap_or_default();
        writeln!(text, "| {} | {dense} | {:.4} |", cell(&score.name), score.compressed)?;
    }
    writeln!(
        text,
        "\n## Layers\n\nRelative errors, of the outputs on the inputs of the calibration, if there was one.\n"
    )?;
    writeln!(
        text,
        "| layer | structure | parameters | error of the weight | of the outputs |\n|---|---|---:|---:|---:|"
    )?;
    for layer in &report.layers {
        let structure = layer.structure.map_or_else(|| "dense".to_string(), |structure| structure.to_string());
        let error = |error: Option<f64>| error.map(|error| format!("{error:.4}")).unwrap_or_default();
        let [weight, output] = [layer.weight_error, layer.output_error].map(error);
        let share = percent(layer.after.params as f64 / layer.before.params.max(1) as f64);
        writeln!(text, "| {} | {structure} | {share} | {weight} | {output} |", cell(&layer.name))?;
    }
    writeln!(text, "\n## How it was made\n")?;
    if let Some(command) = run.and_then(|run| run.command.as_deref()) {
        // A fence longer than any in the command.
        let fence = "`".repeat(3 + command.matches('`').count());
        writeln!(text, "{fence}text\n{command}\n{fence}\n")?;
    }
    writeln!(text, "- by {}, {}, seed {}", inline(&report.tool), report.executor, report.seed)?;
    writeln!(text, "- from a dense checkpoint with the fingerprint `{}`", inline(&report.source))?;
    if let Some(found) = report.distillation {
        writeln!(text, "- distilled for {} steps", found.steps)?;
    }
    if let Some(run) = run {
        writeln!(text, "- in {}, finished on {}", duration(run.seconds), date(run.finished))?;
    }
    writeln!(
        text,
        "\n## How to use it\n\n`model.safetensors` describes its layers itself. In Rust:\n\n```rust\n\
         let file = burn_structured::checkpoint::Checkpoint::open(\"this folder\")?;\n\
         for (name, layer) in model.linears_mut() {{\n    \
         *layer = burn_structured::checkpoint::layer(&file, &name, &device)?;\n}}\n```\n\n\
         For any other tool, `burn-structured to-dense` writes the dense weights under their original names."
    )
}

/// Text in a line.
fn inline(text: &str) -> String {
    text.replace(['\n', '\r', '`'], " ").replace('<', "&lt;")
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    inline(text).replace('|', "\\|")
}
