//! The settings of a factorization, and its input and output; the loop is in `run`.

use super::metric::Metric;
use super::run::{Observer, Run};
use super::{BlastFactors, Factorization, Method, Problem, Progress, Start, Stepper};
use crate::CompressError;
use crate::approximate::check_not_empty;
use crate::error::check_not_negative;
use burn::config::Config;
use burn::tensor::{DType, Tensor, TensorData};
use burn_structured_nn::{BlastLinearConfig, Blocks, Rank};
use std::ops::ControlFlow;
use std::time::Instant;

/// Configuration to create a [`Factorizer`] using the [init function](FactorizerConfig::init).
#[derive(Config, Debug)]
pub struct FactorizerConfig {
    /// The grid of blocks.
    #[config(default = "Blocks::Auto")]
    pub blocks: Blocks,
    /// The rank, or the share of the dense parameters to spend on it.
    #[config(default = "Rank::Ratio(0.5)")]
    pub rank: Rank,
    /// The optimisation method.
    #[config(default = "Method::Auto")]
    pub method: Method,
    /// The maximum number of steps.
    #[config(default = 60)]
    pub steps: usize,
    /// A matrix stops at this relative error.
    #[config(default = 0.0)]
    pub tolerance: f64,
    /// A matrix stops when its error has not fallen by the fraction `least_improvement` over this many steps.
    #[config(default = "Some(10)")]
    pub patience: Option<usize>,
    /// See `patience`.
    #[config(default = 1e-4)]
    pub least_improvement: f64,
    /// The run stops after the step in which this many seconds have passed.
    #[config(default = "None")]
    pub seconds: Option<f64>,
    /// Seed of the random start. The start of a matrix is the same on every device and in every batch.
    #[config(default = 0)]
    pub seed: u64,
}

/// Finds the BLAST matrices nearest to dense ones.
///
/// Should be created with [`FactorizerConfig`].
pub struct Factorizer<'a> {
    config: FactorizerConfig,
    stepper: Option<Box<dyn Stepper>>,
    start: Option<Start>,
    moment: Option<Tensor<3>>,
    observer: Option<Observer<'a>>,
}

impl FactorizerConfig {
    /// A factorizer with this configuration.
    pub fn init<'a>(&self) -> Factorizer<'a> {
        Factorizer { config: self.clone(), stepper: None, start: None, moment: None, observer: None }
    }
}

impl<'a> Factorizer<'a> {
    /// Uses this stepper instead of the configured method.
    #[must_use]
    pub fn with_stepper(mut self, stepper: impl Stepper + 'static) -> Self {
        self.stepper = Some(Box::new(stepper));
        self
    }

    /// Uses this start instead of that of the method.
    #[must_use]
    pub fn with_start(mut self, start: Start) -> Self {
        self.start = Some(start);
        self
    }

    /// Measures distances for inputs with this second moment, `[n, n]` or one for each matrix, `[k, n, n]`: `‖(W − A) C^½‖`.
    #[must_use]
    pub fn with_moment<const D: usize>(mut self, moment: Tensor<D>) -> Self {
        let dims = moment.dims();
        // A vector is a moment of one row, which is an error for the factorization to report.
        let [rows, columns] = if D < 2 { [1, dims[0]] } else { [dims[D - 2], dims[D - 1]] };
        let moments = dims[..D.saturating_sub(2)].iter().product();
        self.moment = Some(moment.reshape([moments, rows, columns]));
        self
    }

