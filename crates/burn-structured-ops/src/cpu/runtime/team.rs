//! Sharing a few short stages between threads.
//!
//! A product takes between a tenth of a millisecond and a few, in two to five stages that wait for each other. Handed to
//! rayon's pool stage by stage, the calling thread sleeps while the pool works, threads that fell asleep in between are woken
//! anew, and for the shortest products that costs as much as the work: often the second thread comes too late for either stage.
//! Here the calling thread works itself from the first moment; helpers from rayon's pool join when they are awake, stay for all
//! stages, and nobody waits for one that never came.
//!
//! Which of them are awake and on a core of their own is the scheduler's doing, and a thread that shares the calling thread's core
//! while another core is idle costs a product up to half of its speed. So one helper more is called than there is room for, and
//! once that many have come, one that finds itself on another's core leaves. Where cores are to spare, none does.

use std::any::Any;
use std::cell::OnceCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Turns of a waiting loop after which a thread lets others run.
const SPIN_LIMIT: usize = 1 << 11;

/// The calling thread and its helpers, who stay until this is dropped.
///
/// Between stages its owner must not use rayon, whose threads may be waiting here for the next stage.
#[derive(Default)]
pub(crate) struct ThreadTeam {
    /// There once there was something to share.
    state: OnceCell<Arc<TeamState>>,
}

impl ThreadTeam {
    /// RowChunks `task` for `0 .. tasks`, in any order, and returns when all are done.
    ///
    /// # Panics
    ///
    /// If a task does, on whichever thread, once the others are done.
    pub fn parallel_for(&self, tasks: usize, task: impl Fn(usize) + Sync) {
        let threads = rayon::current_num_threads();
        if tasks <= 1 || threads <= 1 {
            return (0..tasks).for_each(task);
        }
        let call = || {
            let helpers = threads.min(tasks);
            let state = Arc::new(TeamState::new(threads, helpers));
            // Not one less than threads: of a pool that has just been at work, one may share a core with the calling thread
            // until the scheduler sees that another core is idle.
            for helper in 0..helpers {
                let state = state.clone();
                rayon::spawn(move || state.worker_loop(CALLER + 1 + helper));
            }
            state
        };
        self.state.get_or_init(call).run_stage(tasks, &task);
    }
}

impl Drop for ThreadTeam {
    fn drop(&mut self) {
        if let Some(state) = self.state.get() {
            state.closed.store(true, Ordering::Relaxed);
        }
    }
}

/// The calling thread's place among a [state's](TeamState) threads; its helpers have those after it.
const CALLER: usize = 0;
/// Of a thread that is not at work, or whose system does not say.
const NO_CORE: usize = usize::MAX;

/// Where the calling thread announces its stages.
#[derive(Default)]
struct TeamState {
    /// Threads that there is room for, the calling one included.
    threads: usize,
    /// The stage at hand, on the calling thread's stack, or null.
    stage: AtomicPtr<Stage>,
    /// Stages announced so far.
    announced: AtomicUsize,
    /// Helpers that may be holding `stage`.
    holding: AtomicUsize,
    /// No other stage will come.
    closed: AtomicBool,
    /// Helpers that have come and not left.
    present: AtomicUsize,
    /// The core that each thread was on when it last looked, the calling thread first.
    cores: Box<[AtomicUsize]>,
}

impl TeamState {
    fn new(threads: usize, helpers: usize) -> Self {
        let cores = (0..=helpers).map(|_| AtomicUsize::new(NO_CORE)).collect();
        Self { threads, cores, ..Self::default() }
    }

    /// Announces a stage, works on it, and returns when it is done and no helper holds it any more.
    fn run_stage(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes. Nobody calls the task once this function has returned: helpers reach it through
        // `self.stage` alone, while they are counted in `self.holding`, and the function waits for that to be zero after taking
        // the stage back. It cannot unwind in between, as `Stage::work` catches what tasks throw.
        let task = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(task) };
        let mut stage =
            Stage { task, tasks, next: AtomicUsize::new(0), done: AtomicUsize::new(0), panic: Mutex::new(None) };
        self.stage.store(&raw mut stage, Ordering::SeqCst);
        self.announced.fetch_add(1, Ordering::Release);
        // SAFETY: the stage is alive, and shared references are all that anyone has.
        let shared = unsafe { &*self.stage.load(Ordering::Relaxed) };
        shared.work(|| {
            self.record_core(CALLER);
            true
        });
        wait_for(|_| (shared.done.load(Ordering::Acquire) == tasks).then_some(()));
        self.stage.store(null_mut(), Ordering::SeqCst);
        // Sequential consistency: a helper that is not counted here, as it counts itself before it looks, finds null.
        wait_for(|_| (self.holding.load(Ordering::SeqCst) == 0).then_some(()));
        if let Some(panic) = stage.panic.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            resume_unwind(panic);
        }
    }

    /// Works on every stage that it comes in time for, and leaves when the calling thread does or when there are threads
    /// enough without it.
    fn worker_loop(&self, place: usize) {
        let mut seen = 0;
        self.present.fetch_add(1, Ordering::Relaxed);
        loop {
            let next = wait_for(|turns| match self.announced.load(Ordering::Acquire) {
                _ if self.should_leave(place, self.record_core(place), turns) => Some(None),
                announced if announced != seen => Some(Some(announced)),
                _ if self.closed.load(Ordering::Relaxed) => Some(None),
                _ => None,
            });
            let Some(announced) = next else { return };
            seen = announced;
            let mut stays = true;
            self.holding.fetch_add(1, Ordering::SeqCst);
            // SAFETY: a stage found here lives until it is no longer held, see `run_stage`.
            if let Some(stage) = unsafe { self.stage.load(Ordering::SeqCst).as_ref() } {
                stage.work(|| {
                    stays = !self.should_leave(place, self.record_core(place), 0);
                    stays
                });
            }
            self.holding.fetch_sub(1, Ordering::SeqCst);
            if !stays {
                return;
            }
        }
    }

    /// Whether the helper at `place`, on `core`, is to leave after waiting for so many turns: there are enough others, and it is on
    /// the core of one of them. Where the system does not say who is where, the first to lose its patience leaves.
    ///
    /// Two helpers cannot both take the others for enough.
    fn should_leave(&self, place: usize, core: usize, turns: usize) -> bool {
        // The calling thread is one as well.
        let enough_others = |present: usize| (present >= self.threads).then(|| present - 1);
        if enough_others(self.present.load(Ordering::Relaxed)).is_none() {
            return false;
        }
        let in_the_way = match core {
            NO_CORE => turns > SPIN_LIMIT,
            core => self.cores.iter().filter(|other| other.load(Ordering::Relaxed) == core).count() > 1,
        };
        let leaves =
            in_the_way && self.present.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough_others).is_ok();
        if leaves {
            self.cores[place].store(NO_CORE, Ordering::Relaxed);
        }
        leaves
    }

    /// Notes the core that the thread at `place` is on, and returns it.
    fn record_core(&self, place: usize) -> usize {
        let core = current_core();
        self.cores[place].store(core, Ordering::Relaxed);
        core
    }
}

