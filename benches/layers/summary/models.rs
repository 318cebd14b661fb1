//! The tables of whole models, beside other programs.

use super::files::Recorded;
use super::{source, table};
use crate::candidates::is_a_processor;
use crate::plot_models::PLOT;

/// The files of `benches/models`.
#[path = "../../models/record.rs"]
pub mod recorded;

use recorded::{Results, Row};

/// One pass of one model in all programs and structures.
#[derive(Debug)]
pub struct Pass<'a> {
    /// The row of each structure.
    pub own: Vec<&'a Row>,
    /// PyTorch, the better of eager and compiled; ONNX Runtime in f32; in int8.
    pub others: [Option<&'a Row>; 3],
}

/// What [`Pass::others`] are called.
pub const OTHERS: [&str; 3] = ["PyTorch", "ONNX Runtime", "ONNX Runtime, int8"];

impl Pass<'_> {
    /// The model, the pass and, beside several devices, the device.
    pub fn row(&self) -> &Row {
        self.own[0]
    }

    fn structures(&self) -> Vec<&str> {
        self.own.iter().map(|row| row.structure.as_str()).collect()
    }
}

/// The passes that this program measured, each model's from the newest file that has it, with what others need for them.
pub fn passes<'a>(own: &'a [Recorded<Results>], others: &'a [Recorded<Results>]) -> Vec<Pass<'a>> {
    let others: Vec<&Row> = newest(others).flat_map(|(_, rows)| rows).collect();
    let mut passes: Vec<Pass<'_>> = Vec::new();
    for row in newest(own).flat_map(|(_, rows)| rows) {
        match passes.iter_mut().find(|pass| pass.row().is_pass_of(row) && pass.row().device == row.device) {
            Some(pass) => pass.own.push(row),
            None => {
                let fits = |other: &&&Row| {
                    other.is_pass_of(row) && is_a_processor(&other.device) == is_a_processor(&row.device)
                };
                let fastest = |variant: &str| {
                    let rows = others.iter().filter(fits).filter(|other| other.variant.starts_with(variant));
                    rows.min_by(|a, b| a.time.median_ms.total_cmp(&b.time.median_ms)).copied()
                };
                let others = ["pytorch", "onnxruntime f32", "onnxruntime int8"].map(fastest);
                passes.push(Pass { own: vec![row], others });
            }
        }
    }
    passes
}

/// Every file, oldest first, with the rows of the models that no newer one has.
fn newest(files: &[Recorded<Results>]) -> impl Iterator<Item = (&Recorded<Results>, Vec<&Row>)> {
    files.iter().enumerate().map(|(index, file)| {
        let newer = |row: &Row| {
            files[index + 1..].iter().flat_map(|file| &file.results.rows).any(|other| {
                (&other.workload, is_a_processor(&other.device)) == (&row.workload, is_a_processor(&row.device))
            })
        };
        (file, file.results.rows.iter().filter(|row| !newer(row)).collect())
    })
}

/// All that the page says of whole models; models of the same structures share a table.
pub fn section(own: &[Recorded<Results>], others: &[Recorded<Results>]) -> String {
    let passes = passes(own, others);
    if passes.is_empty() {
        return String::new();
    }
    let is_beside = passes.iter().any(|pass| pass.others.iter().any(Option::is_some));
    let mut structures: Vec<Vec<&str>> = Vec::new();
    for pass in &passes {
        if !structures.contains(&pass.structures()) {
            structures.push(pass.structures());
        }
    }
    let tables: String = structures
        .iter()
        .map(|structures| {
            let passes = passes.iter().filter(|pass| pass.structures() == *structures);
            let mut head = vec!["model, a second".to_string(), "pass".into()];
            head.extend(OTHERS.iter().filter(|_| is_beside).map(|name| format!("{name}, dense")));
            head.extend(structures.iter().map(|structure| format!("`{structure}`")));
            table(&head, &passes.map(|pass| line(pass, is_beside)).collect::<Vec<_>>())
        })
        .collect();
    let programs: String = [own, others]
        .into_iter()
        .flat_map(newest)
        .filter(|(_, rows)| !rows.is_empty())
        .map(|(file, _)| {
            let results = &file.results;
            source(file, &results.program, &results.measured, &results.command)
        })
        .collect();
    let compared = match is_beside {
        true => {
            "PyTorch (the better of eager and compiled), ONNX Runtime and its int8, in this order, as far as they have the pass"
        }
        false => "the first structure",
    };
    format!(
        "\n### Whole models\n\nImages, tokens or sentences a second; in brackets times as fast as {compared}; then the peak memory of a \
         pass beyond weights and optimizer state. [Plot]({PLOT}).\n{programs}{tables}"
    )
}

fn line(pass: &Pass<'_>, is_beside: bool) -> Vec<String> {
    let row = pass.row();
    let mut cells = vec![format!("{}, {}", row.workload, row.unit), row.pass.clone()];
    if is_beside {
        let other = |row: &Option<&Row>| {
            row.map_or_else(String::new, |row| {
                let how = if row.variant == "pytorch compiled" { " (compiled)" } else { "" };
                format!("{}{how}{}", speed(row), memory(row))
            })
        };
        cells.extend(pass.others.iter().map(other));
    }
    let references: Vec<&Row> = match is_beside {
        true => pass.others.iter().flatten().copied().collect(),
        false => vec![row],
    };
    cells.extend(pass.own.iter().map(|row| {
        let ratios: Vec<String> = references.iter().map(|other| format!("{:.2}", faster(row, other))).collect();
        let ratios = if ratios.is_empty() { String::new() } else { format!(" ({})", ratios.join(", ")) };
        format!("{}{ratios}{}", speed(row), memory(row))
    }));
    cells
}

/// How many times as fast `row` is as `other`.
pub fn faster(row: &Row, other: &Row) -> f64 {
    row.per_second() / other.per_second()
}

fn speed(row: &Row) -> String {
    let per_second = row.per_second();
    if per_second < 100.0 { format!("{per_second:.1}") } else { format!("{per_second:.0}") }
}

fn memory(row: &Row) -> String {
    row.peak_bytes.map_or_else(String::new, |bytes| format!("; {:.0} MiB", bytes as f64 / f64::from(1 << 20)))
}