    /// Calls `observer` at the start and after every step; `Break` ends the run with what was found so far.
    #[must_use]
    pub fn with_observer(mut self, observer: impl FnMut(Progress) -> ControlFlow<()> + 'a) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Factors near one dense `weight [m, n]`.
    ///
    /// # Errors
    ///
    /// As [`factorize_batch`](Self::factorize_batch).
    pub fn factorize(self, weight: Tensor<2>) -> Result<Factorization, CompressError> {
        check_not_empty(&weight)?;
        self.factorize_batch(weight.unsqueeze_dim(0))
    }

    /// Factors near the dense `weights [k, m, n]`, all of them at once. Each is what it would be alone, but for rounding.
    ///
    /// Half-precision matrices are factorized in f32. The given start, if any, is in the scale of the matrices.
    ///
    /// # Errors
    ///
    /// If there is no matrix, an entry is not finite, the grid or the rank does not fit, a setting is out of range, or the
    /// optimisation diverges.
    pub fn factorize_batch(mut self, weights: Tensor<3>) -> Result<Factorization, CompressError> {
        let began = Instant::now();
        let (grid, rank) = self.check(&weights)?;
        let given = weights.dtype();
        let working = if given == DType::F64 { DType::F64 } else { DType::F32 };
        let scale = scales(&weights)?;
        let weights = weights.detach().cast(working);
        let data = TensorData::new(scale, [weights.dims()[0]]).convert_dtype(working);
        let scale = Tensor::<1>::from_data(data, (&weights.device(), working));
        let target = weights / scale.clone().reshape([-1, 1, 1]);
        let metric = self.metric(&target, grid)?;
        let problem = Problem::new(target, grid, rank, metric);
        let start = self.start.take().unwrap_or_else(|| self.config.method.start());
        let start = problem.state(start.factors(&problem, &scale, self.config.seed)?);
        let stepper = self.stepper.take().unwrap_or_else(|| self.config.method.stepper());
        let run = Run { config: &self.config, problem: &problem, observer: self.observer.take(), began };
        let found = run.from(start, stepper)?;
        let BlastFactors { u, s, v } = found.factors.scaled(&scale);
        let factors = BlastFactors { u: u.cast(given), s: s.cast(given), v: v.cast(given) };
        Ok(Factorization { factors, ..found })
    }

    fn check(&self, weights: &Tensor<3>) -> Result<([usize; 2], usize), CompressError> {
        let [k, m, n] = weights.dims();
        if k == 0 {
            return Err(CompressError::NoMatrix);
        }
        let config = &self.config;
        check_not_negative("tolerance", config.tolerance)?;
        check_not_negative("least_improvement", config.least_improvement)?;
        check_not_negative("seconds", config.seconds.unwrap_or(0.0))?;
        if config.patience == Some(0) {
            return Err(CompressError::Setting { name: "patience", value: 0.0, range: "use 1 or more, or none" });
        }
        Ok(BlastLinearConfig::new(n, m).with_blocks(config.blocks).with_rank(config.rank).resolve()?)
    }

    fn metric(&self, target: &Tensor<3>, grid: [usize; 2]) -> Result<Option<Metric>, CompressError> {
        let Some(moment) = &self.moment else { return Ok(None) };
        let [k, _, n] = target.dims();
        let [moments, rows, columns] = moment.dims();
        if [rows, columns] != [n, n] || (moments != 1 && moments != k) {
            return Err(CompressError::MomentShape { actual: moment.dims(), matrices: k, features: n });
        }
        if !moment.clone().is_finite().all().into_scalar::<bool>() {
            return Err(CompressError::Moment);
        }
        let moment = moment.clone().to_device(&target.device()).cast(target.dtype()).expand([k, n, n]);
        Ok(Some(Metric::new(moment, grid[1])?))
    }
}

/// The number that each matrix is divided by, so that its entries have unit variance.
fn scales(weights: &Tensor<3>) -> Result<Vec<f64>, CompressError> {
    let [_, m, n] = weights.dims();
    let entries: Vec<f64> = weights.to_data().iter::<f64>().collect();
    entries
        .chunks_exact(m * n)
        .enumerate()
        .map(|(matrix, entries)| {
            if let Some(first) = entries.iter().position(|entry| !entry.is_finite()) {
                let count = entries.iter().filter(|entry| !entry.is_finite()).count();
                return Err(CompressError::NotFinite { matrix, count, row: first / n, column: first % n });
            }
            let count = entries.len() as f64;
            // Relative to the largest entry: squares of extreme ones overflow or underflow.
            let largest = entries.iter().fold(0.0f64, |largest, entry| largest.max(entry.abs()));
            if largest == 0.0 {
                return Ok(1.0);
            }
            let mean = entries.iter().map(|entry| entry / largest).sum::<f64>() / count;
            let square = entries.iter().map(|entry| (entry / largest).powi(2)).sum::<f64>() / count;
            let variance = entries.iter().map(|entry| (entry / largest - mean).powi(2)).sum::<f64>() / count;
            // A constant matrix has no variance.
            let size = if variance > 1e-6 * square { variance } else { square };
            Ok(largest * size.sqrt())
        })
        .collect()
}
