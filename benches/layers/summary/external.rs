//! Layers of another program beside this one's, as ratios of times.

use super::files::Recorded;
use super::layers::{Grid, arrow, time};
use super::source;
use crate::candidates::is_a_processor;
use crate::record::{Results, Role, Row};

/// The times of `external` over those of `own`: dense layers first, then structures.
pub fn section(external: &Recorded<Results>, own: &Results) -> String {
    let results = &external.results;
    let fits = |other: &&Row, row: &Row| {
        (other.layer(), other.tokens, other.pass) == (row.layer(), row.tokens, row.pass)
            && (&other.structure, &other.dtype) == (&row.structure, &row.dtype)
            && is_a_processor(&other.device) == is_a_processor(&row.device)
    };
    let ratio = |row: &Row, role: Role| {
        let other = own.rows.iter().find(|other| fits(other, row))?;
        Some(format!("{:.2}", time(row, role)? / time(other, role)?))
    };
    let Ok(grid) = Grid::of(results) else { return String::new() };
    let layers: Vec<String> = grid.main.iter().map(|layer| arrow(*layer)).collect();
    let structured = grid.table(results.rows.iter(), true, |rows| ratio(rows.last()?, Role::Structured));
    // Every structure is beside the same dense layer: one line for all of them.
    let mut seen: Vec<Row> = Vec::new();
    for row in &results.rows {
        let dense = Row { structure: "dense".into(), params_ratio: 1.0, ..row.clone() };
        if !seen
            .iter()
            .any(|other| (other.layer(), other.tokens, other.pass) == (dense.layer(), dense.tokens, dense.pass))
        {
            seen.push(dense);
        }
    }
    let dense = Results { rows: seen, ..results.clone() };
    let dense_ratio = |row: &Row| {
        let at = |other: &&Row| {
            (other.layer(), other.tokens, other.pass, &other.dtype) == (row.layer(), row.tokens, row.pass, &row.dtype)
        };
        let other =
            own.rows.iter().filter(|other| is_a_processor(&other.device) == is_a_processor(&row.device)).find(at)?;
        Some(format!("{:.2}", time(row, Role::Dense)? / time(other, Role::Dense)?))
    };
    let dense = Grid::of(&dense)
        .map_or_else(|_| String::new(), |grid| grid.table(dense.rows.iter(), true, |rows| dense_ratio(rows.last()?)));
    // The second table goes on with the first one's columns.
    let more: String = structured.lines().skip(3).map(|line| format!("{line}\n")).collect();
    if dense.is_empty() && more.is_empty() {
        return String::new();
    }
    format!(
        "\n### Beside {}, its time over ours\n\n{}; the fastest of its variants over the fastest of ours, above 1 where ours is faster.\n{}{dense}{more}",
        results.program.split(" (").next().unwrap_or(&results.program),
        layers.join(" / "),
        source(external, &results.program, &results.measured, &results.command),
    )
}
