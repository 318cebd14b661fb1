//! Updates of one factor at a time, by the least-squares problem that it has while the other two are held.
//!
//! `½ ‖W − A‖²` is quadratic in each of `U`, `s` and `V`. The rows of `U_i` share the Hessian `V̄_iᵀ V̄_i` with
//! `V̄_i = [V_j diag(s_ij)]_j`; `V` is the same of the transposed matrices; `s_ij` has `(U_iᵀ U_i) ∘ (V_jᵀ V_j)` (Lee et al.,
//! NeurIPS 2024, §3). Gradients are products of the residual with the held factors: no autodiff graph is kept.
//!
//! The BLAST layer's `from_dense` solves the same three problems of one matrix on the host, without a metric. Here a rule decides what
//! becomes of gradient and Hessian, so that gradient descent and over-relaxation share these updates, and matrices come in batches.

use super::chunks::{Chunk, batch, gram, stack_scaled};
use super::metric::Metric;
use super::{BlastFactors, Problem, State};
use burn::tensor::Tensor;
use std::ops::Range;

/// The quadratic problem of a factor, for a chunk of its blocks.
pub struct Quadratic<'a> {
    /// Gradient of half the squared residual: `[blocks, rows, r]`.
    pub gradient: Tensor<3>,
    /// The Hessian that all rows of a block share: `[blocks, r, r]`.
    pub gram: Tensor<3>,
    /// The factors before the update.
    state: &'a State,
    /// The matrices of the blocks.
    matrices: Range<usize>,
}

impl Quadratic<'_> {
    /// `‖W − A‖` of the matrix of each block: `[blocks, 1, 1]`.
    pub fn residual_norm(&self) -> Tensor<3> {
        self.per_block(self.state.norm())
    }

    /// From a number for each matrix of the problem, `[k]`, that of each block's matrix: `[blocks, 1, 1]`.
    pub fn per_block(&self, numbers: &Tensor<1>) -> Tensor<3> {
        let (matrices, all) = (self.matrices.len(), self.gradient.dims()[0]);
        let numbers: Tensor<2> = numbers.clone().slice([self.matrices.clone()]).unsqueeze_dim(1);
        numbers.expand([matrices, all / matrices]).reshape([all, 1, 1])
    }
}

/// The update of a factor: what is subtracted from it, `[blocks, rows, r]`.
pub type Rule<'a> = dyn Fn(Quadratic) -> Tensor<3> + 'a;

impl Problem {
    /// The state after an update of `U`.
    pub fn update_u(&self, state: State, rule: &Rule) -> State {
        let BlastFactors { u, s, v } = state.factors.clone();
        let [_, m, n] = self.dims();
        let p = m / self.grid[0];
        let [u, product] = self.in_chunks(self.grid[0], n * self.rank, |chunk| {
            let right = stack_scaled(&s, &v, chunk);
            let gram = match &self.metric {
                None => gram(&right),
                Some(metric) => {
                    let moment = metric.of(&chunk.matrices).unsqueeze_dim::<4>(1);
                    right.clone().swap_dims(2, 3).matmul(moment.matmul(right.clone()))
                }
            };
            let weighted = chunk.rows_of(&state.weighted, p);
            let weighted = weighted.reshape([chunk.matrices.len(), chunk.blocks.len(), p, n]);
            let (gradient, gram) = (batch(weighted.matmul(right.clone())), batch(gram));
            let u = chunk.of(&u);
            let change = rule(Quadratic { gradient, gram, state: &state, matrices: chunk.matrices.clone() });
            let u = u.clone() - change.reshape(u.dims());
            [u.clone(), u.matmul(right.swap_dims(2, 3))]
        });
        let u = u.reshape(state.factors.u.dims());
        self.state_of(BlastFactors { u, s, v }, product)
    }

    /// The state after an update of `V`.
    ///
    /// In a metric the blocks of `V` depend on each other, and are updated one after another.
    pub fn update_v(&self, state: State, rule: &Rule) -> State {
        match &self.metric {
            None => self.update_v_at_once(state, rule),
            Some(metric) => self.update_v_in_turn(state, metric, rule),
        }
    }

    fn update_v_at_once(&self, state: State, rule: &Rule) -> State {
        let BlastFactors { u, s, v } = state.factors.clone();
        let [k, m, n] = self.dims();
        let (b2, q) = (self.grid[1], n / self.grid[1]);
        // E_jᵀ, [q, m], for every column j of the grid.
        let transposed = state.residual.clone().reshape([k, m, b2, q]).permute([0, 2, 3, 1]);
        let couplings = s.clone().swap_dims(1, 2);
        let [v] = self.in_chunks(b2, m * self.rank, |chunk| {
            let left = stack_scaled(&couplings, &u, chunk);
            let gradient = batch(chunk.of(&transposed).matmul(left.clone()));
            let v = chunk.of(&v);
            let matrices = chunk.matrices.clone();
            let change = rule(Quadratic { gradient, gram: batch(gram(&left)), state: &state, matrices });
            [v.clone() - change.reshape(v.dims())]
        });
        let v = v.reshape(state.factors.v.dims());
        self.state(BlastFactors { u, s, v })
    }

