//! The table of the error of inner products, as the example `inner_products` writes it.

use super::files::Recorded;
use super::language::Origin;
use super::table;
use serde::Deserialize;

/// What is used of `products.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Products {
    /// Where it is from.
    #[serde(flatten)]
    pub origin: Origin,
    /// The vectors, in words.
    about: String,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
struct Row {
    weights: String,
    method: String,
    reduction: usize,
    bits: u32,
    ratio: f64,
    measured: f64,
    expected: f64,
}

/// All that the page says of it, from the least compression to the most.
pub fn section(file: &Recorded<Products>) -> String {
    let Products { origin, about, rows } = &file.results;
    let mut rows: Vec<&Row> = rows.iter().collect();
    rows.sort_by(|a, b| {
        (&b.weights, a.ratio, &a.method).partial_cmp(&(&a.weights, b.ratio, &b.method)).expect("finite")
    });
    let line = |row: &&Row| {
        vec![
            row.weights.clone(),
            format!("{:.1}", row.ratio),
            row.method.clone(),
            row.reduction.to_string(),
            row.bits.to_string(),
            format!("{:.1e}", row.measured),
            format!("{:.1e}", row.expected),
        ]
    };
    let head = ["weights", "compression", "method", "features a weight", "bits", "squared error", "by the formula"];
    format!(
        "\nThe error of inner products `<w, x>`, squared and relative to `|w|² |x|²`: {about} [Plot](products.svg).\n{}{}",
        origin.line(file),
        table(&head, &rows.iter().map(line).collect::<Vec<_>>())
    )
}
