//! Methods that improve the factors, one step at a time.

mod gradient_descent;
mod levenberg_marquardt;
mod preconditioned;
mod relaxed;

pub use gradient_descent::Gd;
pub use levenberg_marquardt::LevenbergMarquardt;
pub use preconditioned::PrecGd;
pub use relaxed::Relaxed;

use super::{Problem, Quadratic, State};
use crate::CompressError;
use burn::tensor::{Tensor, s};
use burn_structured_ops::spd::spd_solve;

/// A method that improves factors.
pub trait Stepper: Send {
    /// The name under which it is reported.
    fn name(&self) -> &'static str;

    /// The factors after one step, with their residual.
    ///
    /// # Errors
    ///
    /// If the step cannot be computed.
    fn step(&mut self, problem: &Problem, state: State, clock: Clock<'_>) -> Result<State, CompressError>;
}

/// The progress of an optimisation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clock<'a> {
    /// Steps done so far.
    pub step: usize,
    /// The maximum number of steps.
    pub steps: usize,
    /// Relative error of each matrix before this step. Methods adapt to each error separately: results do not depend on the
    /// batch.
    pub errors: &'a [f64],
}

impl Clock<'_> {
    /// From 1 at the first step, linearly to 0 after the last.
    pub fn remaining(&self) -> f64 {
        1.0 - self.step as f64 / self.steps as f64
    }
}

/// The change `(H + d)⁻¹ g` of every row of the blocks, where the damping `d` is added to the diagonal.
fn solved(quadratic: Quadratic, damping: Tensor<3>) -> Tensor<3> {
    let Quadratic { gradient, gram, .. } = quadratic;
    let [blocks, r, _] = gram.dims();
    let diagonal = diagonal(&gram);
    let damped =
        gram.reshape([blocks, r * r]).slice_assign(s![.., ..;r as isize + 1], diagonal + damping.squeeze_dim(2));
    spd_solve(damped.reshape([blocks, r, r]), gradient.swap_dims(1, 2)).swap_dims(1, 2)
}

/// The diagonals of matrices: `[blocks, r]`.
fn diagonal(matrices: &Tensor<3>) -> Tensor<2> {
    let [blocks, r, _] = matrices.dims();
    matrices.clone().reshape([blocks, r * r]).slice(s![.., ..;r as isize + 1])
}
