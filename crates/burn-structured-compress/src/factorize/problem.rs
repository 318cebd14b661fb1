//! The matrices to be factorized: products, residuals and the least-squares problem of each factor.
//!
//! With two of `U`, `s`, `V` held, `½ ‖W − A‖²` is quadratic in the third. For the rows of `U_i` it is the normal equation with
//! the Gram matrix `V̄_iᵀ V̄_i`, where `V̄_i = [V_j diag(s_ij)]_j`; for `V` the same of the transposed problem; and for `s_ij`
//! the Gram matrix is `(U_iᵀ U_i) ∘ (V_jᵀ V_j)` (Lee et al., NeurIPS 2024, §3). Gradients are products of the residual with
//! what is held, so no autodiff graph is kept; `V̄` and the Gram matrices are built for as many blocks at a time as take no more
//! room than the matrices themselves.

use super::BlastFactors;
use super::factors::either;
use super::metric::Metric;
use burn::tensor::{DType, Device, Tensor, TensorData};
use std::cell::OnceCell;
use std::ops::Range;

/// Below this, a piece is not worth a launch of its own.
const LEAST_PIECE: usize = 1 << 18;

/// Matrices of one shape, and the grid and rank of the factors that are to stand for them.
#[derive(Debug)]
pub struct Problem {
    /// `[k, m, n]`.
    pub(super) target: Tensor<3>,
    pub(super) grid: [usize; 2],
    pub(super) rank: usize,
    pub(super) metric: Option<Metric>,
    /// `‖A‖` in the metric, for each matrix.
    norms: Vec<f64>,
}

/// The quadratic problem of a factor, for as many of its blocks as were built at once.
pub struct Quadratic<'a> {
    /// Gradient of half the squared residual: `[blocks, rows, r]`.
    pub gradient: Tensor<3>,
    /// The Hessian that every row of a block has: `[blocks, r, r]`.
    pub gram: Tensor<3>,
    /// Where the factors are.
    state: &'a State,
    /// The matrices that the blocks belong to.
    matrices: Range<usize>,
}

impl Quadratic<'_> {
    /// `‖W − A‖` of the matrix that the block belongs to: `[blocks, 1, 1]`.
    pub fn residual(&self) -> Tensor<3> {
        self.per_block(self.state.norm())
    }

    /// A number for each matrix of the problem, `[k]`, for each of the blocks: `[blocks, 1, 1]`.
    pub fn per_block(&self, numbers: &Tensor<1>) -> Tensor<3> {
        spread(numbers, &self.matrices, self.gradient.dims()[0] / self.matrices.len())
    }
}

/// How to change a factor: what is to be subtracted from it, `[blocks, rows, r]`.
pub type Rule<'a> = dyn Fn(Quadratic) -> Tensor<3> + 'a;

/// Factors, and how far their matrices are from the target.
#[derive(Clone, Debug)]
pub struct State {
    /// The factors.
    pub factors: BlastFactors,
    /// `E = W − A`, `[k, m, n]`.
    pub residual: Tensor<3>,
    /// `E C`, or `E` itself where there is no metric.
    weighed: Tensor<3>,
    /// `‖E‖` in the metric, once somebody asked.
    norm: OnceCell<Tensor<1>>,
}

impl State {
    /// `‖E‖` of each matrix, in the metric: `[k]`.
    pub fn norm(&self) -> &Tensor<1> {
        self.norm.get_or_init(|| norm(&self.residual, &self.weighed))
    }

    /// This one where `chosen` says so, and the other elsewhere, matrix by matrix.
    pub(super) fn or(self, other: Self, chosen: &[bool]) -> Self {
        Self {
            factors: self.factors.or(other.factors, chosen),
            residual: either(self.residual, other.residual, chosen),
            weighed: either(self.weighed, other.weighed, chosen),
            norm: OnceCell::new(),
        }
    }
}

impl Problem {
    /// `target [k, m, n]`, to be factorized on a grid that divides it.
    pub(super) fn new(target: Tensor<3>, grid: [usize; 2], rank: usize, metric: Option<Metric>) -> Self {
        let mut problem = Self { target, grid, rank, metric, norms: Vec::new() };
        // Of a matrix of zeros every error is absolute.
        let divisor = |norm: f64| if norm == 0.0 { 1.0 } else { norm };
        let weighed = problem.weigh(&problem.target);
        problem.norms = entries(&norm(&problem.target, &weighed)).into_iter().map(divisor).collect();
        problem
    }

