//! The threads that run one product.
//!
//! A product takes between a tenth of a millisecond and a few, in two to five stages with a barrier between them. With
//! `rayon::in_place_scope` for each stage, workers fall asleep in between and are woken again, which costs as much as the shortest
//! stages take. Here the owner of the team starts at once; workers from rayon's pool join when they are awake and stay for all stages,
//! and nobody waits for one that never came.
//!
//! The owner is itself one of rayon's threads, unless the product is so short that the way there would cost more than it gains: beside
//! a pool that has just been at work, a calling thread is one too many for the cores, and whichever thread the scheduler puts off keeps
//! the others waiting at the next barrier.

use std::any::Any;
use std::cell::OnceCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Turns of a spinning loop after which a thread yields.
const SPIN_LIMIT: usize = if cfg!(miri) { 1 } else { 1 << 11 };

/// Tokens from which on a product runs on one of rayon's threads.
const MIN_POOL_TOKENS: usize = 9;

/// Runs the product of so many tokens, on one of rayon's threads unless it is short.
pub(crate) fn on_pool<R: Send>(tokens: usize, product: impl FnOnce() -> R + Send) -> R {
    if tokens < MIN_POOL_TOKENS || rayon::current_num_threads() <= 1 {
        return product();
    }
    rayon::scope(|_| product())
}

/// The thread that creates it and its workers, who stay until this is dropped.
///
/// While one lives, its owner must not use rayon otherwise, whose threads may be waiting here for the next stage.
#[derive(Default)]
pub(crate) struct ThreadTeam {
    /// Set by the first stage that has something to share.
    state: OnceCell<Arc<TeamState>>,
}

impl ThreadTeam {
    /// Runs `task` for `0 .. tasks`, in any order on any thread, and returns when all are done.
    ///
    /// # Panics
    ///
    /// If a task does, with several threads once the others are done.
    pub fn parallel_for(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        let threads = rayon::current_num_threads();
        if tasks <= 1 || threads <= 1 {
            return (0..tasks).for_each(task);
        }
        let start = || {
            let state = Arc::new(TeamState::default());
            for _ in 1..threads {
                let state = state.clone();
                rayon::spawn(move || state.worker_loop());
            }
            state
        };
        self.state.get_or_init(start).run_stage(tasks, &task);
    }
}

impl Drop for ThreadTeam {
    fn drop(&mut self) {
        if let Some(state) = self.state.get() {
            state.closed.store(true, Ordering::Relaxed);
        }
    }
}

/// Where the calling thread announces its stages.
#[derive(Default)]
struct TeamState {
    /// The running stage, on the calling thread's stack, or null.
    stage: AtomicPtr<Stage>,
    /// Stages announced so far.
    announced: AtomicUsize,
    /// Workers that may hold a pointer to the stage.
    holding: AtomicUsize,
    /// No other stage will come.
    closed: AtomicBool,
}

