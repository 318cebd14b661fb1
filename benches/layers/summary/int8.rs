//! The tables of layers with int8 weights beside f32.

use super::files::Recorded;
use super::{source, table};
use recorded::{Results, Row};
use std::collections::BTreeSet;

#[allow(dead_code, reason = "the benchmark itself prints more")]
#[path = "../../int8/record.rs"]
pub mod recorded;

/// A table for each layer: structures down, tokens across.
pub fn section(file: &Recorded<Results>) -> String {
    let Results { program, measured, command, rows, .. } = &file.results;
    let mut text = String::from(
        "\nLayers with int8 weights and inputs quantized for each token, forward, on Flex: milliseconds, and how many times as fast as the \
         first line. The error is that of the output beside the same layer in f32.\n",
    );
    text += &source(file, program, measured, command);
    let mut layers: Vec<[usize; 2]> = rows.iter().map(sides).collect();
    layers.dedup();
    for layer in layers {
        let rows: Vec<&Row> = rows.iter().filter(|row| sides(row) == layer).collect();
        text += &of_layer(layer, &rows);
    }
    text
}

fn sides(row: &Row) -> [usize; 2] {
    [row.d_input, row.d_output]
}

fn of_layer([n, m]: [usize; 2], rows: &[&Row]) -> String {
    let tokens: BTreeSet<usize> = rows.iter().map(|row| row.tokens).collect();
    let mut head = vec![format!("{n}→{m}"), "weights".into(), "KiB".into(), "error".into()];
    head.extend(tokens.iter().map(|tokens| format!("{tokens} tokens")));
    let first = |tokens: usize| rows.iter().find(|row| row.tokens == tokens).map(|row| row.time.median_ms);
    let line = |kind: &Row| {
        let mut cells = vec![
            format!("`{}`", kind.structure),
            if kind.int8 { "int8" } else { "f32" }.to_string(),
            (kind.bytes >> 10).to_string(),
            if kind.int8 { format!("{:.3}", kind.error) } else { String::new() },
        ];
        cells.extend(tokens.iter().map(|tokens| {
            let same = |row: &&&Row| (row.tokens, row.int8) == (*tokens, kind.int8) && row.structure == kind.structure;
            let ms = rows.iter().find(same).map(|row| row.time.median_ms);
            match ms.zip(first(*tokens)) {
                Some((ms, first)) => format!("{ms:.3} ({:.1}×)", first / ms),
                None => String::new(),
            }
        }));
        cells
    };
    let kinds = rows.iter().filter(|row| Some(&row.tokens) == tokens.first());
    table(&head, &kinds.map(|row| line(row)).collect::<Vec<_>>())
}
