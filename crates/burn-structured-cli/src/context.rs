//! What every command is given: how to report progress, and whether to stop.

use crate::arguments::Global;
use crate::failure::Failure;
use crate::progress::{Progress, TimedProgress};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The surroundings of a command.
pub struct Context {
    quiet: bool,
    stopping: Arc<AtomicBool>,
}

impl Context {
    pub fn new(global: &Global) -> Self {
        Self { quiet: global.quiet, stopping: Arc::default() }
    }

    /// From here on the first Ctrl-C, or request to terminate, sets a flag that [`check`](Self::check) sees, and the
    /// second one ends the program at once. Until then it ends the program at once, which is safe: files are complete
    /// or absent.
    ///
    /// # Errors
    ///
    /// If the operating system does not accept the handler.
    pub fn handle_ctrl_c(&self) -> Result<(), Failure> {
        let stopping = self.stopping.clone();
        ctrlc::set_handler(move || {
            if stopping.swap(true, Ordering::SeqCst) {
                std::process::exit(crate::exit::INTERRUPTED.into());
            }
            eprintln!("stopping at the next step; press Ctrl-C again to stop at once");
        })
        .map_err(|error| Failure::new(format!("cannot handle Ctrl-C: {error}; close other handlers of it")))
    }

    /// Whether a command should stop.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// [`stopping`](Self::stopping) as the libraries' observers say it.
    pub fn flow(&self) -> ControlFlow<()> {
        if self.stopping() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// `Err` if the command should stop; `next` says what to do to go on.
    ///
    /// # Errors
    ///
    /// After Ctrl-C.
    pub fn check(&self, next: &str) -> Result<(), Failure> {
        if self.stopping() { Err(Failure::interrupted(next)) } else { Ok(()) }
    }

    /// The failure of `error`, which an observer caused if the command should stop.
    pub fn interrupted_or(&self, error: impl Into<Failure>, next: &str) -> Failure {
        if self.stopping() { Failure::interrupted(next) } else { error.into() }
    }

    /// Progress over `count` units on standard error: a bar with the time left on a terminal, and lines of text
    /// anywhere.
    pub fn progress(&self, count: usize, unit: &str) -> Progress {
        Progress::new(count, unit, self.quiet)
    }

    /// The same where the time left is known from elsewhere.
    pub fn timed_progress(&self) -> TimedProgress {
        TimedProgress::new(self.quiet)
    }
}
