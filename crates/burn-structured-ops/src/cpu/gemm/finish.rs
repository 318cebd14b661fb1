//! What follows a product, applied by the task that has computed a part of it, while that part is in a cache.
//!
//! The bias goes with the tiles as they are stored. Activation, gate and residual wait until the sums are complete, after the last block
//! of depth.

use super::Epilogue;
use crate::activation::Activation;
use crate::cpu::runtime::math::{self, Math};
use crate::cpu::{Scalar, vectorized};

/// What follows a product `[tokens, m]`: `residual + gate ∘ f(x Wᵀ + bias)`, of which every part may be missing.
#[derive(Clone, Copy)]
pub(crate) struct Finish<'a, E> {
    /// `[m]`.
    pub bias: Option<&'a [E]>,
    pub activation: Option<Activation>,
    /// `[tokens, m]`, row by row.
    pub gate: Option<&'a [E]>,
    /// `[tokens, m]`, row by row.
    pub residual: Option<&'a [E]>,
}

impl<'a, E: Scalar> Finish<'a, E> {
    /// Nothing but a bias, if there is one.
    pub fn bias(bias: Option<&'a [E]>) -> Self {
        Self { bias, activation: None, gate: None, residual: None }
    }

    /// The epilogue of tiles in columns `first .. first + count`.
    pub fn epilogue(self, first: usize, count: usize) -> Epilogue<'a, E> {
        Epilogue::bias(self.bias.map(|bias| &bias[first..][..count]))
    }

    /// The rows from `start` on.
    pub fn rows_from(self, start: usize, m: usize) -> Self {
        let from = |tensor: &'a [E]| &tensor[start * m..];
        Self { gate: self.gate.map(from), residual: self.residual.map(from), ..self }
    }

    /// Whether the tiles' epilogue is all there is.
    pub fn is_bias(self) -> bool {
        self.activation.is_none() && self.gate.is_none() && self.residual.is_none()
    }

    /// Everything but the bias, for elements `at ..` of the output in row-major order.
    ///
    /// # Panics
    ///
    /// If a tensor has fewer elements.
    pub fn apply(self, y: &mut [E], at: usize) {
        let of_y = |tensor: Option<&'a [E]>| tensor.map(|tensor| &tensor[at..][..y.len()]);
        let (gate, residual) = (of_y(self.gate), of_y(self.residual));
        vectorized(
            #[inline(always)]
            || apply(y, self.activation, gate, residual),
        );
    }
}

/// `y = residual + gate ∘ f(y)`.
#[inline(always)]
fn apply<E: Scalar + Math>(y: &mut [E], activation: Option<Activation>, gate: Option<&[E]>, residual: Option<&[E]>) {
    if let Some(activation) = activation {
        math::activate(y, activation);
    }
    if let Some(gate) = gate {
        for (y, gate) in y.iter_mut().zip(gate) {
            *y = *y * *gate;
        }
    }
    if let Some(residual) = residual {
        for (y, residual) in y.iter_mut().zip(residual) {
            *y += *residual;
        }
    }
}
