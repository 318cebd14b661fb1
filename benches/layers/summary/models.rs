//! The table of whole models.

use super::files::Recorded;
use super::{source, table};

/// The files of `benches/models`.
#[path = "../../models/record.rs"]
pub mod recorded;

use recorded::{Results, Row};

/// All that the page says of whole models: the newest file.
pub fn section(file: &Recorded<Results>) -> String {
    let results = &file.results;
    let (mut workloads, mut structures): (Vec<(&str, &str, &str)>, Vec<&str>) = (Vec::new(), Vec::new());
    for row in &results.rows {
        let workload = (row.workload.as_str(), row.device.as_str(), row.unit.as_str());
        if !workloads.contains(&workload) {
            workloads.push(workload);
        }
        if !structures.contains(&row.structure.as_str()) {
            structures.push(&row.structure);
        }
    }
    let mut head = vec!["structure".to_string()];
    head.extend(workloads.iter().map(|(workload, device, unit)| format!("{workload}, {unit}/s, {device}")));
    let cell = |workload: &(&str, &str, &str), structure: &str| {
        let in_workload = |row: &&Row| (row.workload.as_str(), row.device.as_str()) == (workload.0, workload.1);
        let mut rows = results.rows.iter().filter(in_workload);
        let first = rows.clone().next()?;
        let row = rows.find(|row| row.structure == structure)?;
        let memory = row.step_bytes as f64 / f64::from(1 << 20);
        Some(match std::ptr::eq(row, first) {
            true => {
                let (inference, training) = (row.per_second(&row.inference), row.per_second(&row.training));
                format!("{inference:.0}, {training:.1}; {memory:.0} MiB")
            }
            false => {
                let inference = first.inference.median_ms / row.inference.median_ms;
                let training = first.training.median_ms / row.training.median_ms;
                format!("{inference:.2}x, {training:.2}x; {memory:.0} MiB")
            }
        })
    };
    let line = |structure: &&str| {
        let cells = workloads.iter().map(|workload| cell(workload, structure).unwrap_or_default());
        std::iter::once(format!("`{structure}`")).chain(cells).collect()
    };
    let lines: Vec<Vec<String>> = structures.iter().map(line).collect();
    format!(
        "\n### Whole models, inference, training; memory of a training step\n\n\
         The first line in images or tokens a second, the others relative to it.\n{}{}",
        source(file, &results.program, &results.measured, &results.command),
        table(&head, &lines)
    )
}
