//! A CSV file with one row for each step, which a resumed run continues without gaps or repetitions.

use crate::training::TrainingError;
use burn_structured_checkpoint::files::replace;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The open file.
///
/// A row is on the file's way to the disk when [`push`](Self::push) returns, so that a killed process loses none; after
/// [`sync`](Self::sync), neither does a machine that loses its power.
#[derive(Debug)]
pub(super) struct Curve {
    path: PathBuf,
    file: File,
    error: Option<io::Error>,
}

impl Curve {
    /// Opens the file at `path`, which keeps its rows up to `last_step` and loses those that a stopped run wrote after its
    /// last checkpoint.
    pub fn open(path: PathBuf, header: &str, last_step: usize) -> Result<Self, TrainingError> {
        let mut text = format!("{header}\n");
        if last_step > 0 {
            for row in rows(&path)?.iter().filter(|row| step_of(row).is_some_and(|step| step <= last_step)) {
                text += row;
                text.push('\n');
            }
        }
        replace(&path, text.as_bytes()).map_err(|error| TrainingError::file("write", &path, error))?;
        let file = File::options().append(true).open(&path);
        let file = file.map_err(|error| TrainingError::file("open", &path, error))?;
        Ok(Self { path, file, error: None })
    }

    /// Appends the row of a step, whose other columns are `values`. After an error nothing more is written, and
    /// [`finish`](Self::finish) returns it.
    pub fn push(&mut self, step: usize, values: &str) {
        if self.error.is_none() {
            self.error = self.file.write_all(format!("{step},{values}\n").as_bytes()).err();
        }
    }

    /// Waits until every row is on the disk.
    pub fn sync(&mut self) {
        if self.error.is_none() {
            self.error = self.file.sync_data().err();
        }
    }

    /// Whether a row could not be written.
    pub fn failed(&self) -> bool {
        self.error.is_some()
    }

    /// The error that a row could not be written for, if there was one.
    pub fn finish(&mut self) -> Result<(), TrainingError> {
        match self.error.take() {
            Some(error) => Err(TrainingError::file("write", &self.path, error)),
            None => Ok(()),
        }
    }
}

/// The complete rows of the file below its header; none if there is no file.
fn rows(path: &Path) -> Result<Vec<String>, TrainingError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(TrainingError::file("read", path, error)),
    };
    // A kill may leave half a row.
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    Ok(complete.lines().skip(1).map(str::to_string).collect())
}

fn step_of(row: &str) -> Option<usize> {
    row.split(',').next()?.parse().ok()
}

/// The steps of a curve such as `losses.csv`, each with the first of its values.
///
/// # Errors
///
/// If the file cannot be read, or a row is not a step and numbers.
pub fn read_curve(path: &Path) -> Result<Vec<(usize, f64)>, TrainingError> {
    let point = |row: &str| Some((step_of(row)?, row.split(',').nth(1)?.parse().ok()?));
    let points = rows(path)?.into_iter().map(|row| {
        point(&row).ok_or_else(|| TrainingError::file("read", path, format!("`{row}` is not a step and numbers")))
    });
    points.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resumed_curve_has_no_gaps_or_repetitions() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.csv");
        let mut undisturbed = Curve::open(folder.path().join("undisturbed.csv"), "step,loss,lr", 0).unwrap();
        let mut curve = Curve::open(path.clone(), "step,loss,lr", 0).unwrap();
        let values = |step: usize| format!("{},{}", 1.0 / step as f64, 0.1 + 0.2);
        for step in 1..=7 {
            curve.push(step, &values(step));
        }
        drop(curve);
        // Killed in the middle of a row, after the checkpoint of step 4.
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"8,0.12").unwrap();
        let mut curve = Curve::open(path.clone(), "step,loss,lr", 4).unwrap();
        for step in 5..=9 {
            curve.push(step, &values(step));
        }
        curve.sync();
        curve.finish().unwrap();
        (1..=9).for_each(|step| undisturbed.push(step, &values(step)));
        let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("losses.csv"), read("undisturbed.csv"));
        assert_eq!(read_curve(&path).unwrap(), (1..=9).map(|step| (step, 1.0 / step as f64)).collect::<Vec<_>>());
    }

    #[test]
    fn new_curve_drops_the_old_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.csv");
        std::fs::write(&path, "step,loss\n1,2.5\n").unwrap();
        drop(Curve::open(path.clone(), "step,loss", 0).unwrap());
        assert_eq!(std::fs::read_to_string(path).unwrap(), "step,loss\n");
    }

    #[test]
    fn rows_that_are_no_numbers_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("losses.csv");
        std::fs::write(&path, "step,loss\n1,2.5\n2,much\n").unwrap();
        let error = read_curve(&path).unwrap_err().to_string();
        assert!(error.ends_with("losses.csv: `2,much` is not a step and numbers"), "{error}");
    }
}
