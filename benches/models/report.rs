//! The figures of whole models as a table.

use crate::harness::measure::Time;
use crate::record::{Results, Row};

/// The machine and the names of the columns.
pub fn head(results: &Results) -> String {
    format!(
        "{}; {} s for each figure\n\n\
         | device | model | structure | parameters | FLOPs of the replaced layers | inference a second | spread | faster | \
         training a second | spread | faster | memory of a step |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        results.machine.line(),
        results.seconds
    )
}

/// One line of the table; `first` is what the row is compared to.
pub fn line(row: &Row, first: &Row) -> String {
    let speed = |time: &Time, other: &Time| {
        format!(
            "{:.1} {} | ±{:.0} % | {:.2}x",
            row.per_second(time),
            row.unit,
            100.0 * time.spread(),
            other.median_ms / time.median_ms
        )
    };
    format!(
        "| {} | {} | {} | {:.2} M | {:.0} % | {} | {} | {:.1} MiB |\n",
        row.device,
        row.workload,
        row.structure,
        row.params as f64 / 1e6,
        100.0 * row.flops_ratio,
        speed(&row.inference, &first.inference),
        speed(&row.training, &first.training),
        row.step_bytes as f64 / f64::from(1 << 20)
    )
}
