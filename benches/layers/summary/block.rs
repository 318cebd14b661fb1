//! The table of what each line of the transformer block gains.

use super::files::Recorded;
use super::{source, table};
use recorded::{Results, Row};

#[allow(dead_code, reason = "the benchmark itself prints more")]
#[path = "../../block/record.rs"]
pub mod recorded;

/// Inputs and passes down, missing lines across.
pub fn section(file: &Recorded<Results>) -> String {
    let Results { program, measured, command, structure, rows, .. } = &file.results;
    let mut text = format!(
        "\n### Lines of a transformer block\n\nThe [block of the book](../../../book/src/blocks.md) with `{structure}` on Flex: milliseconds of a \
         pass, and how many times as long it takes with Burn's own operations instead of a line.\n"
    );
    text += &source(file, program, measured, command);
    let mut missing: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|row| !row.without.is_empty()) {
        if !missing.contains(&row.without.as_str()) {
            missing.push(&row.without);
        }
    }
    missing.sort_by_key(|name| *name == "all of them");
    let line = |full: &Row| {
        let mut cells = vec![full.pass(), format!("{:.3}", full.time.median_ms)];
        cells.extend(missing.iter().map(|missing| {
            let same = |row: &&Row| row.pass() == full.pass() && row.without == *missing;
            rows.iter().find(same).map_or_else(String::new, |row| {
                format!("{:.2} ±{:.0} %", row.time.median_ms / full.time.median_ms, 100.0 * row.time.spread())
            })
        }));
        cells
    };
    let mut head = vec!["input and pass".to_string(), "ms".into()];
    head.extend(missing.iter().map(|name| format!("without {name}")));
    let full = rows.iter().filter(|row| row.without.is_empty());
    text + &table(&head, &full.map(line).collect::<Vec<_>>())
}
