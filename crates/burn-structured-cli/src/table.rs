//! Tables of text, in columns as wide as their longest entry.

use std::fmt;

/// Rows under a header.
pub struct Table {
    /// Whether a column is aligned to the right, as numbers are.
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table; the entries of columns whose header begins with `>` are aligned to the right.
    pub fn new(header: &[&str]) -> Self {
        let right = header.iter().map(|title| title.starts_with('>')).collect();
        let titles = header.iter().map(|title| title.trim_start_matches('>').to_string()).collect();
        Self { right, rows: vec![titles] }
    }

    /// Adds a row; missing entries at its end are empty.
    pub fn row(&mut self, entries: impl IntoIterator<Item = String>) {
        self.rows.push(entries.into_iter().take(self.right.len()).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let entries = self.rows.iter().filter_map(|row| row.get(column));
            entries.map(|entry| entry.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, width) in widths.iter().enumerate() {
                let entry = row.get(column).map_or("", String::as_str);
                if column > 0 {
                    line += "  ";
                }
                let padding = " ".repeat(width - entry.chars().count());
                line += &if self.right[column] { padding + entry } else { entry.to_string() + &padding };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["layer", ">params", "note"]);
        table.row(["a.very.long.name", "5", "x"].map(String::from));
        table.row(["b×c", "12345"].map(String::from));
        let expected = "layer             params  note\na.very.long.name       5  x\nb×c                12345\n";
        assert_eq!(table.to_string(), expected);
    }
}
