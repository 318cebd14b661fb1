//! The table: one line for each figure, all devices and programs together.

use super::record::{Bound, Candidate, Results, Role, Row};
use std::fmt::Write;

/// The whole report of several files, as Markdown.
pub fn report(files: &[Results]) -> String {
    let lines = files.iter().flat_map(|results| results.rows.iter().map(|row| line(results, row)));
    head(files) + &lines.collect::<String>() + &strategies(files) + &foot(files)
}

/// What comes before the lines: the programs, machines and peaks, and the names of the columns.
pub fn head(files: &[Results]) -> String {
    let mut text = String::new();
    for results in files {
        let _ = writeln!(
            text,
            "{}; {}; {} s for each figure, {} MiB rotated through",
            results.program,
            results.machine.line(),
            results.seconds,
            results.rotation_mib
        );
    }
    text.push('\n');
    text += &peaks(files);
    text + COLUMNS
}

/// What comes after the lines: how to read them, and what was not run.
pub fn foot(files: &[Results]) -> String {
    format!("{NOTES}{}{}", beyond(files), not_run(files))
}

/// The rows whose speed-up the parameter ratio does not explain.
fn beyond(files: &[Results]) -> String {
    let rows = files.iter().flat_map(|results| &results.rows).filter(|row| row.is_beyond_ratio());
    let lines: String = rows
        .map(|row| {
            let speed_up = row.speed_up().unwrap_or_default();
            let (layer, ratio) = (row.layer(), 1.0 / row.params_ratio);
            format!(
                "- {layer} {}, {} tokens, {}: {speed_up:.2}x, the ratio is {ratio:.2}\n",
                row.structure, row.tokens, row.pass
            )
        })
        .collect();
    if lines.is_empty() {
        return lines;
    }
    format!(
        "\n‡ Beyond what the parameter ratio explains (above 1.05 / ratio); to be checked by hand before it is published:\n\n{lines}"
    )
}

fn not_run(files: &[Results]) -> String {
    let missing: Vec<String> =
        files.iter().flat_map(|results| &results.not_run).map(|line| format!("- {line}\n")).collect();
    if missing.is_empty() { String::new() } else { format!("\nNot run:\n\n{}", missing.concat()) }
}

const COLUMNS: &str = "\
| device | dtype | layer | structure | weights | tokens | pass | dense, ms | of peak | by | reference, ms | structured, ms | of peak | spread | speed-up | over reference |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
";

const STRATEGY_COLUMNS: &str = "
| device | dtype | layer | structure | tokens | pass | layer, ms | strategies, ms |
|---|---|---|---|---|---|---|---|
";

const NOTES: &str = "
Dense is the fastest of all dense candidates of that line, reference the same product in plain operations. \"Of peak\" is the least
time at the measured peaks, for arithmetic (F) or memory (B), whichever is longer, divided by the time. Spread is half of the
range between the quartiles.
";

/// The strategies that were timed by themselves, beside the layer that chooses one; nothing if there were none.
pub fn strategies(files: &[Results]) -> String {
    let rows = files.iter().flat_map(|results| results.rows.iter().map(move |row| (results, row)));
    let lines: String = rows
        .filter(|(_, row)| row.best(Role::Strategy).is_some())
        .map(|(results, row)| {
            let ms = |candidate: &Candidate| format!("{} {}", candidate.name, figure(candidate.time.median_ms));
            let of_role = |role: Role| row.candidates.iter().filter(move |candidate| candidate.role == role);
            let timed: Vec<String> = of_role(Role::Strategy).map(ms).collect();
            let layer = row.best(Role::Structured).map_or("–".into(), |layer| figure(layer.time.median_ms));
            format!(
                "| {} | {} | {}→{} | {} | {} | {} | {layer} | {} |\n",
                device(results, row),
                row.dtype,
                row.d_input,
                row.d_output,
                row.structure,
                row.tokens,
                row.pass,
                timed.join(", ")
            )
        })
        .collect();
    if lines.is_empty() { lines } else { format!("{STRATEGY_COLUMNS}{lines}") }
}

/// One line of the table.
pub fn line(results: &Results, row: &Row) -> String {
    let best = |role| row.best(role);
    let (dense, structured, reference) = (best(Role::Dense), best(Role::Structured), best(Role::Reference));
    let ms =
        |candidate: Option<&Candidate>| candidate.map_or("–".into(), |candidate| figure(candidate.time.median_ms));
    let reached = |candidate: Option<&Candidate>, work| {
        let roofline = results.roofline(row, work).zip(candidate);
        roofline.map_or("–".into(), |((bound_ms, bound), candidate)| {
            let letter = if bound == Bound::Flops { 'F' } else { 'B' };
            format!("{:.0} % {letter}", 100.0 * bound_ms / candidate.time.median_ms)
        })
    };
    let over_reference =
        reference.zip(structured).map(|(reference, structured)| reference.time.median_ms / structured.time.median_ms);
    let times = |ratio: Option<f64>| ratio.map_or("–".into(), |ratio| format!("{ratio:.2}x"));
    format!(
        "| {} | {} | {}→{} | {} | {:.0} % | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |\n",
        device(results, row),
        row.dtype,
        row.d_input,
        row.d_output,
        row.structure,
        100.0 * row.params_ratio,
        row.tokens,
        row.pass,
        ms(dense),
        reached(dense, row.dense_work),
        dense.map_or("–", |dense| dense.name.as_str()),
        ms(reference),
        ms(structured),
        reached(structured, row.work),
        structured.map_or("–".into(), |structured| format!("±{:.0} %", 100.0 * structured.time.spread())),
        times(row.speed_up()) + if row.is_beyond_ratio() { " ‡" } else { "" },
        times(over_reference),
    )
}

/// The device, and the program unless it is this one.
pub fn device(results: &Results, row: &Row) -> String {
    match results.program.strip_prefix("burn-structured") {
        Some(_) => row.device.clone(),
        None => format!("{}, {}", results.program.split(" (").next().unwrap_or_default(), row.device),
    }
}

/// Three digits.
pub fn figure(ms: f64) -> String {
    let decimals = (2 - ms.abs().max(1e-9).log10().floor() as i32).clamp(0, 5) as usize;
    format!("{ms:.decimals$}")
}

fn peaks(files: &[Results]) -> String {
    let mut text = String::from(
        "| device | dtype | peak, GFLOP/s | of | peak, GB/s | of | calls in a row |\n|---|---|---|---|---|---|---|\n",
    );
    for peak in files.iter().flat_map(|results| &results.peaks) {
        let _ = writeln!(
            text,
            "| {} | {} | {:.0} | {} | {:.1} | {} | {} |",
            peak.device,
            peak.dtype,
            peak.flops_per_second / 1e9,
            peak.flops_of,
            peak.bytes_per_second / 1e9,
            peak.bytes_of,
            peak.calls
        );
    }
    text.push('\n');
    text
}
