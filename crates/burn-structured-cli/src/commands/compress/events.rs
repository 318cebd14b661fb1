//! What a run tells while it runs, as progress.

use super::estimate::{Estimate, Length, Phase};
use crate::context::Context;
use crate::exit;
use crate::failure::Failure;
use crate::format::seconds;
use crate::progress::TimedProgress;
use burn_structured_compress::TrainingStep;
use burn_structured_compress::pipeline::Event;
use std::cell::RefCell;
use std::ops::ControlFlow;
use std::time::Instant;

/// Share of a block's bar for fitting its layers, if it is trained afterwards.
const FITTING: f64 = 0.2;

/// The observer of a run.
pub struct Events<'a> {
    context: &'a Context,
    progress: TimedProgress,
    began: Instant,
    refine: bool,
    distill: bool,
    state: RefCell<State>,
}

struct State {
    estimate: Estimate,
    phase: Phase,
    /// Of the current unit.
    index: usize,
    units: usize,
    name: String,
    /// Errors of the layers of the current unit.
    errors: Vec<f64>,
}

impl<'a> Events<'a> {
    /// A run that trains each block and the whole model for so long, if it does.
    pub fn new(context: &'a Context, refine: Option<Length>, distill: Option<Length>) -> Self {
        let state = State {
            estimate: Estimate::new(refine, distill),
            phase: Phase::Fit,
            index: 0,
            units: 1,
            name: String::new(),
            errors: Vec::new(),
        };
        Self {
            context,
            progress: context.timed_progress(),
            began: Instant::now(),
            refine: refine.is_some(),
            distill: distill.is_some(),
            state: RefCell::new(state),
        }
    }

    /// Shows an event; `Break` after Ctrl-C.
    pub fn observe(&self, event: &Event<'_>) -> ControlFlow<()> {
        let state = &mut *self.state.borrow_mut();
        match event {
            Event::Resumed { finished, units } => {
                self.progress.line(&format!("continuing: {finished} of {units} parts are finished"));
            }
            Event::Damaged { shard } => {
                self.progress.line(&format!("{} is damaged or gone; it is computed again", shard.display()));
            }
            Event::Unit { index, units, name } => {
                (state.index, state.units, state.name) = (*index, *units, name.to_string());
                state.errors.clear();
                let last = self.distill && index + 1 == *units;
                self.begin(state, if last { Phase::Distill } else { Phase::Fit });
                self.show(state, 0.0, name);
            }
            Event::Layer { relative_error, .. } => state.errors.push(*relative_error),
            Event::Fit(step) => {
                let done = step.done as f64 / step.steps.max(1) as f64;
                self.show(state, done, &format!("{}, fitting at α = {}", state.name, step.alpha));
            }
            Event::Refine { step, .. } => {
                if state.phase != Phase::Refine {
                    state.estimate.end(self.now());
                    self.begin(state, Phase::Refine);
                }
                let message = format!("{}, refining, loss {:.2e}", state.name, step.loss);
                self.show(state, share(step), &message);
            }
            Event::Distill(step) => self.show(state, share(step), &format!("distilling, loss {:.2e}", step.loss)),
            Event::UnitFinished { index, units, name, seconds: time } => {
                state.estimate.end(self.now());
                let errors = &state.errors;
                let mean = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
                let error = if errors.is_empty() { String::new() } else { format!(", error {mean:.3}") };
                // Layers on their way back to dense ones have none, and are done in no time.
                if !errors.is_empty() || state.phase != Phase::Fit {
                    self.progress.line(&format!("{}/{units} {name}: {}{error}", index + 1, seconds(*time)));
                }
            }
            Event::Assemble => self.progress.set("writing the model", 1.0, None),
            _ => {}
        }
        self.context.flow()
    }

    fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn begin(&self, state: &mut State, phase: Phase) {
        state.phase = phase;
        state.estimate.begin(phase, self.now());
    }

    /// Shows how far the current phase is.
    fn show(&self, state: &State, done: f64, message: &str) {
        let blocks = state.units - usize::from(self.distill);
        let left = state.estimate.left(self.now(), done, state.index, blocks);
        let share = match state.phase {
            Phase::Fit if self.refine => FITTING * done,
            Phase::Refine => FITTING + (1.0 - FITTING) * done,
            _ => done,
        };
        self.progress.set(message, (state.index as f64 + share) / state.units as f64, left);
    }

    /// The failure of a run; after Ctrl-C the library's message says how to go on.
    pub fn failure(&self, error: impl Into<Failure>) -> Failure {
        let mut failure = error.into();
        if self.context.stopping() {
            failure.code = exit::INTERRUPTED;
        }
        failure
    }
}

fn share(step: &TrainingStep) -> f64 {
    step.step as f64 / step.steps.max(1) as f64
}
