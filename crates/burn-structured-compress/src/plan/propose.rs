//! A plan that reaches a size with the least error.

use super::rank_curve::{LayerChoices, smallest};
use super::{Pattern, Plan, PlanError, PlanTable, Rule};
use crate::CompressError;
use crate::budget::{CurvePoint, LayerCurve, allocate};
use crate::calibrate::Calibrator;
use crate::factorize::FactorizerConfig;
use crate::names::is_suffix;
use burn::tensor::Device;
use burn_structured_checkpoint::{Checkpoint, LinearInfo, dense_layer, linears};
use burn_structured_nn::{Rank, Structure};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Steps of a factorization for an error curve: enough to compare ranks.
const CURVE_STEPS: usize = 6;
/// Sizes that are measured, relative to the target.
const SHARES: [f64; 6] = [0.3, 0.55, 0.8, 1.0, 1.3, 1.7];
/// The largest share that is measured, unless the target is larger: above it, little is gained over the dense layer.
const LARGEST_SHARE: f64 = 0.95;
/// What may be left of the budget before ranks off the multiples of 8 are used.
const TOLERANCE: f64 = 0.005;
/// How far the plan may be from the target, relative to it, where ranks allow that.
const ALLOWED: f64 = 0.01;

/// How to make a plan.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PlanConfig {
    /// The share of the weights of the linear layers that are not skipped, without biases, that is to be left: above 0, below 1.
    pub target: f64,
    /// The structures that every layer chooses from; their ranks are of no importance. BLAST with blocks of its own choice, unless
    /// given.
    pub structures: Vec<Structure>,
    /// Layers that stay dense and do not count.
    pub skip: Vec<Pattern>,
    /// Shares of a layer's weights at which errors are measured.
    pub shares: Vec<f64>,
    /// Share of the identity in the second moments of the inputs.
    pub regularization: f64,
    /// How BLAST factors are found for the measurement.
    pub factorizer: FactorizerConfig,
    /// What the layers' errors cost the model: the squared relative error of its output for each unit of a layer's, by the layer's
    /// name, with or without the checkpoint's prefix; see [`sensitivities`](fn@super::sensitivities). With it, layers may
    /// also stay dense. Without it, errors count in proportion to the layers' sizes.
    pub sensitivities: BTreeMap<String, f64>,
}

impl PlanConfig {
    /// The default way to a share of the weights.
    pub fn new(target: f64) -> Self {
        let blast = "blast".parse().unwrap_or(Structure::LowRank { rank: Rank::Ratio(0.5) });
        let shares = SHARES.iter().map(|share| (share * target).min(target.max(LARGEST_SHARE))).collect();
        Self {
            target,
            structures: vec![blast],
            skip: Vec::new(),
            shares,
            regularization: 0.01,
            factorizer: FactorizerConfig::new().with_steps(CURVE_STEPS),
            sensitivities: BTreeMap::new(),
        }
    }

    /// The same share of every layer's weights, as near as ranks allow, instead of more for those that need more.
    #[must_use]
    pub fn uniform(self) -> Self {
        let shares = vec![self.target];
        Self { shares, sensitivities: BTreeMap::new(), ..self }
    }

    /// Chooses from these structures.
    #[must_use]
    pub fn with_structures(self, structures: Vec<Structure>) -> Self {
        Self { structures, ..self }
    }

    /// Leaves the layers of these patterns as they are.
    #[must_use]
    pub fn with_skip(self, skip: Vec<Pattern>) -> Self {
        Self { skip, ..self }
    }

    /// Weighs the layers' errors by what they cost the model.
    #[must_use]
    pub fn with_sensitivities(self, sensitivities: BTreeMap<String, f64>) -> Self {
        Self { sensitivities, ..self }
    }

    fn check(&self) -> Result<(), CompressError> {
        if !(self.target > 0.0 && self.target < 1.0) {
            return Err(PlanError::Target { target: self.target }.into());
        }
        if self.structures.is_empty() {
            return Err(PlanError::NoStructure.into());
        }
        crate::error::check_not_negative("regularization", self.regularization)
    }
}

