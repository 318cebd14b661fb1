//! The objective: the distance between BLAST matrices and the dense ones that they approximate, and what it is made of.

use super::BlastFactors;
use super::chunks::stack_scaled;
use super::factors::select;
use super::metric::Metric;
use burn::tensor::{DType, Device, Tensor, TensorData};
use std::cell::OnceCell;

/// Dense matrices of one shape, with the grid and the rank of the BLAST matrices that approximate them.
#[derive(Debug)]
pub struct Problem {
    /// `A`, `[k, m, n]`.
    pub(super) target: Tensor<3>,
    pub(super) grid: [usize; 2],
    pub(super) rank: usize,
    pub(super) metric: Option<Metric>,
    /// `‖A‖` in the metric, for each matrix.
    norms: Vec<f64>,
}

/// Factors, with the residual of their matrices.
#[derive(Clone, Debug)]
pub struct State {
    /// The factors.
    pub factors: BlastFactors,
    /// `E = W − A`, `[k, m, n]`.
    pub residual: Tensor<3>,
    /// `E C`, or `E` where there is no metric.
    pub(super) weighted: Tensor<3>,
    /// `‖E‖` in the metric, computed on first use.
    norm: OnceCell<Tensor<1>>,
}

impl State {
    /// `‖E‖` of each matrix, in the metric: `[k]`.
    pub fn norm(&self) -> &Tensor<1> {
        self.norm.get_or_init(|| norm(&self.residual, &self.weighted))
    }

    /// Matrix by matrix, this state where `chosen` is true and the other elsewhere.
    pub(super) fn select(self, other: Self, chosen: &[bool]) -> Self {
        Self {
            factors: self.factors.select(other.factors, chosen),
            residual: select(self.residual, other.residual, chosen),
            weighted: select(self.weighted, other.weighted, chosen),
            norm: OnceCell::new(),
        }
    }
}

impl Problem {
    /// `target [k, m, n]`, to be factorized on a grid that divides it.
    pub(super) fn new(target: Tensor<3>, grid: [usize; 2], rank: usize, metric: Option<Metric>) -> Self {
        let mut problem = Self { target, grid, rank, metric, norms: Vec::new() };
        // The error of a matrix of zeros is absolute.
        let divisor = |norm: f64| if norm == 0.0 { 1.0 } else { norm };
        let weighted = problem.weigh(&problem.target);
        problem.norms = entries(&norm(&problem.target, &weighted)).into_iter().map(divisor).collect();
        problem
    }

    /// The number of matrices, their rows and their columns: `[k, m, n]`.
    pub fn dims(&self) -> [usize; 3] {
        self.target.dims()
    }

    /// The device of the matrices.
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
        self.state_of(factors, product)
    }

    /// The state of factors whose product is known.
    pub(super) fn state_of(&self, factors: BlastFactors, product: Tensor<3>) -> State {
        let residual = product - self.target.clone();
        let weighted = self.weigh(&residual);
        State { factors, residual, weighted, norm: OnceCell::new() }
    }

    /// `W`, the matrices of the factors: `[k, m, n]`.
    pub fn product(&self, factors: &BlastFactors) -> Tensor<3> {
        let [_, _, n] = self.dims();
        let [product] = self.in_chunks(self.grid[0], n * self.rank, |chunk| {
            let right = stack_scaled(&factors.s, &factors.v, chunk);
            [chunk.of(&factors.u).matmul(right.swap_dims(2, 3))]
        });
        product
    }

    /// `‖W − A‖ / ‖A‖` of each matrix, in the metric; `‖W‖` where `A` is zero.
    pub fn relative_errors(&self, state: &State) -> Vec<f64> {
        entries(state.norm()).into_iter().zip(&self.norms).map(|(error, norm)| error / norm).collect()
    }

    /// `E C`.
    pub(super) fn weigh(&self, residual: &Tensor<3>) -> Tensor<3> {
        match &self.metric {
            None => residual.clone(),
            Some(metric) => residual.clone().matmul(metric.moment.clone()),
        }
    }

    /// A number for each matrix, as a tensor `[k]`.
    pub fn per_matrix(&self, numbers: &[f64]) -> Tensor<1> {
        let data = TensorData::new(numbers.to_vec(), [numbers.len()]).convert_dtype(self.dtype());
        Tensor::from_data(data, (&self.device(), self.dtype()))
    }
}

/// `‖E‖` of each matrix, `[k]`, where `weighted` is `E C`.
fn norm(residual: &Tensor<3>, weighted: &Tensor<3>) -> Tensor<1> {
    let [k, m, n] = residual.dims();
    // Products of rows: a matmul is faster than a reduction on every backend.
    let (row, column) = (residual.clone().reshape([k * m, 1, n]), weighted.clone().reshape([k * m, n, 1]));
    row.matmul(column).reshape([k, m]).sum_dim(1).reshape([k]).clamp_min(0.0).sqrt()
}

fn entries(numbers: &Tensor<1>) -> Vec<f64> {
    numbers.to_data().iter::<f64>().collect()
}
