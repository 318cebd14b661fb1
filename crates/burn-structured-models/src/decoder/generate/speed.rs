//! Tokens and time.

use serde::{Deserialize, Serialize};
use std::ops::AddAssign;
use std::time::Duration;

/// How many tokens a phase of a generation processed, and how long it took: the model, reading its logits, and drawing the
/// tokens, but not what the caller does with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// Tokens of all rows, without padding.
    pub tokens: usize,
    /// The time.
    pub seconds: f64,
}

impl Speed {
    pub(super) fn new(tokens: usize, time: Duration) -> Self {
        Self { tokens, seconds: time.as_secs_f64() }
    }

    /// Tokens a second; 0 for no tokens.
    pub fn tokens_per_second(&self) -> f64 {
        if self.tokens == 0 { 0.0 } else { self.tokens as f64 / self.seconds.max(1e-9) }
    }
}

impl AddAssign for Speed {
    fn add_assign(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.seconds += other.seconds;
    }
}