    /// The number of matrices, their rows and their columns.
    pub fn dims(&self) -> [usize; 3] {
        self.target.dims()
    }

    /// Where the matrices are.
    pub fn device(&self) -> Device {
        self.target.device()
    }

    /// The type of their entries.
    pub fn dtype(&self) -> DType {
        self.target.dtype()
    }

    /// The factors with their residual.
    pub fn state(&self, factors: BlastFactors) -> State {
        let product = self.product(&factors);
        self.with_product(factors, product)
    }

    fn with_product(&self, factors: BlastFactors, product: Tensor<3>) -> State {
        let residual = product - self.target.clone();
        let weighed = self.weigh(&residual);
        State { factors, residual, weighed, norm: OnceCell::new() }
    }

    /// The matrices that the factors stand for, `[k, m, n]`.
    pub fn product(&self, factors: &BlastFactors) -> Tensor<3> {
        let [_, _, n] = self.dims();
        let [product] = self.by_pieces(self.pieces(self.grid[0], n * self.rank), |matrices, rows| {
            let right = coupled(&factors.s, &factors.v, &matrices, &rows);
            [joined_rows(part(&factors.u, &matrices, &rows).matmul(right.swap_dims(2, 3)))]
        });
        product
    }

    /// `‖W − A‖ / ‖A‖` of each matrix, in the metric; `‖W‖` where `A` is zero.
    pub fn relative_errors(&self, state: &State) -> Vec<f64> {
        entries(state.norm()).into_iter().zip(&self.norms).map(|(error, norm)| error / norm).collect()
    }

    /// `E C`.
    fn weigh(&self, residual: &Tensor<3>) -> Tensor<3> {
        match &self.metric {
            None => residual.clone(),
            Some(metric) => residual.clone().matmul(metric.moment.clone()),
        }
    }

    /// The state after `U` was changed by the rule.
    pub fn change_u(&self, state: State, rule: &Rule) -> State {
        let BlastFactors { u, s, v } = state.factors.clone();
        let [_, m, n] = self.dims();
        let p = m / self.grid[0];
        let [u, product] = self.by_pieces(self.pieces(self.grid[0], n * self.rank), |matrices, rows| {
            let right = coupled(&s, &v, &matrices, &rows);
            let weighed = state.weighed.clone().slice([matrices.clone(), rows.start * p..rows.end * p]);
            let gram = match &self.metric {
                None => gram(&right),
                Some(metric) => {
                    let moment = metric.of(&matrices).unsqueeze_dim::<4>(1);
                    right.clone().swap_dims(2, 3).matmul(moment.matmul(right.clone()))
                }
            };
            let gradient = weighed.reshape([matrices.len(), rows.len(), p, n]).matmul(right.clone());
            let u = part(&u, &matrices, &rows);
            let quadratic = Quadratic { gradient: batch(gradient), gram: batch(gram), state: &state, matrices };
            let u = u.clone() - rule(quadratic).reshape(u.dims());
            let product = u.clone().matmul(right.swap_dims(2, 3));
            [u, product].map(joined_rows)
        });
        let u = u.reshape(state.factors.u.dims());
        self.with_product(BlastFactors { u, s, v }, product)
    }

    /// The state after `V` was changed by the rule.
    ///
    /// In a metric the blocks of `V` depend on each other, and are changed in turn.
    pub fn change_v(&self, state: State, rule: &Rule) -> State {
        match &self.metric {
            None => self.change_v_at_once(state, rule),
            Some(metric) => self.change_v_in_turn(state, metric, rule),
        }
    }