/// The core that the calling thread is on, or [`NO_CORE`].
fn current_core() -> usize {
    #[cfg(target_os = "linux")]
    // SAFETY: the function has no preconditions.
    let core = usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(NO_CORE);
    #[cfg(not(target_os = "linux"))]
    let core = NO_CORE;
    core
}

/// Tasks that any thread may take.
struct Stage {
    task: &'static (dyn Fn(usize) + Sync),
    tasks: usize,
    next: AtomicUsize,
    done: AtomicUsize,
    /// What the first task to fail threw.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Stage {
    /// Takes tasks as long as there are any and the thread `stays`. Does not unwind.
    fn work(&self, mut stays: impl FnMut() -> bool) {
        while stays() {
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

/// What `reached` has to say when it has something; it is told how often it has been asked.
fn wait_for<T>(reached: impl Fn(usize) -> Option<T>) -> T {
    let mut turns = 0;
    loop {
        if let Some(reached) = reached(turns) {
            return reached;
        }
        turns += 1;
        if turns < SPIN_LIMIT {
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
    fn every_task_runs_once_and_after_the_stage_before() {
        for threads in [1, 2, 5] {
            in_threads(threads, || {
                for round in 0..200 {
                    for tasks in [0, 1, 2, 3, 17] {
                        assert_eq!(relayed(tasks), vec![tasks * tasks; tasks], "{threads} threads, round {round}");
                    }
                }
            });
        }
    }

    #[test]
    fn crews_on_every_thread_of_a_pool_do_not_wait_for_each_other() {
        let counts: Vec<_> = in_threads(3, || (0..60).into_par_iter().map(|_| relayed(6)).collect());
        assert!(counts.iter().all(|counts| counts == &[36; 6]));
    }

    #[test]
    fn of_too_many_helpers_the_one_on_another_core_stays() {
        let state = TeamState::new(2, 2);
        let arrive = |place: usize, core: usize| {
            state.present.fetch_add(1, Ordering::Relaxed);
            state.cores[place].store(core, Ordering::Relaxed);
        };
        state.cores[CALLER].store(5, Ordering::Relaxed);
        arrive(1, 5);
        assert!(!state.should_leave(1, 5, 0), "on the caller's core, but the only one");
        arrive(2, 6);
        assert!(!state.should_leave(2, 6, 9 * SPIN_LIMIT), "one too many, but on a core of its own");
        assert!(state.should_leave(1, 5, 0), "one too many, and on the caller's core");
        assert!(!state.should_leave(2, 6, 0) && !state.should_leave(2, 5, 0), "the only one left");
    }

    #[test]
    fn of_too_many_helpers_the_first_to_lose_its_patience_leaves_where_cores_are_unknown() {
        let state = TeamState::new(2, 2);
        state.present.fetch_add(2, Ordering::Relaxed);
        assert!(!state.should_leave(1, NO_CORE, SPIN_LIMIT));
        assert!(state.should_leave(2, NO_CORE, SPIN_LIMIT + 1));
        assert!(!state.should_leave(1, NO_CORE, SPIN_LIMIT + 1));
    }

    #[test]
    fn a_panic_reaches_the_caller_when_all_tasks_are_done() {
        let done = AtomicUsize::new(0);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            ThreadTeam::default().parallel_for(8, |task| {
                assert!(task != 3, "task {task} fails");
                done.fetch_add(1, Ordering::Relaxed);
            });
        }));
        let message = caught.expect_err("the panic of the task");
        assert_eq!(message.downcast_ref::<String>().map(String::as_str), Some("task 3 fails"));
        assert_eq!(done.load(Ordering::Relaxed), 7);
    }
}
