//! Factorization of a dense weight into BLAST factors, on the host.
//!
//! Two structures that BLAST contains exactly have closed-form optima, low rank and blocks of low rank; the nearer of the
//! two is then improved by alternating least squares: with two of `u`, `s`, `v` held, the third is a linear problem. The
//! error never rises, and the result is a local optimum.
//!
//! `burn-structured-compress` has the same method for batches of matrices on a device, over-relaxed and in the metric of the inputs. This
//! one solves for the factors themselves, in f64 whatever the device: what BLAST contains exactly is found to rounding, with any
//! backend.

use super::block_low_rank::BlockLowRank;
use super::svd::{Balanced, balanced, matrix, tensor};
use crate::StructureError;
use burn::tensor::{DType, Device, Tensor};
use burn_structured_ops::block_diagonal::Order;
use faer::linalg::solvers::Solve;
use faer::{Mat, MatRef, Side};

/// Rounds in which each factor is fitted once.
const SWEEPS: usize = 30;

/// The rounds end when one improves the error by less than this share.
const LEAST_IMPROVEMENT: f64 = 2e-3;

/// Rounds that each start gets before the better one goes on.
const TRIAL_SWEEPS: usize = 3;

/// Weight of the factor as it was, relative to the mean of the Gram matrix's diagonal: keeps the solution of a singular
/// problem where it is.
const DAMPING: f64 = 1e-9;

/// A grid of BLAST factors on the host.
#[derive(Clone)]
pub(crate) struct Factors {
    /// `b1` of `[p, r]`.
    pub u: Vec<Mat<f64>>,
    /// `b1 b2` of `r`.
    pub s: Vec<Vec<f64>>,
    /// `b2` of `[q, r]`.
    pub v: Vec<Mat<f64>>,
}

impl Factors {
    /// Blocks of low rank as a BLAST matrix: component `t` of block `(i, j)` is component `(i + j) mod max + t max`, which no
    /// other block of the same row or column uses (Lee et al., NeurIPS 2024, §2). `rank` is at least `max(b1, b2)` times
    /// that of the blocks.
    pub fn of_blocks(blocks: &BlockLowRank, rank: usize) -> Self {
        let [b1, b2] = blocks.grid;
        let period = b1.max(b2);
        let (p, q) = (blocks.block(0, 0).left.nrows(), blocks.block(0, 0).right.nrows());
        let mut factors = Self {
            u: vec![Mat::zeros(p, rank); b1],
            s: vec![vec![0.0; rank]; b1 * b2],
            v: vec![Mat::zeros(q, rank); b2],
        };
        for i in 0..b1 {
            for j in 0..b2 {
                let block = blocks.block(i, j);
                for t in 0..blocks.rank {
                    let component = (i + j) % period + t * period;
                    factors.u[i].col_mut(component).copy_from(block.left.col(t));
                    factors.v[j].col_mut(component).copy_from(block.right.col(t));
                    factors.s[i * b2 + j][component] = 1.0;
                }
            }
        }
        factors
    }

    /// `u [b1, p, r]`, `s [b1, b2, r]`, `v [b2, q, r]`.
    pub fn into_tensors(self, device: &Device, dtype: DType) -> [Tensor<3>; 3] {
        let stacked = |blocks: &[Mat<f64>]| {
            let (size, rank) = (blocks[0].nrows(), blocks[0].ncols());
            let entry = |at: usize| blocks[at / (size * rank)][(at / rank % size, at % rank)];
            tensor([blocks.len(), size, rank], entry, device, dtype)
        };
        let (b1, b2, rank) = (self.u.len(), self.v.len(), self.u[0].ncols());
        let s = tensor([b1, b2, rank], |at| self.s[at / rank][at % rank], device, dtype);
        [stacked(&self.u), s, stacked(&self.v)]
    }
}

/// BLAST factors near `values [d_output, d_input]`.
pub(super) fn factorize(
    values: &[f64],
    [d_output, d_input]: [usize; 2],
    grid: [usize; 2],
    rank: usize,
) -> Result<Factors, StructureError> {
    let problem = Problem { dense: matrix(values, d_output, d_input), grid };
    let mut starts = vec![problem.low_rank(rank)?];
    let t = (rank / grid[0].max(grid[1])).min((d_output / grid[0]).min(d_input / grid[1]));
    if t > 0 && grid != [1, 1] {
        let blocks = BlockLowRank::nearest(values, [d_output, d_input], grid, t, Order::Grouped)?;
        starts.push(Factors::of_blocks(&blocks, rank));
    }
    let tried: Vec<(f64, Factors)> =
        starts.into_iter().map(|start| problem.improve(start, TRIAL_SWEEPS)).collect::<Result<_, _>>()?;
    let best = tried.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, factors)| factors);
    let best = best.ok_or(StructureError::NotConverged { name: "start", rows: d_output, columns: d_input })?;
    Ok(problem.improve(best, SWEEPS)?.1)
}

struct Problem<'a> {
    dense: MatRef<'a, f64>,
    grid: [usize; 2],
}

