//! Preconditioned gradient descent, the factorization of the BLAST paper.

use super::{Clock, Stepper, solved};
use crate::CompressError;
use crate::error::{check_not_negative, check_positive};
use crate::factorize::{Problem, Quadratic, Schedule, State};

/// Alternating gradient descent, preconditioned by the damped Gram matrices (Lee et al., NeurIPS 2024, algorithm 2): the change
/// of a block is `rate · step_scale · (H + damping ‖E‖ I)⁻¹ g`.
#[derive(Clone, Debug)]
pub struct PrecGd {
    /// 1 for the paper's loss `½ ‖E‖²`, 2 for the `‖E‖²` of its code, which steps twice as far.
    pub step_scale: f64,
    /// Damping, relative to the norm of the residual.
    pub damping: f64,
    /// The rate over the steps.
    pub schedule: Schedule,
}

impl Default for PrecGd {
    fn default() -> Self {
        Self { step_scale: 2.0, damping: 0.1, schedule: Schedule::Linear }
    }
}

impl Stepper for PrecGd {
    fn name(&self) -> &'static str {
        "PrecGD"
    }

    fn step(&mut self, problem: &Problem, state: State, clock: Clock<'_>) -> Result<State, CompressError> {
        check_positive("step_scale", self.step_scale)?;
        check_not_negative("damping", self.damping)?;
        let rate = self.schedule.rate(clock) * self.step_scale;
        let rule = |quadratic: Quadratic| {
            let damping = quadratic.residual_norm() * self.damping;
            solved(quadratic, damping) * rate
        };
        let state = problem.update_u(state, &rule);
        let state = problem.update_v(state, &rule);
        Ok(problem.update_s(state, &rule))
    }
}
