//! Several structures side by side: a table, JSON and a plot of accuracy against relative FLOPs.

mod plot;
mod report;

pub use plot::{ReportError, plot};
pub use report::{Report, Row};