    fn change_v_at_once(&self, state: State, rule: &Rule) -> State {
        let BlastFactors { u, s, v } = state.factors.clone();
        let [k, m, n] = self.dims();
        let (b2, q) = (self.grid[1], n / self.grid[1]);
        // E_jᵀ, [q, m], for every column j of the grid.
        let transposed = state.residual.clone().reshape([k, m, b2, q]).permute([0, 2, 3, 1]);
        let couplings = s.clone().swap_dims(1, 2);
        let [v] = self.by_pieces(self.pieces(b2, m * self.rank), |matrices, columns| {
            let left = coupled(&couplings, &u, &matrices, &columns);
            let gradient = batch(part(&transposed, &matrices, &columns).matmul(left.clone()));
            let v = part(&v, &matrices, &columns);
            let quadratic = Quadratic { gradient, gram: batch(gram(&left)), state: &state, matrices };
            [joined_rows(v.clone() - rule(quadratic).reshape(v.dims()))]
        });
        let v = v.reshape(state.factors.v.dims());
        self.state(BlastFactors { u, s, v })
    }

    fn change_v_in_turn(&self, state: State, metric: &Metric, rule: &Rule) -> State {
        let BlastFactors { u, s, v } = state.factors.clone();
        let [k, _, n] = self.dims();
        let (b2, q) = (self.grid[1], n / self.grid[1]);
        let couplings = s.clone().swap_dims(1, 2);
        let mut weighed = state.weighed.clone();
        let mut blocks = Vec::with_capacity(b2);
        for j in 0..b2 {
            let left = coupled(&couplings, &u, &(0..k), &(j..j + 1));
            let (gram, left) = (batch(gram(&left)), batch(left));
            let gradient = weighed.clone().narrow(2, j * q, q).swap_dims(1, 2).matmul(left.clone());
            let gradient = metric.inverse_block(j).matmul(gradient);
            let change = rule(Quadratic { gradient, gram, state: &state, matrices: 0..k });
            blocks.push(v.clone().narrow(1, j, 1) - change.clone().unsqueeze_dim(1));
            let moved = left.matmul(change.swap_dims(1, 2));
            weighed = weighed - moved.matmul(metric.moment.clone().narrow(1, j * q, q));
        }
        self.state(BlastFactors { u, s, v: Tensor::cat(blocks, 1) })
    }

    /// The state after `s` was changed by the rule.
    ///
    /// In a metric the columns of the grid depend on each other, and are changed in turn.
    pub fn change_s(&self, state: State, rule: &Rule) -> State {
        let BlastFactors { u, s, v } = state.factors.clone();
        let [k, m, n] = self.dims();
        let ([b1, b2], r) = (self.grid, self.rank);
        let (p, q) = (m / b1, n / b2);
        let mut weighed = state.weighed.clone();
        // As many columns of the grid at once as are independent.
        let group = if self.metric.is_some() { 1 } else { b2 };
        let gram_u = gram(&u);
        let mut columns = Vec::with_capacity(b2 / group);
        for first in (0..b2).step_by(group) {
            let held = v.clone().narrow(1, first, group);
            let gram_v = match &self.metric {
                None => gram(&held),
                Some(metric) => {
                    let held = held.clone().reshape([k, q, r]);
                    let gram = held.clone().swap_dims(1, 2).matmul(metric.block(first).matmul(held));
                    gram.unsqueeze_dim(1)
                }
            };
            let pieces = self.pieces(b1, group * r * r.max(p));
            let [change] = self.by_pieces(pieces, |matrices, rows| {
                let (kk, ii) = (matrices.len(), rows.len());
                let weighed = weighed.clone().slice([
                    matrices.clone(),
                    rows.start * p..rows.end * p,
                    first * q..(first + group) * q,
                ]);
                let weighed = weighed.reshape([kk, ii * p, group, q]).swap_dims(1, 2);
                let right = weighed.matmul(held.clone().slice([matrices.clone()]));
                let left = part(&u, &matrices, &rows).unsqueeze_dim::<5>(1);
                let gradient: Tensor<5> = (right.reshape([kk, group, ii, p, r]) * left).sum_dim(3);
                let gradient = gradient.swap_dims(1, 2).reshape([kk * ii * group, 1, r]);
                let gram_u = part(&gram_u, &matrices, &rows).unsqueeze_dim::<5>(2);
                let gram_v = gram_v.clone().slice([matrices.clone()]).unsqueeze_dim::<5>(1);
                let gram = (gram_u * gram_v).reshape([kk * ii * group, r, r]);
                let quadratic = Quadratic { gradient, gram, state: &state, matrices };
                [rule(quadratic).reshape([kk, ii, group * r])]
            });
            let change = change.reshape([k, b1, group, r]);
            if let Some(metric) = &self.metric {
                // U_i diag(Δs_ij) V_jᵀ, for the one column j.
                let left = (u.clone() * change.clone()).reshape([k, m, r]);
                let moved = left.matmul(held.reshape([k, q, r]).swap_dims(1, 2));
                weighed = weighed - moved.matmul(metric.moment.clone().narrow(1, first * q, q));
            }
            columns.push(s.clone().narrow(2, first, group) - change);
        }
        self.state(BlastFactors { u, s: Tensor::cat(columns, 2), v })
    }

