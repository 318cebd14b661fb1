//! Timing that survives a busy machine: candidates take turns, in an order drawn anew every round, so that whatever else the
//! machine does falls on all alike; the figure is the median round, with the range of the middle half beside it.

use serde::{Deserialize, Serialize};
use std::time::Instant;

/// Milliseconds of one candidate: the median round and the range that half of the rounds fall into.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Time {
    /// The median round.
    pub median_ms: f64,
    /// A quarter of the rounds were faster.
    pub lower_quartile_ms: f64,
    /// A quarter of the rounds were slower.
    pub upper_quartile_ms: f64,
    /// How often it was timed.
    pub rounds: usize,
}

impl Time {
    /// Half of the range between the quartiles, relative to the median.
    pub fn spread(&self) -> f64 {
        (self.upper_quartile_ms - self.lower_quartile_ms) / (2.0 * self.median_ms)
    }

    fn summary(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let at = |share: f64| 1e3 * seconds[((seconds.len() - 1) as f64 * share).round() as usize];
        Self { median_ms: at(0.5), lower_quartile_ms: at(0.25), upper_quartile_ms: at(0.75), rounds: seconds.len() }
    }
}

/// How long and how often to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Seconds for each candidate.
    pub seconds: f64,
    /// Rounds at least, however long they take.
    pub fewest: usize,
    /// Rounds at most.
    pub most: usize,
    /// Calls that a candidate makes in a turn before it waits; times are of one call.
    pub calls: usize,
}

/// Work to be timed, one turn of it; returns when the device has finished it.
pub type Work<'a> = Box<dyn FnMut() + 'a>;

/// Times every candidate once a round and returns their times in the order given.
///
/// Two rounds that are not counted warm up caches, allocators, autotuners and compiled kernels; the second says how many
/// rounds there is time for.
pub fn measure(candidates: &mut [Work<'_>], effort: Effort) -> Vec<Time> {
    candidates.iter_mut().for_each(|run| run());
    let warm = Instant::now();
    candidates.iter_mut().for_each(|run| run());
    let round = warm.elapsed().as_secs_f64().max(1e-7);
    let rounds = ((effort.seconds * candidates.len() as f64 / round) as usize).clamp(effort.fewest, effort.most);

    let mut times = vec![Vec::with_capacity(rounds); candidates.len()];
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    let mut random = Random::default();
    for _ in 0..rounds {
        // Who comes after whom decides whose weights are still in the cache.
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last + 1));
        }
        for &index in &order {
            let start = Instant::now();
            candidates[index]();
            times[index].push(start.elapsed().as_secs_f64() / effort.calls as f64);
        }
    }
    times.into_iter().map(Time::summary).collect()
}

/// Xorshift: the same orders and data on every run.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x2545_f491_4f6c_dd1d)
    }
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A whole number from 0 to below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A number from −1 to below 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// Values handed out one after the other, so that no candidate finds its own from the last round in the cache.
#[derive(Debug)]
pub struct Rotation<T> {
    values: Vec<T>,
    next: usize,
}

impl<T> Rotation<T> {
    /// As many values of `bytes` each as it takes to fill `window` bytes; at least one, at most 64.
    pub fn filling(window: usize, bytes: usize, make: impl FnMut(usize) -> T) -> Self {
        let count = window.div_ceil(bytes.max(1)).clamp(1, 64);
        Self { values: (0..count).map(make).collect(), next: 0 }
    }

    /// The next value.
    pub fn next(&mut self) -> &T {
        self.next = (self.next + 1) % self.values.len();
        &self.values[self.next]
    }
}
