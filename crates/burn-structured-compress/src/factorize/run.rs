//! The optimisation loop.
//!
//! Matrices of a batch are stepped together, but each has its own best factors and its own stopping criteria, so that its result
//! does not depend on the others.

use super::{BlastFactors, Clock, Factorization, FactorizerConfig, Problem, State, Stepper, StopReason, TracePoint};
use crate::CompressError;
use std::ops::ControlFlow;
use std::time::Instant;

/// What an observer receives at every step.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The step just done.
    pub point: &'a TracePoint,
    /// The maximum number of steps.
    pub steps: usize,
}

pub(super) type Observer<'a> = Box<dyn FnMut(Progress) -> ControlFlow<()> + 'a>;

/// A run over a batch.
pub(super) struct Run<'a, 'b> {
    pub config: &'b FactorizerConfig,
    pub problem: &'b Problem,
    pub observer: Option<Observer<'a>>,
    pub began: Instant,
}

/// Why and after which step a matrix stopped.
type Stop = (StopReason, usize);

/// The best factors of each matrix so far.
struct Best {
    factors: BlastFactors,
    errors: Vec<f64>,
}

impl Best {
    /// With the factors of those matrices that have not stopped and have a lower error now.
    fn updated(self, state: &State, errors: &[f64], stopped: &[Option<Stop>]) -> Self {
        let better: Vec<bool> =
            (0..errors.len()).map(|at| stopped[at].is_none() && errors[at] < self.errors[at]).collect();
        let least = |at: usize| if better[at] { errors[at] } else { self.errors[at] };
        Self {
            errors: (0..errors.len()).map(least).collect(),
            factors: state.factors.clone().select(self.factors, &better),
        }
    }
}

impl Run<'_, '_> {
    /// Steps until every matrix has stopped.
    pub fn from(mut self, mut state: State, mut stepper: Box<dyn Stepper>) -> Result<Factorization, CompressError> {
        let steps = self.config.steps;
        let mut trace: Vec<TracePoint> = Vec::new();
        let mut errors = self.problem.relative_errors(&state);
        let mut stopped: Vec<Option<Stop>> = vec![None; errors.len()];
        let mut best = Best { factors: state.factors.clone(), errors: errors.clone() };
        for step in 0.. {
            if let Some(last) = trace.last() {
                // A matrix that has stopped keeps the error that it stopped with.
                for at in (0..errors.len()).filter(|at| stopped[*at].is_some()) {
                    errors[at] = last.errors[at];
                }
            }
            if let Some(matrix) = errors.iter().position(|error| !error.is_finite()) {
                return Err(CompressError::Diverged { matrix, step });
            }
            best = best.updated(&state, &errors, &stopped);
            trace.push(TracePoint { step, seconds: self.began.elapsed().as_secs_f64(), errors });
            let all = self.stop_all(&trace);
            for (matrix, stopped) in stopped.iter_mut().enumerate().filter(|(_, stopped)| stopped.is_none()) {
                *stopped = self.stop_one(&trace, matrix).or(all).map(|reason| (reason, step));
            }
            if stopped.iter().all(Option::is_some) {
                break;
            }
            state = stepper.step(self.problem, state, Clock { step, steps, errors: &trace[step].errors })?;
            errors = self.problem.relative_errors(&state);
        }
        let (stop_reasons, steps) = stopped.into_iter().flatten().unzip();
        Ok(Factorization { factors: best.factors, trace, stop_reasons, errors: best.errors, steps })
    }

    /// Whether one matrix stops, by its own error.
    fn stop_one(&self, trace: &[TracePoint], matrix: usize) -> Option<StopReason> {
        let FactorizerConfig { tolerance, patience, least_improvement, .. } = *self.config;
        let error = |step: usize| trace[step].errors[matrix];
        let now = trace.len() - 1;
        if error(now) <= tolerance {
            return Some(StopReason::Tolerance);
        }
        let earlier = patience.and_then(|patience| now.checked_sub(patience)).map(error)?;
        (error(now) > (1.0 - least_improvement) * earlier).then_some(StopReason::Stalled)
    }

    /// Whether the whole run stops.
    fn stop_all(&mut self, trace: &[TracePoint]) -> Option<StopReason> {
        let FactorizerConfig { steps, seconds, .. } = *self.config;
        let point = trace.last()?;
        let interrupted = match &mut self.observer {
            Some(observer) => observer(Progress { point, steps }).is_break(),
            None => false,
        };
        if interrupted {
            Some(StopReason::Interrupted)
        } else if point.step == steps {
            Some(StopReason::Steps)
        } else if seconds.is_some_and(|seconds| self.began.elapsed().as_secs_f64() >= seconds) {
            Some(StopReason::Time)
        } else {
            None
        }
    }
}
