//! How long the training passes of a run took, without the validation between them.

use burn::train::logger::TrainingProgressLogger;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Items and time of each complete training pass. Clones share their measurements.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timing(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    current: Option<(Instant, usize)>,
    passes: Vec<(usize, Duration)>,
}

impl Timing {
    /// Items a second of the median pass. The first pass, which warms up, counts only if it is alone.
    pub fn items_per_second(&self) -> Option<f64> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let passes = if state.passes.len() > 1 { &state.passes[1..] } else { &state.passes[..] };
        let mut rates: Vec<f64> = passes.iter().map(|(items, time)| *items as f64 / time.as_secs_f64()).collect();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied()
    }
}

impl TrainingProgressLogger for Timing {
    fn start(&mut self, _epochs: usize, _first: usize, _items: Option<usize>, _label: Option<&str>) {}

    fn update_epoch(&mut self, _epoch: usize) {}

    fn start_split(&mut self, split: &str, _items: usize) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.current = split.eq_ignore_ascii_case("train").then(|| (Instant::now(), 0));
    }

    fn update_split(&mut self, items: usize) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, processed)) = &mut state.current {
            *processed = items;
        }
    }

    fn end_split(&mut self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((start, items)) = state.current.take() {
            state.passes.push((items, start.elapsed()));
        }
    }

    fn end(&mut self) {}

    fn log_event_training(&mut self, _event: String) {}
}
