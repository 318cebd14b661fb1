//! The optimisation loop.
//!
//! Matrices are stepped together and judged apart: each has its own best factors and its own end, so that what is found for it
//! does not depend on the company it is in.

use super::{BlastFactors, Clock, Ended, Factorization, FactorizerConfig, Problem, State, Stepper, TracePoint};
use crate::CompressError;
use std::ops::ControlFlow;
use std::time::Instant;

/// What an observer is told at every step.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The step just done.
    pub point: &'a TracePoint,
    /// Steps there will be at most.
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

/// The best of each matrix so far.
struct Best {
    factors: BlastFactors,
    errors: Vec<f64>,
}

impl Best {
    /// With the factors of those matrices that are not `done` and nearer now.
    fn updated(self, state: &State, errors: &[f64], done: &[Option<Ended>]) -> Self {
        let better: Vec<bool> =
            (0..errors.len()).map(|at| done[at].is_none() && errors[at] < self.errors[at]).collect();
        let least = |at: usize| if better[at] { errors[at] } else { self.errors[at] };
        Self {
            errors: (0..errors.len()).map(least).collect(),
            factors: state.factors.clone().or(self.factors, &better),
        }
    }
}

impl Run<'_, '_> {
    /// Steps until every matrix is done.
    pub fn from(mut self, mut state: State, mut stepper: Box<dyn Stepper>) -> Result<Factorization, CompressError> {
        let steps = self.config.steps;
        let mut trace: Vec<TracePoint> = Vec::new();
        let errors = self.problem.relative_errors(&state);
        let mut done: Vec<Option<(Ended, usize)>> = vec![None; errors.len()];
        let mut best = Best { factors: state.factors.clone(), errors: errors.clone() };
        let mut errors = Some(errors);
        for step in 0.. {
            let errors = errors.take().unwrap_or_else(|| self.problem.relative_errors(&state));
            let ended: Vec<Option<Ended>> = done.iter().map(|done| done.map(|(ended, _)| ended)).collect();
            // Of those that are done, the errors they were done with.
            let errors: Vec<f64> = match trace.last() {
                None => errors,
                Some(last) => {
                    (0..errors.len()).map(|at| if ended[at].is_some() { last.errors[at] } else { errors[at] }).collect()
                }
            };
            if let Some(matrix) = errors.iter().position(|error| !error.is_finite()) {
                return Err(CompressError::Diverged { matrix, step });
            }
            best = best.updated(&state, &errors, &ended);
            trace.push(TracePoint { step, seconds: self.began.elapsed().as_secs_f64(), errors });
            let all = self.all_end(&trace);
            for (matrix, done) in done.iter_mut().enumerate().filter(|(_, done)| done.is_none()) {
                *done = self.one_ends(&trace, matrix).or(all).map(|ended| (ended, step));
            }
            if done.iter().all(Option::is_some) {
                break;
            }
            let clock = Clock { step, steps, errors: &trace[step].errors };
            state = stepper.step(self.problem, state, clock)?;
        }
        let (ended, steps) = done.into_iter().flatten().unzip();
        Ok(Factorization { factors: best.factors, trace, ended, errors: best.errors, steps })
    }

    /// Why a matrix is done for reasons of its own.
    fn one_ends(&self, trace: &[TracePoint], matrix: usize) -> Option<Ended> {
        let FactorizerConfig { tolerance, patience, least_improvement, .. } = *self.config;
        let error = |step: usize| trace[step].errors[matrix];
        let now = trace.len() - 1;
        if error(now) <= tolerance {
            return Some(Ended::Tolerance);
        }
        let earlier = patience.and_then(|patience| now.checked_sub(patience)).map(error)?;
        (error(now) > (1.0 - least_improvement) * earlier).then_some(Ended::Stalled)
    }

    /// Why the whole run is over.
    fn all_end(&mut self, trace: &[TracePoint]) -> Option<Ended> {
        let FactorizerConfig { steps, seconds, .. } = *self.config;
        let point = trace.last()?;
        let interrupted = match &mut self.observer {
            Some(observer) => observer(Progress { point, steps }).is_break(),
            None => false,
        };
        if interrupted {
            Some(Ended::Interrupted)
        } else if point.step == steps {
            Some(Ended::Steps)
        } else if seconds.is_some_and(|seconds| point.seconds >= seconds) {
            Some(Ended::Time)
        } else {
            None
        }
    }
}
