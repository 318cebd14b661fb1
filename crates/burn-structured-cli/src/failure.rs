//! One line about what went wrong, and the exit code that goes with it.

use crate::exit;
use burn_structured_checkpoint::files::Replacement;
use std::error::Error;
use std::fmt;
use std::path::Path;

/// Why a command ended early.
///
/// Every error of the libraries becomes one, with their message: it names the culprit and the way out.
#[derive(Debug)]
pub struct Failure {
    message: String,
    /// The exit code.
    pub code: u8,
}

impl Failure {
    /// A failure of the command itself.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: exit::FAILED }
    }

    /// Arguments that cannot be used together, or with this model.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: exit::USAGE }
    }

    /// The end after Ctrl-C; `next` says what to do to go on.
    pub fn interrupted(next: &str) -> Self {
        Self { message: format!("interrupted; {next}"), code: exit::INTERRUPTED }
    }
}

/// Whether a file can be written at `path`, before anything is computed for it.
///
/// # Errors
///
/// If not.
pub fn check_writable(path: &Path) -> Result<(), Failure> {
    let unwritable =
        |error| format!("cannot write {}: {error}; choose a file in a folder that can be written", path.display());
    // Removed at once.
    Replacement::create(path).map(drop).map_err(|error| Failure::new(unwritable(error)))
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(error.to_string())
    }
}

impl fmt::Display for Failure {
    /// One line, whatever the message holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.message.lines().map(str::trim).filter(|line| !line.is_empty());
        f.write_str(lines.next().unwrap_or("no reason was given"))?;
        lines.try_for_each(|line| write!(f, " {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_is_one_line() {
        let failure = Failure::from(std::io::Error::other("a file\n  is damaged\n\n"));
        assert_eq!((failure.to_string().as_str(), failure.code), ("a file is damaged", 1));
        assert_eq!(Failure::interrupted("run it again").to_string(), "interrupted; run it again");
    }
}
