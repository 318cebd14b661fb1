//! The table of how long a language model decodes, for several lengths, as the example `generate` measures it.

use super::files::Recorded;
use super::language::Origin;
use super::table;
use burn_structured::train::comparison::short;
use serde::Deserialize;
use std::collections::BTreeSet;

/// What is used of `decode.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Decoding {
    /// Where it is from.
    #[serde(flatten)]
    pub origin: Origin,
    /// The model, in words.
    about: String,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
struct Row {
    preset: String,
    structures: String,
    new_tokens: usize,
    params: usize,
    relative_flops: f64,
    decode_tokens_per_second: f64,
}

impl Row {
    fn seconds(&self) -> f64 {
        self.new_tokens as f64 / self.decode_tokens_per_second
    }
}

/// A table for each model: structures down, lengths across.
pub fn section(file: &Recorded<Decoding>) -> String {
    let Decoding { origin, about, rows } = &file.results;
    let mut text = format!(
        "\n### Decoding\n\n{about} Seconds for so many new tokens, and in brackets how many times as fast as the first line.\n{}",
        origin.line(file)
    );
    let mut presets: Vec<&str> = rows.iter().map(|row| row.preset.as_str()).collect();
    presets.dedup();
    for preset in presets {
        text += &of_model(preset, &rows.iter().filter(|row| row.preset == preset).collect::<Vec<_>>());
    }
    text
}

fn of_model(preset: &str, rows: &[&Row]) -> String {
    let lengths: BTreeSet<usize> = rows.iter().map(|row| row.new_tokens).collect();
    let mut structures: Vec<&Row> = Vec::new();
    for row in rows {
        if structures.iter().all(|other| other.structures != row.structures) {
            structures.push(row);
        }
    }
    let seconds = |structures: &str, length: usize| {
        let found = rows.iter().find(|row| (row.structures.as_str(), row.new_tokens) == (structures, length));
        found.map(|row| row.seconds())
    };
    let line = |row: &&Row| {
        let mut cells = vec![format!("`{}`", short(&row.structures))];
        cells.push(format!("{:.1}", row.params as f64 / 1e6));
        cells.push(format!("{:.0} %", 100.0 * row.relative_flops));
        cells.extend(lengths.iter().map(|length| {
            let first = seconds(&structures[0].structures, *length);
            match seconds(&row.structures, *length).zip(first) {
                Some((seconds, first)) => format!("{seconds:.2} ({:.2})", first / seconds),
                None => String::new(),
            }
        }));
        cells
    };
    let mut head = vec![preset.to_string(), "million parameters".into(), "FLOPs of the layers".into()];
    head.extend(lengths.iter().map(|length| format!("{length} tokens")));
    table(&head, &structures.iter().map(line).collect::<Vec<_>>())
}
