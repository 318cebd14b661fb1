//! Timing on a busy machine: candidates take turns in an order drawn anew every round, so that other load falls on all alike.
//!
//! The figure is the median round, with the range between the quartiles beside it.

use rayon::{ThreadPool, ThreadPoolBuilder};
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

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

/// What a candidate does in a turn, up to the point where the device has finished it.
pub struct Work<'a> {
    /// Returns the time that counts, where that is not all of the turn.
    turn: Box<dyn FnMut() -> Option<Duration> + Send + 'a>,
    one_thread: bool,
}

impl<'a> Work<'a> {
    /// Work on as many threads as it uses by itself.
    pub fn new(mut turn: impl FnMut() + Send + 'a) -> Self {
        let turn = move || {
            turn();
            None
        };
        Self { turn: Box::new(turn), one_thread: false }
    }

    /// Work that measures itself, since a part of the turn only prepares the rest.
    pub fn self_timed(mut turn: impl FnMut() -> Duration + Send + 'a) -> Self {
        Self { turn: Box::new(move || Some(turn())), one_thread: false }
    }

    /// The same in a Rayon pool of one thread, so that a library divides nothing and waits for nobody.
    pub fn on_one_thread(self) -> Self {
        Self { one_thread: true, ..self }
    }

    /// The same several times a turn, all of which count.
    pub fn repeated(self, calls: usize) -> Self {
        let Self { mut turn, one_thread } = self;
        let turn = move || {
            for _ in 0..calls {
                turn();
            }
            None
        };
        Self { turn: Box::new(turn), one_thread }
    }

    /// Runs a turn and returns what it took. The hand-over to the pool of one thread is not counted.
    pub fn timed(&mut self) -> Duration {
        let turn = &mut self.turn;
        let mut timed = || {
            let start = Instant::now();
            let counted = turn();
            counted.unwrap_or_else(|| start.elapsed())
        };
        if self.one_thread { one_thread().install(timed) } else { timed() }
    }
}

fn one_thread() -> &'static ThreadPool {
    static POOL: OnceLock<ThreadPool> = OnceLock::new();
    POOL.get_or_init(|| ThreadPoolBuilder::new().num_threads(1).build().expect("a thread"))
}

/// Times every candidate once a round and returns their times in the order given.
///
/// Two rounds that are not counted warm up caches, allocators, autotuners and compiled kernels; the second says how many
/// rounds there is time for.
pub fn measure(candidates: &mut [Work<'_>], effort: Effort) -> Vec<Time> {
    let mut all = || candidates.iter_mut().map(Work::timed).sum::<Duration>();
    all();
    let round = all().as_secs_f64().max(1e-7);
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
            times[index].push(candidates[index].timed().as_secs_f64() / effort.calls as f64);
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

/// Values handed out one after the other, so that no candidate's weights of the last round are still in the cache.
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