impl Problem<'_> {
    fn block(&self, i: usize, j: usize) -> MatRef<'_, f64> {
        let [b1, b2] = self.grid;
        let (p, q) = (self.dense.nrows() / b1, self.dense.ncols() / b2);
        self.dense.submatrix(i * p, j * q, p, q)
    }

    /// The truncated decomposition of the whole matrix, with couplings of 1.
    fn low_rank(&self, rank: usize) -> Result<Factors, StructureError> {
        let [b1, b2] = self.grid;
        let Balanced { left, right } = balanced(self.dense, rank)?;
        let pieces = |whole: &Mat<f64>, count: usize| {
            let size = whole.nrows() / count;
            (0..count).map(|index| whole.subrows(index * size, size).to_owned()).collect()
        };
        Ok(Factors { u: pieces(&left, b1), s: vec![vec![1.0; rank]; b1 * b2], v: pieces(&right, b2) })
    }

    fn error(&self, factors: &Factors) -> f64 {
        let [b1, b2] = self.grid;
        let blocks = (0..b1 * b2).map(|index| {
            let (i, j) = (index / b2, index % b2);
            let product = scaled(&factors.u[i], &factors.s[index]) * factors.v[j].transpose();
            (product - self.block(i, j)).squared_norm_l2()
        });
        blocks.sum::<f64>().sqrt()
    }

    /// Up to `sweeps` rounds; the error and the factors it belongs to.
    fn improve(&self, mut factors: Factors, sweeps: usize) -> Result<(f64, Factors), StructureError> {
        let norm = self.dense.norm_l2();
        let mut error = self.error(&factors);
        for _ in 0..sweeps {
            if error <= 1e-14 * norm {
                break;
            }
            let mut next = factors.clone();
            self.sweep(&mut next)?;
            let improved = self.error(&next);
            // Rounding ends what the algebra says goes on.
            if improved.is_nan() || improved >= error {
                break;
            }
            factors = next;
            let enough = improved > (1.0 - LEAST_IMPROVEMENT) * error;
            error = improved;
            if enough {
                break;
            }
        }
        Ok((error, factors))
    }

    /// Fits `u`, then `v`, then `s`.
    fn sweep(&self, factors: &mut Factors) -> Result<(), StructureError> {
        let b2 = self.grid[1];
        let Factors { u, s, v } = factors;
        fit_side(u, v, |i, j| (self.block(i, j), s[i * b2 + j].as_slice()))?;
        fit_side(v, u, |j, i| (self.block(i, j).transpose(), s[i * b2 + j].as_slice()))?;
        let (grams_u, grams_v) = (grams(u), grams(v));
        for (index, s) in s.iter_mut().enumerate() {
            let (i, j) = (index / b2, index % b2);
            let projected = self.block(i, j) * &v[j];
            let gram = Mat::from_fn(s.len(), s.len(), |a, b| grams_u[i][(a, b)] * grams_v[j][(a, b)]);
            let target = Mat::from_fn(1, s.len(), |_, k| u[i].col(k).transpose() * projected.col(k));
            let fitted = fit(gram, target, &Mat::from_fn(1, s.len(), |_, k| s[k]))?;
            s.iter_mut().enumerate().for_each(|(k, s)| *s = fitted[(0, k)]);
        }
        Ok(())
    }
}

/// Fits the factors of one side of the grid, with those of the other and the couplings held. `block(i, j)` is the block of
/// factor `i` and the other side's factor `j`, with its couplings: about `factor_i · diag(s) · other_jᵀ`.
fn fit_side<'a>(
    factors: &mut [Mat<f64>],
    others: &[Mat<f64>],
    block: impl Fn(usize, usize) -> (MatRef<'a, f64>, &'a [f64]),
) -> Result<(), StructureError> {
    let grams = grams(others);
    for (i, factor) in factors.iter_mut().enumerate() {
        let (rows, rank) = (factor.nrows(), factor.ncols());
        let (mut gram, mut target) = (Mat::zeros(rank, rank), Mat::zeros(rows, rank));
        for (j, other) in others.iter().enumerate() {
            let (block, s) = block(i, j);
            gram += coupled(&grams[j], s);
            target += block * scaled(other, s);
        }
        *factor = fit(gram, target, factor)?;
    }
    Ok(())
}

/// `FᵀF` of each factor.
fn grams(factors: &[Mat<f64>]) -> Vec<Mat<f64>> {
    factors.iter().map(|factor| factor.transpose() * factor).collect()
}

/// `matrix · diag(scales)`.
fn scaled(matrix: &Mat<f64>, scales: &[f64]) -> Mat<f64> {
    Mat::from_fn(matrix.nrows(), matrix.ncols(), |row, k| matrix[(row, k)] * scales[k])
}

/// `diag(s) · gram · diag(s)`.
fn coupled(gram: &Mat<f64>, s: &[f64]) -> Mat<f64> {
    Mat::from_fn(gram.nrows(), gram.ncols(), |a, b| gram[(a, b)] * s[a] * s[b])
}

/// The `factor` with `factor · gram = target`, damped towards the one `before`.
fn fit(mut gram: Mat<f64>, target: Mat<f64>, before: &Mat<f64>) -> Result<Mat<f64>, StructureError> {
    let rank = gram.nrows();
    let mean = (0..rank).map(|k| gram[(k, k)]).sum::<f64>() / rank as f64;
    if mean == 0.0 {
        // Nothing depends on this factor.
        return Ok(before.clone());
    }
    let mut damping = 0.0;
    for attempt in 0..4 {
        let more = mean * DAMPING * 1e3f64.powi(attempt) - damping;
        (0..rank).for_each(|k| gram[(k, k)] += more);
        damping += more;
        if let Ok(cholesky) = gram.llt(Side::Lower) {
            let target = &target + before * faer::Scale(damping);
            return Ok(cholesky.solve(target.transpose().to_owned()).transpose().to_owned());
        }
    }
    Err(StructureError::NotConverged { name: "least-squares fit", rows: target.nrows(), columns: rank })
}