/// A layer whose errors are being measured.
#[derive(Clone, Copy, Debug)]
pub struct PlanProgress<'a> {
    /// Its name.
    pub layer: &'a str,
    /// Layers that are done.
    pub done: usize,
    /// All of them.
    pub layers: usize,
}

/// A plan and what it makes of the checkpoint.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// One rule for each layer, with its rank as a number, behind those of the layers that are skipped.
    pub plan: Plan,
    /// What the plan makes of the checkpoint, with predicted errors.
    pub table: PlanTable,
    /// The share of the weights that is left of the layers that were not skipped. Within 1 % of the target where the structures have
    /// ranks, and one rank of a layer is not more than that.
    pub share: f64,
}

/// Makes a plan that leaves `config.target` of the weights of the linear layers of `checkpoint`, with the least error.
///
/// The error of every layer is measured at a few sizes, in the metric of its inputs if `calibration` knows them, and
/// [allocation](fn@allocate) chooses among the ranks between. Weights are read one layer at a time.
///
/// # Errors
///
/// If the target is no share or out of reach, no structure fits a layer, the calibration is of another model, a weight cannot be read
/// or is not finite, or `observer` breaks.
pub fn propose(
    checkpoint: &Checkpoint,
    config: &PlanConfig,
    calibration: Option<&Calibrator>,
    device: &Device,
    observer: &mut dyn FnMut(PlanProgress<'_>) -> ControlFlow<()>,
) -> Result<Proposal, CompressError> {
    config.check()?;
    let all = linears(checkpoint);
    let skipped = |layer: &LinearInfo| config.skip.iter().any(|pattern| pattern.is_match(&layer.name));
    let planned: Vec<&LinearInfo> = all.iter().filter(|layer| !skipped(layer)).collect();
    if planned.is_empty() {
        let names = all.iter().take(3).map(|layer| layer.name.clone()).collect();
        return Err(PlanError::Nothing { layers: all.len(), names }.into());
    }
    if let Some(known) = calibration {
        known.check(planned.iter().map(|layer| layer.name.as_str()))?;
    }
    let dense: usize = planned.iter().map(|layer| layer.d_input * layer.d_output).sum();
    let budget = (config.target * dense as f64) as usize;
    let out_of_reach =
        |fewest: usize| PlanError::OutOfReach { target: config.target, fewest: fewest as f64 / dense as f64 };
    let smallest = planned.iter().map(|layer| smallest(&config.structures, layer.d_input, layer.d_output));
    // Where no structure fits a layer, measuring it says why.
    if let Some(fewest) = smallest.sum::<Option<usize>>().filter(|fewest| *fewest > budget) {
        return Err(out_of_reach(fewest).into());
    }
    let mut choices = Vec::with_capacity(planned.len());
    for (done, layer) in planned.iter().enumerate() {
        let progress = PlanProgress { layer: &layer.name, done, layers: planned.len() };
        if observer(progress).is_break() {
            return Err(CompressError::Interrupted);
        }
        let measured = measure_layer(checkpoint, layer, config, calibration, device);
        choices.push(measured.map_err(|error| error.in_layer(&layer.name))?);
    }
    let curves = weighted(&planned, &choices, config);
    let allocation = allocate(&curves, budget).map_err(|error| match error {
        CompressError::Budget { fewest, .. } => out_of_reach(fewest).into(),
        other => other,
    })?;
    let mut chosen: Vec<CurvePoint> =
        allocation.choices.iter().zip(&curves).map(|(choice, curve)| curve.points[*choice]).collect();
    let params = spend(budget, allocation.params, &mut chosen, &choices, &curves);

    let skip = config.skip.iter().cloned().map(Rule::keep);
    let rule =
        |(layer, point): (&&LinearInfo, &CurvePoint)| Ok(Rule::new(Pattern::exactly(&layer.name)?, point.structure));
    let rules = planned.iter().zip(&chosen).map(rule).collect::<Result<Vec<_>, PlanError>>()?;
    let plan = Plan { rules: skip.chain(rules).collect() };
    let mut table = super::table(checkpoint, &plan)?;
    let errors: BTreeMap<&str, f64> =
        planned.iter().zip(&chosen).map(|(layer, point)| (layer.name.as_str(), point.relative_error)).collect();
    for row in table.rows.iter_mut().filter(|row| row.structure.is_some()) {
        row.predicted_error = errors.get(row.layer.as_str()).copied();
    }
    Ok(Proposal { plan, table, share: params as f64 / dense as f64 })
}

fn measure_layer(
    checkpoint: &Checkpoint,
    layer: &LinearInfo,
    config: &PlanConfig,
    calibration: Option<&Calibrator>,
    device: &Device,
) -> Result<LayerChoices, CompressError> {
    let (weight, _) = dense_layer(checkpoint, layer, device)?;
    let moment = calibration.and_then(|known| known.find(&layer.name));
    let moment = moment.map(|moment| moment.regularized(config.regularization));
    let misfit = |source| PlanError::NoneFits {
        layer: layer.name.clone(),
        d_input: layer.d_input,
        d_output: layer.d_output,
        source: Box::new(source),
    };
    Ok(LayerChoices::measure(&weight, config, moment.as_ref())?.map_err(misfit)?)
}

/// The curves of all layers, each weighted by its sensitivity; layers without one are taken to be average. Where none is known, the
/// errors count in proportion to the weights: layers that compress equally well then get equal shares, whatever their size.
fn weighted(layers: &[&LinearInfo], choices: &[LayerChoices], config: &PlanConfig) -> Vec<LayerCurve> {
    let known = &config.sensitivities;
    let average = known.values().sum::<f64>() / known.len() as f64;
    let of_layer = |(layer, choices): (&&LinearInfo, &LayerChoices)| {
        let measured = known.iter().find(|(name, _)| is_suffix(&layer.name, name)).map(|(_, cost)| *cost);
        let cost = if known.is_empty() { (layer.d_input * layer.d_output) as f64 } else { measured.unwrap_or(average) };
        let curve = choices.curve.clone();
        let sensitivity = curve.sensitivity * cost;
        curve.with_sensitivity(sensitivity)
    };
    layers.iter().zip(choices).map(of_layer).collect()
}

/// Spends what is left of a budget on single ranks, each where it gains most for its parameters; returns how many parameters the
/// choices have then. They are up to 1 % above the budget if they cannot come as near from below.
fn spend(
    budget: usize,
    params: usize,
    chosen: &mut [CurvePoint],
    choices: &[LayerChoices],
    curves: &[LayerCurve],
) -> usize {
    let mut params = params;
    let far = |params: usize, share: f64| budget as f64 - params as f64 > share * budget as f64;
    while far(params, TOLERANCE) {
        let raised = chosen.iter().enumerate().filter_map(|(at, point)| {
            let next = choices[at].next_rank(point)?;
            let more = next.params.checked_sub(point.params).filter(|more| *more > 0)?;
            let gain = curves[at].sensitivity * (point.squared_error - next.squared_error).max(0.0);
            Some((at, next, more, gain / more as f64))
        });
        let raised: Vec<_> = raised.collect();
        let fitting = raised.iter().filter(|raise| params + raise.2 <= budget);
        let above = |raise: &&(usize, CurvePoint, usize, f64)| {
            far(params, ALLOWED) && (params + raise.2) as f64 <= (1.0 + ALLOWED) * budget as f64
        };
        // Of the same gain, as where only one rank was measured, the layer with the smallest share of its weights.
        let share = |raise: &(usize, CurvePoint, usize, f64)| choices[raise.0].share(&chosen[raise.0]);
        let best = fitting.max_by(|a, b| a.3.total_cmp(&b.3).then(share(b).total_cmp(&share(a))));
        let Some((at, next, more, _)) = best.or_else(|| raised.iter().filter(above).min_by_key(|raise| raise.2)) else {
            break;
        };
        chosen[*at] = *next;
        params += more;
    }
    params
}
