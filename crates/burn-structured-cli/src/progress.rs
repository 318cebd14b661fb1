//! Progress on standard error: a bar on terminals, and lines of text anywhere.

use crate::format::seconds;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Time between two drawings while nothing happens: units can take minutes.
const TICK: Duration = Duration::from_millis(500);

/// Time between two lines where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

/// Progress over units of about the same length, with the time left.
pub struct Progress {
    bar: ProgressBar,
    unit: String,
    /// When the last line was printed; `None` where there is a bar, or nothing is wanted.
    printed: Option<Cell<Instant>>,
}

impl Progress {
    /// A bar over `count` units on a terminal, a line from time to time elsewhere; nothing at all if `quiet`.
    pub fn new(count: usize, unit: &str, quiet: bool) -> Self {
        let bar = bar(count, &format!("{{msg}} {{wide_bar}} {{pos}}/{{len}} {unit}, {{eta}} left"), quiet);
        let printed = (bar.is_hidden() && !quiet).then(|| Cell::new(Instant::now()));
        Self { bar, unit: unit.into(), printed }
    }

    /// What is being done.
    pub fn message(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    /// One more unit is done.
    pub fn advance(&self) {
        self.set(self.bar.position() as usize + 1);
    }

    /// So many units are done.
    pub fn set(&self, done: usize) {
        self.bar.set_position(done as u64);
        let Some(printed) = self.printed.as_ref().filter(|printed| printed.get().elapsed() >= INTERVAL) else { return };
        printed.set(Instant::now());
        let count = self.bar.length().unwrap_or_default();
        eprintln!("{} {done}/{count} {}", self.bar.message(), self.unit);
    }

    /// So many units are done of so many.
    pub fn set_of(&self, done: usize, count: usize) {
        self.bar.set_length(count as u64);
        self.set(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Progress whose time left is known from elsewhere.
pub struct TimedProgress {
    bar: ProgressBar,
    quiet: bool,
}

impl TimedProgress {
    /// An empty bar; nothing at all if `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self { bar: bar(1000, "{msg} {wide_bar} {percent} %{prefix}", quiet), quiet }
    }

    /// What is being done, the share that is done, and the seconds that are left.
    pub fn set(&self, message: &str, share: f64, left: Option<f64>) {
        let left = left.map_or_else(String::new, |left| format!(", {} left", seconds(left.round())));
        self.bar.set_prefix(left);
        self.bar.set_message(message.to_string());
        self.bar.set_position((1000.0 * share) as u64);
    }

    /// A line that stays, also where there is no terminal.
    pub fn line(&self, text: &str) {
        if !self.quiet {
            self.bar.suspend(|| eprintln!("{text}"));
        }
    }
}

impl Drop for TimedProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn bar(count: usize, template: &str, quiet: bool) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(Some(count as u64), target).with_style(style);
    if !bar.is_hidden() {
        bar.enable_steady_tick(TICK);
    }
    bar
}
