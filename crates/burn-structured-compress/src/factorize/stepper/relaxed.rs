//! Over-relaxed alternating least squares, the method of [`Auto`](crate::factorize::Method::Auto).

use super::{Clock, Stepper, diagonal, solved};
use crate::CompressError;
use crate::factorize::{Problem, Quadratic, State};
use burn::tensor::{DType, Tensor};

/// Over-relaxed alternating least squares: each factor takes `relaxation` times the step to the exact solution of its
/// least-squares problem.
///
/// Below a relaxation of 2 no step raises the error, which is a parabola around the exact solution. The gain is that of successive
/// over-relaxation over Gauss-Seidel (Young, 1954). The best relaxation depends on the convergence rate, and is adapted to it;
/// the last steps are exact.
#[derive(Clone, Debug)]
pub struct Relaxed {
    /// The initial relaxation, from 1 (alternating least squares) to below 2.
    first: f64,
    adaptive: bool,
    /// The relaxation of each matrix.
    paces: Vec<Pace>,
}

/// The relaxation of one matrix, and its errors since that was chosen.
#[derive(Clone, Debug)]
struct Pace {
    relaxation: f64,
    history: Vec<f64>,
    /// Whether the first error was rounding already, as that of a low-rank matrix is. The couplings it starts with are powers
    /// of two, which multiply exactly; others would but add to the rounding.
    exact_from_the_start: bool,
}

/// The initial relaxation: on matrices of trained networks plain steps converge slowly.
const FIRST: f64 = 1.8;

/// The highest relaxation: above it, rounding and the nonlinearity of the whole problem raise the error.
const MOST: f64 = 1.9;

/// Steps between adaptations.
const WINDOW: usize = 4;

/// Exact steps at the end.
const EXACT: usize = 3;

impl Relaxed {
    /// A relaxation that follows the convergence, of each matrix by itself.
    pub fn adaptive() -> Self {
        Self { first: FIRST, adaptive: true, paces: Vec::new() }
    }

    /// The same relaxation at every step; 1 is plain alternating least squares.
    pub fn fixed(relaxation: f64) -> Self {
        Self { first: relaxation, adaptive: false, paces: Vec::new() }
    }
}

impl Pace {
    fn adapt(&mut self, error: f64) {
        self.history.push(error);
        let [first, .., last] = self.history[..] else { return };
        if self.history.len() <= WINDOW {
            return;
        }
        let rate = if first > 0.0 { (last / first).powf(1.0 / WINDOW as f64) } else { 1.0 };
        self.relaxation = next_relaxation(self.relaxation, rate);
        self.history = vec![last];
    }
}

/// The relaxation that suits an error which fell to `rate` of itself in a step of `relaxation`.
fn next_relaxation(relaxation: f64, rate: f64) -> f64 {
    // Theory of consistently ordered matrices: (λ + ω − 1)² = λ ω² μ², with λ the rate at the relaxation ω and μ² the rate at
    // ω = 1; the best is ω = 2 / (1 + √(1 − μ²)). Above the best ω, λ is ω − 1 whatever μ²: lower ω.
    let rate = rate.clamp(1e-3, 1.0);
    if rate <= relaxation - 1.0 + 0.02 {
        // By large steps far from the best relaxation, by small ones near it.
        let share = if relaxation > 1.4 { 0.6 } else { 0.9 };
        return 1.0 + share * (relaxation - 1.0);
    }
    let plain = (rate + relaxation - 1.0).powi(2) / (rate * relaxation.powi(2));
    (2.0 / (1.0 + (1.0 - plain.min(1.0)).sqrt())).clamp(1.0, MOST)
}

impl Stepper for Relaxed {
    fn name(&self) -> &'static str {
        if self.adaptive { "over-relaxed" } else { "ALS" }
    }

    fn step(&mut self, problem: &Problem, state: State, clock: Clock<'_>) -> Result<State, CompressError> {
        if !(self.first > 0.0 && self.first < 2.0) {
            let range = "use more than 0 and less than 2";
            return Err(CompressError::Setting { name: "relaxation", value: self.first, range });
        }
        let epsilon = problem.dtype().finfo().map_or(0.0, |info| info.epsilon);
        if self.paces.is_empty() {
            self.paces.extend(clock.errors.iter().map(|error| Pace {
                relaxation: self.first,
                history: Vec::new(),
                exact_from_the_start: *error < 64.0 * epsilon,
            }));
        }
        if self.adaptive {
            self.paces.iter_mut().zip(clock.errors).for_each(|(pace, error)| pace.adapt(*error));
        }
        let last = clock.step + EXACT >= clock.steps;
        // At the level of rounding, the convergence rate says nothing.
        let exact = |error: f64| last || error < 4.0 * epsilon;
        let relative = damping(problem.dtype());
        let rule = |relaxations: &Tensor<1>, quadratic: Quadratic| {
            let damping = mean_diagonal(&quadratic.gram) * relative + f64::from(f32::MIN_POSITIVE);
            let relaxation = quadratic.per_block(relaxations);
            solved(quadratic, damping) * relaxation
        };
        let relaxation = |(pace, error): (&Pace, &f64)| if exact(*error) { 1.0 } else { pace.relaxation };
        let mut relaxations: Vec<f64> = self.paces.iter().zip(clock.errors).map(relaxation).collect();
        let of_u_and_v = problem.per_matrix(&relaxations);
        let state = problem.update_u(state, &|quadratic| rule(&of_u_and_v, quadratic));
        let state = problem.update_v(state, &|quadratic| rule(&of_u_and_v, quadratic));
        for (relaxation, pace) in relaxations.iter_mut().zip(&self.paces) {
            if pace.exact_from_the_start {
                *relaxation = 0.0;
            }
        }
        let of_s = problem.per_matrix(&relaxations);
        let mut state = problem.update_s(state, &|quadratic| rule(&of_s, quadratic));
        state.factors = state.factors.balanced();
        Ok(state)
    }
}

/// The damping of singular problems, relative to the mean of the Gram matrix's diagonal. The unknown is the change of a factor,
/// so damping slows convergence but does not bias the result.
fn damping(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-6,
        _ => 1e-5,
    }
}

fn mean_diagonal(gram: &Tensor<3>) -> Tensor<3> {
    diagonal(gram).mean_dim(1).unsqueeze_dim(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relaxation_settles_at_the_optimum() {
        // μ² = 0.7: plain steps take the error to 0.7 of itself, the best relaxation is 1.29.
        let plain = 0.7f64;
        let rate_at = |relaxation: f64| {
            // The larger root of (λ + ω − 1)² = λ ω² μ², or ω − 1 where both are complex.
            let b = relaxation * relaxation * plain - 2.0 * (relaxation - 1.0);
            let square = b * b - 4.0 * (relaxation - 1.0f64).powi(2);
            if square < 0.0 { relaxation - 1.0 } else { (b + square.sqrt()) / 2.0 }
        };
        let mut relaxation = FIRST;
        for _ in 0..20 {
            relaxation = next_relaxation(relaxation, rate_at(relaxation));
        }
        assert!(rate_at(relaxation) < 0.45, "{relaxation}");
        // Where the error stalls, the most there is.
        assert!((next_relaxation(FIRST, 0.9999) - MOST).abs() < 0.02);
    }
}
