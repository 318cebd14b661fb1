//! The tables of layers: newest speed-ups, their ranges over all recorded runs, and which of them had to be checked by hand.

use super::files::{Folder, Recorded};
use super::{source, table};
use crate::arguments::{Layer, Pass};
use crate::catalogue;
use crate::plot;
use crate::record::{OWN_DENSE, Results, Role, Row};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Layers that a cell has figures of.
const MOST_LAYERS: usize = 3;

/// Figures beyond the parameter ratio that were checked by hand: `checked.json`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checked {
    rows: Vec<Finding>,
}

/// What was found for rows; a field that is missing fits every row.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Finding {
    layer: Option<String>,
    structure: Option<String>,
    tokens: Option<usize>,
    pass: Option<Pass>,
    finding: String,
}

impl Finding {
    fn fits(&self, row: &Row) -> bool {
        self.layer.as_ref().is_none_or(|layer| *layer == row.layer().to_string())
            && self.structure.as_ref().is_none_or(|structure| *structure == row.structure)
            && self.tokens.is_none_or(|tokens| tokens == row.tokens)
            && self.pass.is_none_or(|pass| pass == row.pass)
    }
}

/// One file of the newest row of every kind. `None` without files.
pub fn newest(files: &[Recorded<Results>]) -> Option<Results> {
    let mut newest = files.last()?.results.clone();
    let older = files.iter().rev().skip(1).flat_map(|file| &file.results.rows);
    for row in older {
        if !newest.rows.iter().any(|other| other.is_like(row)) {
            newest.rows.push(row.clone());
        }
    }
    Some(newest)
}

/// All that the page says of the layers of a machine.
pub fn section(folder: &Folder, newest: &Results) -> Result<String, String> {
    let grid = Grid::of(newest)?;
    let layers: Vec<String> = grid.main.iter().map(|layer| arrow(*layer)).collect();
    let peaks: Vec<String> = newest.peaks.iter().map(peak).collect();
    let mut text = format!(
        "\n### Layers, times as fast as the fastest dense layer\n\n{}; by tokens, forward unless said otherwise; measured peaks: {}.\n",
        layers.join(" / "),
        peaks.join(", ")
    );
    for file in &folder.layers {
        text += &source(file, &file.results.program, &file.results.measured, &file.results.command);
    }
    let own = |row: &&Row| row.candidates.iter().any(|candidate| candidate.name.starts_with(OWN_DENSE));
    if newest.rows.iter().any(|row| row.device == "flex" && !own(&row)) {
        text += "- Some rows were measured before the dense layers included this crate's own dense kernels.\n";
    }
    text += &grid.table(newest.rows.iter(), true, |rows| {
        let row = rows.last()?;
        Some(format!("{:.2}{}", row.speed_up()?, if row.is_beyond_ratio() { "‡" } else { "" }))
    });
    text += &beyond(newest, &folder.checked);
    if folder.layers.len() > 1 {
        let all = || folder.layers.iter().flat_map(|file| &file.results.rows);
        text += &format!(
            "\nRanges over the {} recorded runs, as far as a row was measured more than once:\n",
            folder.layers.len()
        );
        text += &grid.table(all(), false, |rows| {
            let speed_ups = || rows.iter().filter_map(|row| row.speed_up());
            let (low, high) = (speed_ups().fold(f64::INFINITY, f64::min), speed_ups().fold(0.0, f64::max));
            (rows.len() > 1).then(|| format!("{low:.2}–{high:.2}"))
        });
    }
    for (name, title) in [(plot::SPEED_UP, "Speed-up against parameters"), (plot::TIME, "Time against tokens")] {
        let _ = write!(text, "{}[{title}]({name})", if name == plot::TIME { ", " } else { "\nPlots: " });
    }
    Ok(text + ".\n")
}

fn peak(peak: &crate::record::Peak) -> String {
    let (flops, bytes) = (peak.flops_per_second / 1e9, peak.bytes_per_second / 1e9);
    format!("{flops:.0} GFLOP/s and {bytes:.0} GB/s ({}, {})", peak.device, peak.dtype)
}

/// The rows that the parameter ratio does not explain, and what was found of them.
fn beyond(newest: &Results, checked: &Checked) -> String {
    let rows: Vec<&Row> = newest.rows.iter().filter(|row| row.is_beyond_ratio()).collect();
    if rows.is_empty() {
        return String::new();
    }
    let finding = |row: &Row| checked.rows.iter().find(|finding| finding.fits(row)).map(|found| found.finding.as_str());
    let list = |of: Option<&str>| -> Vec<String> {
        rows.iter().filter(|row| finding(row) == of).map(|row| label(row)).collect()
    };
    let mut text = String::from("\n‡ beyond what the parameter ratio explains, that is above 1.05 / ratio.");
    let mut findings: Vec<&str> = checked.rows.iter().map(|found| found.finding.as_str()).collect();
    findings.dedup();
    for found in findings {
        let rows = list(Some(found));
        if !rows.is_empty() {
            let _ = write!(text, " Checked by hand: {found} ({}).", rows.join("; "));
        }
    }
    let unchecked = list(None);
    if !unchecked.is_empty() {
        let _ = write!(text, " **Not checked by hand yet, not to be quoted:** {}.", unchecked.join("; "));
    }
    text + "\n"
}