    fn update_v_in_turn(&self, state: State, metric: &Metric, rule: &Rule) -> State {
        let BlastFactors { u, s, v } = state.factors.clone();
        let [k, _, n] = self.dims();
        let (b2, q) = (self.grid[1], n / self.grid[1]);
        let couplings = s.clone().swap_dims(1, 2);
        let mut weighted = state.weighted.clone();
        let mut blocks = Vec::with_capacity(b2);
        for j in 0..b2 {
            let left = stack_scaled(&couplings, &u, &Chunk { matrices: 0..k, blocks: j..j + 1 });
            let (gram, left) = (batch(gram(&left)), batch(left));
            let gradient = weighted.clone().narrow(2, j * q, q).swap_dims(1, 2).matmul(left.clone());
            let gradient = metric.inverse_block(j).matmul(gradient);
            let change = rule(Quadratic { gradient, gram, state: &state, matrices: 0..k });
            blocks.push(v.clone().narrow(1, j, 1) - change.clone().unsqueeze_dim(1));
            weighted = weighted - metric.weigh_block(j, left.matmul(change.swap_dims(1, 2)));
        }
        self.state(BlastFactors { u, s, v: Tensor::cat(blocks, 1) })
    }

    /// The state after an update of `s`.
    ///
    /// In a metric the columns of the grid depend on each other, and are updated one after another.
    pub fn update_s(&self, state: State, rule: &Rule) -> State {
        let BlastFactors { u, s, v } = state.factors.clone();
        let [k, m, n] = self.dims();
        let ([b1, b2], r) = (self.grid, self.rank);
        let (p, q) = (m / b1, n / b2);
        let mut weighted = state.weighted.clone();
        // As many columns of the grid at once as are independent.
        let columns_at_once = if self.metric.is_some() { 1 } else { b2 };
        let gram_u = gram(&u);
        let mut updated = Vec::with_capacity(b2 / columns_at_once);
        for first in (0..b2).step_by(columns_at_once) {
            let held = v.clone().narrow(1, first, columns_at_once);
            let gram_v = match &self.metric {
                None => gram(&held),
                Some(metric) => {
                    let held = held.clone().reshape([k, q, r]);
                    let gram = held.clone().swap_dims(1, 2).matmul(metric.block(first).matmul(held));
                    gram.unsqueeze_dim(1)
                }
            };
            let [change] = self.in_chunks(b1, columns_at_once * r * r.max(p), |chunk| {
                let (kk, ii) = (chunk.matrices.len(), chunk.blocks.len());
                let all = kk * ii * columns_at_once;
                let weighted = chunk.rows_of(&weighted, p).narrow(2, first * q, columns_at_once * q);
                let weighted = weighted.reshape([kk, ii * p, columns_at_once, q]).swap_dims(1, 2);
                let right = weighted.matmul(held.clone().slice([chunk.matrices.clone()]));
                let left = chunk.of(&u).unsqueeze_dim::<5>(1);
                let gradient: Tensor<5> = (right.reshape([kk, columns_at_once, ii, p, r]) * left).sum_dim(3);
                let gradient = gradient.swap_dims(1, 2).reshape([all, 1, r]);
                let gram_u = chunk.of(&gram_u).unsqueeze_dim::<5>(2);
                let gram_v = gram_v.clone().slice([chunk.matrices.clone()]).unsqueeze_dim::<5>(1);
                let gram = (gram_u * gram_v).reshape([all, r, r]);
                let change = rule(Quadratic { gradient, gram, state: &state, matrices: chunk.matrices.clone() });
                [change.reshape([kk, ii, columns_at_once, r])]
            });
            let change = change.reshape([k, b1, columns_at_once, r]);
            if let Some(metric) = &self.metric {
                // U_i diag(Δs_ij) V_jᵀ, for the one column j.
                let left = (u.clone() * change.clone()).reshape([k, m, r]);
                weighted = weighted - metric.weigh_block(first, left.matmul(held.reshape([k, q, r]).swap_dims(1, 2)));
            }
            updated.push(s.clone().narrow(2, first, columns_at_once) - change);
        }
        self.state(BlastFactors { u, s: Tensor::cat(updated, 2), v })
    }
}
