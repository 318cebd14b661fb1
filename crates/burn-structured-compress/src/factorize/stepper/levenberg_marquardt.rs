//! Levenberg-Marquardt on all three factors at once.

use super::{Clock, Stepper};
use crate::CompressError;
use crate::factorize::{BlastFactors, Problem, State};
use burn::tensor::Tensor;

/// Levenberg-Marquardt on `U`, `s` and `V` together: a step minimises `‖E + J p‖² + λ ‖p‖²` approximately, by conjugate
/// gradients on products with the Jacobian.
///
/// Unlike alternating methods it follows valleys along which several factors change at once. A step costs as much as dozens of
/// alternating ones.
#[derive(Clone, Debug)]
pub struct LevenbergMarquardt {
    /// Conjugate-gradient iterations of a step.
    pub iterations: usize,
    /// Damping of each matrix's step, relative to its residual; adapted at every step.
    damping: Vec<f64>,
}

/// The initial damping.
const FIRST_DAMPING: f64 = 1.0;

impl Default for LevenbergMarquardt {
    fn default() -> Self {
        Self { iterations: 40, damping: Vec::new() }
    }
}

impl Stepper for LevenbergMarquardt {
    fn name(&self) -> &'static str {
        "Levenberg-Marquardt"
    }

    fn step(&mut self, problem: &Problem, mut state: State, _clock: Clock<'_>) -> Result<State, CompressError> {
        let before = problem.relative_errors(&state);
        self.damping.resize(before.len(), FIRST_DAMPING);
        state.factors = state.factors.balanced();
        let damping: Vec<f64> = self.damping.iter().zip(&before).map(|(damping, error)| damping * error).collect();
        let step = self.direction(problem, &state, &damping);
        let tried = problem.state(state.factors.clone().plus(&step, -1.0));
        let after = problem.relative_errors(&tried);
        let accepted: Vec<bool> = after.iter().zip(&before).map(|(after, before)| after < before).collect();
        for (damping, accepted) in self.damping.iter_mut().zip(&accepted) {
            *damping = (*damping * if *accepted { 0.2 } else { 10.0 }).clamp(1e-12, 1e12);
        }
        if accepted.iter().all(|accepted| *accepted) {
            return Ok(tried);
        }
        Ok(tried.select(state, &accepted))
    }
}

impl LevenbergMarquardt {
    /// `p` with `(Jᵀ J + λ) p = Jᵀ E`, by conjugate gradients from 0.
    fn direction(&self, problem: &Problem, state: &State, damping: &[f64]) -> BlastFactors {
        let scale = problem.mean_curvature(&state.factors);
        let damping = problem.per_matrix(damping) * scale;
        let normal = |p: &BlastFactors| {
            problem.gradient(&state.factors, &problem.jvp(&state.factors, p)).plus_scaled(p, &damping)
        };
        let mut residual = problem.gradient(&state.factors, &state.residual);
        let mut direction = residual.clone();
        let mut solution =
            BlastFactors { u: residual.u.zeros_like(), s: residual.s.zeros_like(), v: residual.v.zeros_like() };
        let mut square = residual.dot(&residual);
        for _ in 0..self.iterations {
            let image = normal(&direction);
            let step = quotient(square.clone(), direction.dot(&image));
            solution = solution.plus_scaled(&direction, &step);
            residual = residual.plus_scaled(&image, &-step);
            let next = residual.dot(&residual);
            direction = residual.clone().plus_scaled(&direction, &quotient(next.clone(), square));
            square = next;
        }
        solution
    }
}

/// `a / b`, and 0 where `b` is not positive.
fn quotient(a: Tensor<1>, b: Tensor<1>) -> Tensor<1> {
    let nothing = b.clone().lower_equal_elem(0.0);
    (a / b).mask_fill(nothing, 0.0)
}
