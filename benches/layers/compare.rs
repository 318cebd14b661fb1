//! Recorded runs beside each other: each row's time before over its time after, and their geometric means.

use super::record::{Results, Role, Row};
use super::report::figure;
use super::summary::ablation::{Ablation, Ratio, Variant};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

/// Compares the files `before` with those `after`, each a list with commas in between, whose medians count.
///
/// # Errors
///
/// If a file cannot be read, or no row is in both.
pub fn compare(before: &str, after: &str) -> Result<(String, Ablation), String> {
    let read = |list: &str| list.split(',').map(|path| Results::read(Path::new(path))).collect::<Result<Vec<_>, _>>();
    let (before, after) = (read(before)?, read(after)?);
    let mut ratios = Vec::new();
    let mut control = Vec::new();
    let mut text = String::from(
        "| device | dtype | layer | structure | tokens | pass | before, ms | after, ms | before / after |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in &before[0].rows {
        let pair = |time: fn(&Row) -> Option<f64>| median(&before, row, time).zip(median(&after, row, time));
        let Some((old, new)) = pair(structured) else { continue };
        control.extend(pair(library).map(|(old, new)| old / new));
        let (layer, ratio) = (row.layer(), old / new);
        let _ = writeln!(
            text,
            "| {} | {} | {layer} | {} | {} | {} | {} | {} | {ratio:.3} |",
            row.device,
            row.dtype,
            row.structure,
            row.tokens,
            row.pass,
            figure(old),
            figure(new)
        );
        let (structure, tokens, pass) = (row.structure.clone(), row.tokens, row.pass);
        ratios.push(Ratio { layer: layer.to_string(), structure, tokens, pass, ratio });
    }
    let all = geometric_mean(ratios.iter().map(|row| row.ratio)).ok_or("no row is in both")?;
    text += "\n| tokens | pass | rows | geometric mean of before / after |\n|---|---|---|---|\n";
    let groups: BTreeSet<_> = ratios.iter().map(|row| (row.pass, row.tokens)).collect();
    for (pass, tokens) in groups {
        let of: Vec<f64> =
            ratios.iter().filter(|row| (row.pass, row.tokens) == (pass, tokens)).map(|row| row.ratio).collect();
        let mean = geometric_mean(of.iter().copied()).unwrap_or(1.0);
        let _ = writeln!(text, "| {tokens} | {pass} | {} | {mean:.3} |", of.len());
    }
    let _ = writeln!(text, "| all | all | {} | {all:.3} |", ratios.len());
    if let Some(control) = geometric_mean(control.into_iter()) {
        let _ = writeln!(text, "\nAbove 1, after is faster. The libraries, which did not change: {control:.3}.");
    }
    let variant = Variant {
        name: String::new(),
        what: String::new(),
        geometric_mean: all,
        spread: spread(&ratios),
        rows: ratios,
        decision: String::new(),
    };
    let ablation = Ablation {
        format: 1,
        program: after[0].program.clone(),
        machine: after[0].machine.line(),
        command: after[0].command.clone(),
        variants: vec![variant],
    };
    Ok((text, ablation))
}

fn structured(row: &Row) -> Option<f64> {
    Some(row.best(Role::Structured)?.time.median_ms)
}

/// The fastest dense candidate that is not this crate's: what it changes by is the machine.
fn library(row: &Row) -> Option<f64> {
    let others = row.candidates.iter().filter(|candidate| candidate.role == Role::Dense);
    let libraries = others.filter(|candidate| candidate.name.starts_with("gemm") || candidate.name.starts_with("faer"));
    libraries.map(|candidate| candidate.time.median_ms).min_by(f64::total_cmp)
}

fn median(files: &[Results], row: &Row, time: fn(&Row) -> Option<f64>) -> Option<f64> {
    let rows = files.iter().filter_map(|file| file.rows.iter().find(|other| other.is_like(row)));
    let mut times: Vec<f64> = rows.filter_map(time).collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// Of numbers above 0. `None` of none.
pub fn geometric_mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let logarithms: Vec<f64> = values.map(f64::ln).collect();
    (!logarithms.is_empty()).then(|| (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp())
}

fn spread(ratios: &[Ratio]) -> f64 {
    let mut values: Vec<f64> = ratios.iter().map(|row| row.ratio).collect();
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    (at(0.75) - at(0.25)) / 2.0
}
