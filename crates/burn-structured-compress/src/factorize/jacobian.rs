//! Products with the Jacobian `J` of the matrices by all three factors at once, for methods that update them together.

use super::chunks::stack_scaled;
use super::{BlastFactors, Problem};
use burn::tensor::Tensor;

impl Problem {
    /// `J p`: the change of the matrices, to first order, when the factors `at` change by `p`: `[k, m, n]`.
    pub(super) fn jvp(&self, at: &BlastFactors, p: &BlastFactors) -> Tensor<3> {
        let [_, _, n] = self.dims();
        let [product] = self.in_chunks(self.grid[0], 2 * n * self.rank, |chunk| {
            let product = |u: &Tensor<4>, right: Tensor<4>| chunk.of(u).matmul(right.swap_dims(2, 3));
            let right = stack_scaled(&p.s, &at.v, chunk) + stack_scaled(&at.s, &p.v, chunk);
            [product(&at.u, right) + product(&p.u, stack_scaled(&at.s, &at.v, chunk))]
        });
        product
    }

    /// `Jᵀ E C`: the gradient of half the squared residual `E [k, m, n]` by every factor.
    pub(super) fn gradient(&self, at: &BlastFactors, residual: &Tensor<3>) -> BlastFactors {
        let [k, m, n] = self.dims();
        let ([b1, b2], r) = (self.grid, self.rank);
        let (p, q) = (m / b1, n / b2);
        let weighted = self.weigh(residual);
        // E_ij V_j for every block, as many columns of the grid at a time as fit.
        let at_once = self.blocks_at_once(k * m * r).min(b2);
        let left = at.u.clone().unsqueeze_dim::<5>(1);
        let mut u: Option<Tensor<5>> = None;
        let (mut s, mut v) = (Vec::new(), Vec::new());
        for first in (0..b2).step_by(at_once) {
            let count = at_once.min(b2 - first);
            let columns = weighted.clone().narrow(2, first * q, count * q).reshape([k, m, count, q]).swap_dims(1, 2);
            let held = at.v.clone().narrow(1, first, count);
            let couplings = at.s.clone().narrow(2, first, count).swap_dims(1, 2).unsqueeze_dim::<5>(3);
            let right = columns.clone().matmul(held).reshape([k, count, b1, p, r]);
            s.push((right.clone() * left.clone()).sum_dim(3).reshape([k, count, b1, r]).swap_dims(1, 2));
            let scaled = (left.clone() * couplings.clone()).reshape([k, count, m, r]);
            v.push(columns.swap_dims(2, 3).matmul(scaled));
            let part = (right * couplings).sum_dim(1);
            u = Some(match u.take() {
                None => part,
                Some(sum) => sum + part,
            });
        }
        let u = u.map_or_else(|| at.u.zeros_like(), |u| u.reshape([k, b1, p, r]));
        BlastFactors { u, s: Tensor::cat(s, 2), v: Tensor::cat(v, 1) }
    }

    /// The mean diagonal entry of `Jᵀ J`, up to a constant, for each matrix: `[k]`.
    pub(super) fn mean_curvature(&self, factors: &BlastFactors) -> Tensor<1> {
        let [k, m, n] = self.dims();
        let square = |factor: &Tensor<4>| factor.clone().powf_scalar(2.0).mean_dims(&[1, 2, 3]).reshape([k]);
        let (u, s, v) = (square(&factors.u), square(&factors.s), square(&factors.v));
        (v * s.clone()) * n as f64 + (u * s) * m as f64
    }
}