impl TeamState {
    /// Announces a stage, works on it, and returns when it is done and no worker holds it.
    fn run_stage(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes. Workers reach the task through `self.stage` alone, while they are counted in
        // `self.holding`, and this function waits for that to be zero after clearing the stage. It cannot unwind before, as
        // `Stage::work` catches the tasks' panics.
        let task = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(task) };
        let stage =
            Stage { task, tasks, next: AtomicUsize::new(0), done: AtomicUsize::new(0), panic: Mutex::new(None) };
        self.stage.store((&raw const stage).cast_mut(), Ordering::SeqCst);
        self.announced.fetch_add(1, Ordering::Release);
        stage.work();
        wait_for(|| (stage.done.load(Ordering::Acquire) == tasks).then_some(()));
        self.stage.store(null_mut(), Ordering::SeqCst);
        // Sequential consistency: a worker counts itself before it looks, so one that is not counted here finds null.
        wait_for(|| (self.holding.load(Ordering::SeqCst) == 0).then_some(()));
        if let Some(panic) = stage.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }

    /// Works on every stage that the worker comes in time for, until the team is dropped.
    fn worker_loop(&self) {
        let mut seen = 0;
        loop {
            let next = wait_for(|| match self.announced.load(Ordering::Acquire) {
                announced if announced != seen => Some(Some(announced)),
                _ if self.closed.load(Ordering::Relaxed) => Some(None),
                _ => None,
            });
            let Some(announced) = next else { return };
            seen = announced;
            self.holding.fetch_add(1, Ordering::SeqCst);
            // SAFETY: a stage found here lives until it is not held, see `run_stage`; shared references are all that anyone has.
            if let Some(stage) = unsafe { self.stage.load(Ordering::SeqCst).as_ref() } {
                stage.work();
            }
            self.holding.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Tasks that any thread may take.
struct Stage {
    task: &'static (dyn Fn(usize) + Sync),
    tasks: usize,
    next: AtomicUsize,
    done: AtomicUsize,
    /// The panic of the first task that failed.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Stage {
    /// Takes tasks as long as there are any. Does not unwind.
    fn work(&self) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.tasks {
                return;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.task)(index))) {
                self.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
            }
            self.done.fetch_add(1, Ordering::Release);
        }
    }
}

/// Waits until `ready` returns something, spinning first, then yielding.
fn wait_for<T>(ready: impl Fn() -> Option<T>) -> T {
    let mut turns = 0;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        if turns < SPIN_LIMIT {
            turns += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    /// Rounds of the stress test; under Miri each takes seconds.
    const ROUNDS: usize = if cfg!(miri) { 2 } else { 200 };

    fn in_threads<R: Send>(threads: usize, body: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(body)
    }

    /// How often each task of three stages ran, in sums that each stage takes from the one before.
    fn relayed(tasks: usize) -> Vec<usize> {
        let stages: [Vec<AtomicUsize>; 3] = std::array::from_fn(|_| (0..tasks).map(|_| AtomicUsize::new(0)).collect());
        let team = ThreadTeam::default();
        team.parallel_for(tasks, |task| {
            stages[0][task].fetch_add(1, Ordering::Relaxed);
        });
        for stage in 1..3 {
            team.parallel_for(tasks, |task| {
                let before: usize = stages[stage - 1].iter().map(|count| count.load(Ordering::Relaxed)).sum();
                stages[stage][task].fetch_add(before, Ordering::Relaxed);
            });
        }
        stages[2].iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn parallel_for_runs_each_task_once_after_the_stage_before() {
        for threads in [1, 2, 5] {
            in_threads(threads, || {
                for round in 0..ROUNDS {
                    for tasks in [0, 1, 2, 3, 17] {
                        assert_eq!(relayed(tasks), vec![tasks * tasks; tasks], "{threads} threads, round {round}");
                    }
                }
            });
        }
    }

    #[test]
    fn teams_on_every_thread_of_a_pool_do_not_deadlock() {
        let count = if cfg!(miri) { 6 } else { 60 };
        let counts: Vec<_> = in_threads(3, || (0..count).into_par_iter().map(|_| relayed(6)).collect());
        assert!(counts.iter().all(|counts| counts == &[36; 6]));
    }

    #[test]
    fn parallel_for_passes_a_panic_on_when_all_tasks_are_done() {
        let done = AtomicUsize::new(0);
        let failing = || {
            ThreadTeam::default().parallel_for(8, |task| {
                assert!(task != 3, "task {task} fails");
                done.fetch_add(1, Ordering::Relaxed);
            });
        };
        let caught = catch_unwind(AssertUnwindSafe(|| in_threads(2, failing)));
        let message = caught.expect_err("the panic of the task");
        assert_eq!(message.downcast_ref::<String>().map(String::as_str), Some("task 3 fails"));
        assert_eq!(done.load(Ordering::Relaxed), 7);
    }
}
