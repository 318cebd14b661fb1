//! A Markdown table whose columns are aligned in plain text, too.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

/// Rows of cells under a header.
#[derive(Clone, Debug)]
pub(super) struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this first column, of names, and further columns of numbers.
    pub fn new(names: &str, numbers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let numbers = numbers.into_iter().map(|title| (title.into(), Align::Right));
        Self { columns: std::iter::once((names.to_string(), Align::Left)).chain(numbers).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    ///
    /// # Panics
    ///
    /// If there are not as many cells as columns.
    pub fn push(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for every column");
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |text: &str| text.chars().count();
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(column, (title, _))| {
                let cells = self.rows.iter().map(|row| length(&row[column]));
                cells.chain([length(title)]).max().unwrap_or(0)
            })
            .collect();
        let line = |f: &mut fmt::Formatter<'_>, cells: &[&str]| {
            for ((cell, (_, align)), width) in cells.iter().zip(&self.columns).zip(&widths) {
                match align {
                    Align::Left => write!(f, "| {cell:<width$} ")?,
                    Align::Right => write!(f, "| {cell:>width$} ")?,
                }
            }
            writeln!(f, "|")
        };
        line(f, &self.columns.iter().map(|(title, _)| title.as_str()).collect::<Vec<_>>())?;
        for ((_, align), width) in self.columns.iter().zip(&widths) {
            match align {
                Align::Left => write!(f, "|{:-<1$}", "", width + 2)?,
                Align::Right => write!(f, "|{:-<1$}:", "", width + 1)?,
            }
        }
        writeln!(f, "|")?;
        self.rows.iter().try_for_each(|row| line(f, &row.iter().map(String::as_str).collect::<Vec<_>>()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new("structure", ["x", "± sd"]);
        table.push(vec!["dense".into(), "1".into(), "2".into()]);
        table.push(vec!["low-rank:r=4".into(), "10".into(), "± 0.25".into()]);
        let expected = "\
| structure    |  x |   ± sd |
|--------------|---:|-------:|
| dense        |  1 |      2 |
| low-rank:r=4 | 10 | ± 0.25 |
";
        assert_eq!(table.to_string(), expected);
    }
}
