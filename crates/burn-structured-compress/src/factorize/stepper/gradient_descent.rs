//! Alternating gradient descent, the baseline of the BLAST paper.

use super::{Clock, Stepper};
use crate::CompressError;
use crate::factorize::{Problem, Quadratic, Schedule, State};
use burn::tensor::{Tensor, TensorData};
use faer::{MatRef, Side};
use rayon::prelude::*;

/// Alternating gradient descent: the step of a block is its gradient over the largest eigenvalue of its Gram
/// matrix, the largest step that cannot raise the error, times the schedule's rate.
#[derive(Clone, Debug, Default)]
pub struct Gd {
    /// The rate over the steps.
    pub schedule: Schedule,
}

impl Stepper for Gd {
    fn name(&self) -> &'static str {
        "GD"
    }

    fn step(&mut self, problem: &Problem, state: State, clock: Clock<'_>) -> Result<State, CompressError> {
        let rate = self.schedule.rate(clock);
        let rule = |Quadratic { gradient, gram, .. }: Quadratic| gradient * rate / largest_eigenvalues(gram);
        let state = problem.update_u(state, &rule);
        let state = problem.update_v(state, &rule);
        Ok(problem.update_s(state, &rule))
    }
}

/// The largest eigenvalue of each matrix, `[blocks, 1, 1]`, computed on the host.
fn largest_eigenvalues(gram: Tensor<3>) -> Tensor<3> {
    let (device, dtype, [blocks, r, _]) = (gram.device(), gram.dtype(), gram.dims());
    let entries: Vec<f64> = gram.into_data().iter::<f64>().collect();
    let largest: Vec<f64> = entries
        .par_chunks_exact(r * r)
        .map(|gram| {
            let eigenvalues = MatRef::from_row_major_slice(gram, r, r).self_adjoint_eigenvalues(Side::Lower);
            // A gradient of zeros may be divided by anything but 0.
            eigenvalues.ok().and_then(|ascending| ascending.last().copied()).unwrap_or(f64::NAN) + 1e-30
        })
        .collect();
    let largest = TensorData::new(largest, [blocks, 1, 1]).convert_dtype(dtype);
    Tensor::from_data(largest, (&device, dtype))
}
