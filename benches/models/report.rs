//! The figures of whole models as a table.

use crate::record::{Results, Row};

/// The machine and the names of the columns.
pub fn head(results: &Results) -> String {
    format!(
        "{}; {} s for each figure\n\n\
         | device | model | pass | structure | parameters | FLOPs of the replaced layers | a second | spread | faster | peak memory |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
        results.machine.line(),
        results.seconds
    )
}

/// One line of the table; `first` is what the row is compared to.
pub fn line(row: &Row, first: &Row) -> String {
    format!(
        "| {} | {} | {} | {} | {:.2} M | {:.0} % | {:.1} {} | ±{:.0} % | {:.2}x | {} |\n",
        row.device,
        row.workload,
        row.pass,
        row.structure,
        row.params as f64 / 1e6,
        100.0 * row.flops_ratio,
        row.per_second(),
        row.unit,
        100.0 * row.time.spread(),
        first.time.median_ms / row.time.median_ms,
        row.peak_bytes.map_or_else(String::new, |bytes| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)))
    )
}