    /// `J p`: how the matrices change, to first order, with the factors, `[k, m, n]`.
    pub(super) fn moved(&self, at: &BlastFactors, by: &BlastFactors) -> Tensor<3> {
        let [_, _, n] = self.dims();
        let [moved] = self.by_pieces(self.pieces(self.grid[0], 2 * n * self.rank), |matrices, rows| {
            let coupled = |s: &Tensor<4>, v: &Tensor<4>| coupled(s, v, &matrices, &rows);
            let product = |u: &Tensor<4>, right: Tensor<4>| part(u, &matrices, &rows).matmul(right.swap_dims(2, 3));
            let moved = product(&at.u, coupled(&by.s, &at.v) + coupled(&at.s, &by.v));
            let moved = moved + product(&by.u, coupled(&at.s, &at.v));
            [joined_rows(moved)]
        });
        moved
    }

    /// `Jᵀ E C`: the gradient of half the squared residual by every factor.
    pub(super) fn gradient(&self, at: &BlastFactors, residual: Tensor<3>) -> BlastFactors {
        let [k, m, n] = self.dims();
        let ([b1, b2], r) = (self.grid, self.rank);
        let (p, q) = (m / b1, n / b2);
        let weighed = self.weigh(&residual);
        // E_ij V_j for every block, as many columns of the grid at a time as take no more room than the matrices.
        let at_once = ((k * m * n).max(LEAST_PIECE) / (k * m * r)).clamp(1, b2);
        let left = at.u.clone().unsqueeze_dim::<5>(1);
        let mut u: Option<Tensor<5>> = None;
        let (mut s, mut v) = (Vec::new(), Vec::new());
        for first in (0..b2).step_by(at_once) {
            let group = at_once.min(b2 - first);
            let columns = weighed.clone().narrow(2, first * q, group * q).reshape([k, m, group, q]).swap_dims(1, 2);
            let held = at.v.clone().narrow(1, first, group);
            let couplings = at.s.clone().narrow(2, first, group).swap_dims(1, 2).unsqueeze_dim::<5>(3);
            let right = columns.clone().matmul(held).reshape([k, group, b1, p, r]);
            s.push((right.clone() * left.clone()).sum_dim(3).reshape([k, group, b1, r]).swap_dims(1, 2));
            let scaled = (left.clone() * couplings.clone()).reshape([k, group, m, r]);
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

    /// The size of the curvature `Jᵀ J`, on average, for each matrix.
    pub(super) fn mean_curvature(&self, factors: &BlastFactors) -> Tensor<1> {
        let [k, ..] = self.dims();
        let square = |factor: &Tensor<4>| factor.clone().powf_scalar(2.0).mean_dims(&[1, 2, 3]).reshape([k]);
        let (u, s, v) = (square(&factors.u), square(&factors.s), square(&factors.v));
        let [_, m, n] = self.dims();
        (v * s.clone()) * n as f64 + (u * s) * m as f64
    }

    /// A number for each matrix, as a tensor.
    pub fn per_matrix(&self, numbers: &[f64]) -> Tensor<1> {
        let data = TensorData::new(numbers.to_vec(), [numbers.len()]).convert_dtype(self.dtype());
        Tensor::from_data(data, (&self.device(), self.dtype()))
    }

    /// Ranges of matrices and of their `blocks` that take no more room than the matrices, at `size` elements a block.
    fn pieces(&self, blocks: usize, size: usize) -> Vec<(Range<usize>, Vec<Range<usize>>)> {
        let [k, m, n] = self.dims();
        let at_once = ((k * m * n).max(LEAST_PIECE) / size.max(1)).max(1);
        let ranges = |all: usize, step: usize| (0..all).step_by(step).map(move |at| at..(at + step).min(all));
        let matrices = (at_once / blocks).clamp(1, k);
        ranges(k, matrices).map(|matrices| (matrices, ranges(blocks, at_once.min(blocks)).collect())).collect()
    }

    /// What `part` makes of every piece, put together: it returns `[matrices, rows, columns]`, `rows` for all of its blocks.
    fn by_pieces<const N: usize>(
        &self,
        pieces: Vec<(Range<usize>, Vec<Range<usize>>)>,
        part: impl Fn(Range<usize>, Range<usize>) -> [Tensor<3>; N],
    ) -> [Tensor<3>; N] {
        let matrices = pieces.into_iter().map(|(matrices, blocks)| {
            side_by_side(blocks.into_iter().map(|blocks| part(matrices.clone(), blocks)).collect(), 1)
        });
        side_by_side(matrices.collect(), 0)
    }
}

/// The first of every part, joined, then the second of every part, and so on.
fn side_by_side<const N: usize>(mut parts: Vec<[Tensor<3>; N]>, dim: usize) -> [Tensor<3>; N] {
    match parts.len() {
        1 => parts.remove(0),
        _ => std::array::from_fn(|at| Tensor::cat(parts.iter().map(|part| part[at].clone()).collect(), dim)),
    }
}

/// `‖E‖` of each matrix, `[k]`, where `weighed` is `E C`.
fn norm(residual: &Tensor<3>, weighed: &Tensor<3>) -> Tensor<1> {
    let [k, m, n] = residual.dims();
    // Products of rows: a matmul is faster than a reduction everywhere.
    let (row, column) = (residual.clone().reshape([k * m, 1, n]), weighed.clone().reshape([k * m, n, 1]));
    row.matmul(column).reshape([k, m]).sum_dim(1).reshape([k]).clamp_min(0.0).sqrt()
}

fn entries(numbers: &Tensor<1>) -> Vec<f64> {
    numbers.to_data().iter::<f64>().collect()
}

/// `[V_j diag(s_ij)]_j` for some rows `i` of the grid: `[matrices, rows, n, r]`.
fn coupled(s: &Tensor<4>, v: &Tensor<4>, matrices: &Range<usize>, rows: &Range<usize>) -> Tensor<4> {
    let [_, b2, q, r] = v.dims();
    let v = v.clone().slice([matrices.clone()]).unsqueeze_dim::<5>(1);
    let s = part(s, matrices, rows).unsqueeze_dim::<5>(3);
    (s * v).reshape([matrices.len(), rows.len(), b2 * q, r])
}

fn part(factor: &Tensor<4>, matrices: &Range<usize>, blocks: &Range<usize>) -> Tensor<4> {
    factor.clone().slice([matrices.clone(), blocks.clone()])
}

/// `[matrices, blocks, ..]` as one batch.
fn batch(blocks: Tensor<4>) -> Tensor<3> {
    let [k, count, rows, columns] = blocks.dims();
    blocks.reshape([k * count, rows, columns])
}

/// The rows of all blocks: `[matrices, blocks rows, columns]`.
fn joined_rows(blocks: Tensor<4>) -> Tensor<3> {
    let [k, count, rows, columns] = blocks.dims();
    blocks.reshape([k, count * rows, columns])
}

fn gram(factor: &Tensor<4>) -> Tensor<4> {
    factor.clone().swap_dims(2, 3).matmul(factor.clone())
}

/// A number for each matrix, `[k]`, for each of its blocks: `[matrices blocks, 1, 1]`.
fn spread(numbers: &Tensor<1>, matrices: &Range<usize>, blocks: usize) -> Tensor<3> {
    let numbers: Tensor<2> = numbers.clone().slice([matrices.clone()]).unsqueeze_dim(1);
    numbers.expand([matrices.len(), blocks]).reshape([matrices.len() * blocks, 1, 1])
}