/// A row in words.
pub fn label(row: &Row) -> String {
    let pass = if row.pass == Pass::Forward { String::new() } else { format!(", {}", row.pass) };
    format!("{} `{}` {}{pass}", arrow(row.layer()), row.structure, row.tokens)
}

/// `768→3072`.
pub fn arrow(layer: Layer) -> String {
    format!("{}→{}", layer.d_input, layer.d_output)
}

/// What the rows and columns of a table are.
pub struct Grid {
    /// The layers that most rows are of, in the order of their sizes: the figures of a cell.
    pub main: Vec<Layer>,
    /// All others.
    others: Vec<Layer>,
    /// Structures, in the order of the catalogue, each on a device in a dtype.
    lines: Vec<(String, String, String)>,
    columns: BTreeSet<(Pass, usize)>,
}

impl Grid {
    /// The grid that holds all rows of `results`.
    pub fn of(results: &Results) -> Result<Self, String> {
        let catalogue = catalogue::structures()?;
        let place =
            |structure: &String| catalogue.iter().position(|other| other == structure).unwrap_or(catalogue.len());
        let (mut layers, mut lines): (Vec<(usize, Layer)>, Vec<_>) = (Vec::new(), Vec::new());
        for row in &results.rows {
            match layers.iter_mut().find(|(_, layer)| *layer == row.layer()) {
                Some((count, _)) => *count += 1,
                None => layers.push((1, row.layer())),
            }
            let line = (row.structure.clone(), row.device.clone(), row.dtype.clone());
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        lines.sort_by_key(|(structure, device, dtype)| {
            (device.clone(), dtype.clone(), place(structure), structure.clone())
        });
        let by_size = |layer: &Layer| (layer.d_input * layer.d_output, layer.d_input);
        layers.sort_by_key(|(count, layer)| (usize::MAX - count, by_size(layer)));
        let most = layers.first().map_or(0, |(count, _)| *count);
        let is_main = |at: usize, count: usize| at < MOST_LAYERS && 3 * count >= most;
        let of = |wanted: bool| {
            let kept = layers.iter().enumerate().filter(|(at, (count, _))| is_main(*at, *count) == wanted);
            let mut kept: Vec<Layer> = kept.map(|(_, (_, layer))| *layer).collect();
            kept.sort_by_key(by_size);
            kept
        };
        let (main, others) = (of(true), of(false));
        let columns = results.rows.iter().map(|row| (row.pass, row.tokens)).collect();
        Ok(Self { main, others, lines, columns })
    }

    /// The table of `cell` of the rows that are alike, oldest first; with a line for layers that are not the main ones if `all`.
    pub fn table<'a>(
        &self,
        rows: impl Iterator<Item = &'a Row>,
        all: bool,
        cell: impl Fn(&[&Row]) -> Option<String>,
    ) -> String {
        let rows: Vec<&Row> = rows.collect();
        let mut head = vec!["structure".to_string(), "weights".to_string()];
        head.extend(self.columns.iter().map(|(pass, tokens)| match pass {
            Pass::Forward => tokens.to_string(),
            Pass::ForwardBackward => format!("{tokens}, {pass}"),
        }));
        let mut lines = Vec::new();
        let several =
            |of: fn(&(String, String, String)) -> &String| self.lines.iter().map(of).collect::<BTreeSet<_>>().len() > 1;
        let (devices, dtypes) = (several(|line| &line.1), several(|line| &line.2));
        for (structure, device, dtype) in &self.lines {
            for (layers, main) in [(&self.main, true), (&self.others, false)] {
                if !main && !all {
                    continue;
                }
                let of = |row: &&&Row| (&row.structure, &row.device, &row.dtype) == (structure, device, dtype);
                let own: Vec<&Row> =
                    rows.iter().filter(of).filter(|row| layers.contains(&row.layer())).copied().collect();
                let cells: Vec<String> = self
                    .columns
                    .iter()
                    .map(|column| {
                        let figures = layers.iter().map(|layer| {
                            let alike =
                                own.iter().filter(|row| row.layer() == *layer && (row.pass, row.tokens) == *column);
                            cell(&alike.copied().collect::<Vec<_>>())
                        });
                        joined(figures.collect())
                    })
                    .collect();
                if cells.iter().all(String::is_empty) {
                    continue;
                }
                let mut line = format!("`{structure}`");
                for (shown, text) in [(devices, device), (dtypes, dtype)] {
                    if shown {
                        let _ = write!(line, ", {text}");
                    }
                }
                if !main {
                    let layers: Vec<String> = layers.iter().map(|layer| arrow(*layer)).collect();
                    let _ = write!(line, ", {}", layers.join(" / "));
                }
                lines.push([vec![line, format!("{:.0} %", 100.0 * own[0].params_ratio)], cells].concat());
            }
        }
        table(&head, &lines)
    }
}

/// `2.41 / – / 2.55`, nothing for nothing.
fn joined(mut figures: Vec<Option<String>>) -> String {
    while figures.last().is_some_and(Option::is_none) {
        figures.pop();
    }
    figures.into_iter().map(|figure| figure.unwrap_or_else(|| "–".into())).collect::<Vec<_>>().join(" / ")
}

/// The time of a role, where it was measured.
pub fn time(row: &Row, role: Role) -> Option<f64> {
    Some(row.best(role)?.time.median_ms)
}
