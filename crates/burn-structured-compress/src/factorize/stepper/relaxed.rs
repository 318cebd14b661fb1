//! Over-relaxed alternating least squares, the method that [`Auto`](crate::factorize::Method::Auto) rests on.

use super::{Clock, Stepper, diagonal, solved};
use crate::CompressError;
use crate::factorize::problem::Quadratic;
use crate::factorize::{Problem, State};
use burn::tensor::{DType, Tensor};

/// Alternating least squares whose steps go beyond the optimum: each factor is moved `relaxation` times as far as the exact
/// solution of its least-squares problem.
///
/// For a relaxation below 2 no such move raises the error, since along it the error is a parabola around the exact
/// solution. What it gains is what successive over-relaxation gains over Gauss-Seidel (Young, 1954): three factors that
/// depend on each other creep towards a common optimum, and over-relaxed ones stride. The best relaxation depends on how
/// slowly they creep, which is seen in how the error falls; it is adapted from there. The last steps are exact, to reap what the
/// strides were for.
#[derive(Clone, Debug)]
pub struct Relaxed {
    /// The relaxation at first, from 1 (alternating least squares) to below 2.
    first: f64,
    adaptive: bool,
    /// How each matrix is doing.
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

/// A good relaxation before anything is known: matrices of trained networks creep.
const FIRST: f64 = 1.8;

/// The most there is: beyond, rounding and the curvature of the real problem win.
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
    // ω = 1; the best is ω = 2 / (1 + √(1 − μ²)). Beyond the best one λ is ω − 1 whatever μ², and tells but to go back.
    let rate = rate.clamp(1e-3, 1.0);
    if rate <= relaxation - 1.0 + 0.02 {
        // In large steps from far, in small ones near the best, from which the next measurement leads back.
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
        // How rounding falls says nothing about the matrix.
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
        let state = problem.change_u(state, &|quadratic| rule(&of_u_and_v, quadratic));
        let state = problem.change_v(state, &|quadratic| rule(&of_u_and_v, quadratic));
        for (relaxation, pace) in relaxations.iter_mut().zip(&self.paces) {
            if pace.exact_from_the_start {
                *relaxation = 0.0;
            }
        }
        let of_s = problem.per_matrix(&relaxations);
        let mut state = problem.change_s(state, &|quadratic| rule(&of_s, quadratic));
        state.factors = state.factors.balanced();
        Ok(state)
    }
}

/// What keeps the solution of a singular problem where it is, relative to the mean of the Gram matrix's diagonal: the residual,
/// not the factor, is what is solved for, so damping slows but does not bias.
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
    fn the_relaxation_settles_where_the_theory_says() {
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
