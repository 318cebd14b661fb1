//! One block: its groups of layers in the order in which it applies them.

use super::inputs::{Kept, stage_ids, stage_inputs};
use super::moments::{Anchor, Pair, PairMoments};
use super::{BlockReport, LayerReport, Prefix, SequentialConfig, SequentialStep};
use crate::CompressError;
use crate::approximate::{approximate, read};
use crate::calibrate::Moment;
use crate::factorize::FactorizerConfig;
use burn::module::Param;
use burn::tensor::{Tensor, TensorData};
use burn_structured_nn::{Approximation, BlockModel, Structure, StructuredLinear};
use faer::Mat;
use std::ops::ControlFlow;
use std::time::Instant;

impl<M: BlockModel> Prefix<M> {
    /// Replaces layers of block `index` of the `student` by layers of other structures, which are fitted group after group to the
    /// inputs that the compressed layers before them give. `structures` holds one for each linear layer of the block, `None` for
    /// those to keep.
    ///
    /// The features have to be in front of this block; [`advance`](Self::advance) takes them behind it.
    ///
    /// # Errors
    ///
    /// If the features are in front of another block, a setting is out of range, a structure does not fit its layer, inputs are not
    /// finite, a moment is not positive definite (raise the regularization), or the observer breaks.
    pub fn compress_block(
        &self,
        student: &mut M,
        index: usize,
        structures: &[Option<Structure>],
        config: &SequentialConfig,
        observer: &mut dyn FnMut(&SequentialStep) -> ControlFlow<()>,
    ) -> Result<BlockReport, CompressError> {
        let began = Instant::now();
        self.check(index)?;
        config.check()?;
        let layers = self.layers(index, structures)?;
        let stages: Vec<Stage> = M::STAGES
            .iter()
            .enumerate()
            .map(|(at, stage)| Stage {
                at,
                layers: stage.iter().copied().filter(|at| structures[*at].is_some()).collect(),
            })
            .filter(|stage| !stage.layers.is_empty())
            .collect();
        let dense = &self.teacher.blocks()[index];
        let candidate = |alpha: &f64| Candidate { block: dense.clone(), alpha: *alpha, reports: Vec::new() };
        let mut candidates: Vec<Candidate<M>> = config.alphas.iter().map(candidate).collect();
        let mut kept = Kept::new(self.calibration.len());
        let (mut done, steps) = (0, stages.len() * candidates.len());
        for (number, stage) in stages.iter().enumerate() {
            // Nothing before the first group is compressed: its inputs do not depend on the share.
            let distinct = if number == 0 { &candidates[..1] } else { &candidates[..] };
            let error = |source| layers[stage.layers[0]].error(source);
            let moments = self
                .moments(distinct, stage.at, layers[stage.layers[0]].matrix.nrows(), config.share, &mut kept)
                .map_err(error)?;
            for (at, candidate) in candidates.iter_mut().enumerate() {
                let names = stage.layers.iter().map(|at| layers[*at].name.clone()).collect();
                let step = SequentialStep { block: index, alpha: candidate.alpha, layers: names, done, steps };
                if observer(&step).is_break() {
                    return Err(CompressError::Interrupted);
                }
                done += 1;
                let moments = moments.get(at).unwrap_or(&moments[0]);
                let found = fit(&layers, &stage.layers, structures, moments, candidate.alpha, config)?;
                for (at, Approximation { layer, relative_error }) in stage.layers.iter().zip(found) {
                    candidate.reports.push(layers[*at].report(&layer, relative_error));
                    *M::linears_mut(&mut candidate.block)[*at] = layer;
                }
            }
        }
        let errors: Vec<f64> = candidates.iter().map(|candidate| self.output_error(&candidate.block)).collect();
        if errors.iter().any(|error| !error.is_finite()) {
            return Err(CompressError::OutputNotFinite);
        }
        let tried = candidates.iter().map(|candidate| candidate.alpha).zip(errors.iter().copied()).collect();
        // The first one of the least error.
        let best = candidates.into_iter().zip(errors).min_by(|a, b| a.1.total_cmp(&b.1));
        let (Candidate { block, alpha, reports }, output_error) = best.ok_or(CompressError::NoBatches)?;
        let step = SequentialStep { block: index, alpha, layers: Vec::new(), done, steps };
        if observer(&step).is_break() {
            return Err(CompressError::Interrupted);
        }
        student.blocks_mut()[index] = block;
        let seconds = began.elapsed().as_secs_f64();
        Ok(BlockReport { block: index, layers: reports, alpha, output_error, tried, seconds })
    }

    /// The dense layers of a block.
    fn layers(&self, index: usize, structures: &[Option<Structure>]) -> Result<Vec<Layer>, CompressError> {
        let linears = self.teacher.linears(index);
        if linears.len() != structures.len() {
            return Err(CompressError::Structures { actual: structures.len(), expected: linears.len() });
        }
        let layer = |(name, layer): (String, &StructuredLinear)| {
            let weight = layer.to_dense();
            let matrix = read(&weight).map_err(|source| of_layer(&name, source))?;
            Ok(Layer { weight, matrix, bias: layer.bias().map(Param::val), name })
        };
        linears.into_iter().map(layer).collect()
    }

    /// The moments of a group's inputs, for each candidate: of the dense block behind the dense prefix, and of the candidate behind
    /// the compressed one. The dense block is run once for all candidates.
    fn moments(
        &self,
        candidates: &[Candidate<M>],
        stage: usize,
        outputs: usize,
        share: f64,
        kept: &mut Kept,
    ) -> Result<Vec<PairMoments>, CompressError> {
        let dense = &self.teacher.blocks()[self.block()];
        let dense_ids = stage_ids::<M>(dense, M::STAGES.len())?;
        let ids = |candidate: &Candidate<M>| stage_ids::<M>(&candidate.block, stage + 1);
        let ids = candidates.iter().map(ids).collect::<Result<Vec<_>, _>>()?;
        let residual = |block: &M::Block, features: &Tensor<3>, inputs: &[Tensor<2>]| {
            let alone = M::STAGES[stage].len() == 1;
            alone.then(|| M::residual(block, stage, features, &inputs[..=stage])).flatten()
        };
        let mut moments: Vec<PairMoments> = Vec::new();
        let count = self.calibration.len();
        let used = ((share * count as f64).round() as usize).clamp(1, count);
        for at in 0..used {
            let at = at * count / used;
            let sample = &self.calibration[at];
            let expected = kept.get(at, || {
                let (inputs, output) = stage_inputs::<M>(dense, &dense_ids, sample.dense.clone(), &sample.batch)?;
                sample.keep_target(output);
                Ok(inputs)
            })?;
            let expected_residual = residual(dense, &sample.dense, &expected);
            for (number, candidate) in candidates.iter().enumerate() {
                let (found, _) =
                    stage_inputs::<M>(&candidate.block, &ids[number], sample.compressed.clone(), &sample.batch)?;
                let lack = match (&expected_residual, residual(&candidate.block, &sample.compressed, &found)) {
                    (Some(dense), Some(compressed)) => Some(lack(dense.clone(), compressed)?),
                    _ => None,
                };
                let (dense, compressed) = (expected[stage].clone(), found[stage].clone());
                if moments.len() == number {
                    moments.push(PairMoments::new(dense.dims()[1], lack.as_ref().map(|_| outputs)));
                }
                moments[number].add(Pair { dense, compressed, lack })?;
            }
        }
        moments.iter_mut().try_for_each(PairMoments::sum)?;
        Ok(moments)
    }
}

/// What the compressed residual lacks.
fn lack(dense: Tensor<2>, compressed: Tensor<2>) -> Result<Tensor<2>, CompressError> {
    let (expected, actual) = (dense.dims(), compressed.dims());
    if expected == actual {
        Ok((dense - compressed).detach())
    } else {
        Err(CompressError::Residual { actual, expected })
    }
}

/// A group of layers, of which some are compressed.
struct Stage {
    /// Its place among all groups.
    at: usize,
    /// The layers to compress.
    layers: Vec<usize>,
}

/// A block of which the first groups are compressed, with one share.
struct Candidate<M: BlockModel> {
    block: M::Block,
    alpha: f64,
    reports: Vec<LayerReport>,
}

/// A dense layer.
struct Layer {
    name: String,
    /// `[d_output, d_input]`.
    weight: Tensor<2>,
    matrix: Mat<f64>,
    bias: Option<Tensor<1>>,
}

impl Layer {
    fn error(&self, source: CompressError) -> CompressError {
        of_layer(&self.name, source)
    }

    fn report(&self, layer: &StructuredLinear, relative_error: f64) -> LayerReport {
        let structure = layer.structure().unwrap_or_default();
        LayerReport { name: self.name.clone(), structure, params: layer.cost().params, relative_error }
    }
}

fn of_layer(name: &str, source: CompressError) -> CompressError {
    CompressError::Layer { name: name.to_string(), source: Box::new(source) }
}

/// The layers of a group, fitted to their common inputs.
fn fit(
    layers: &[Layer],
    stage: &[usize],
    structures: &[Option<Structure>],
    moments: &PairMoments,
    alpha: f64,
    config: &SequentialConfig,
) -> Result<Vec<Approximation<StructuredLinear>>, CompressError> {
    let mut found: Vec<Option<Approximation<StructuredLinear>>> = stage.iter().map(|_| None).collect();
    // A bias takes up the means of the inputs; a layer without one has to fit them.
    for centred in [true, false] {
        let members: Vec<usize> = (0..stage.len()).filter(|at| layers[stage[*at]].bias.is_some() == centred).collect();
        let Some(first) = members.first() else { continue };
        let error = |source| layers[stage[*first]].error(source);
        let anchor = moments.anchor(config.regularization, centred).map_err(error)?;
        let metric = metric(&anchor);
        let targets: Vec<Target> = members
            .iter()
            .filter_map(|at| {
                let layer = &layers[stage[*at]];
                let weight = upload(&anchor.target(&layer.matrix, alpha), &layer.weight);
                Some(Target { layer, structure: structures[stage[*at]]?, weight })
            })
            .collect();
        for (at, approximation) in members.iter().zip(nearest(&targets, &metric, &config.factorizer)?) {
            let layer = &layers[stage[*at]];
            found[*at] = Some(with_bias(layer, &anchor, approximation).map_err(|source| layer.error(source))?);
        }
    }
    Ok(found.into_iter().flatten().collect())
}

/// What a layer is fitted to.
struct Target<'a> {
    layer: &'a Layer,
    structure: Structure,
    /// `T_α + α D G⁻¹`.
    weight: Tensor<2>,
}

/// The layers nearest to the targets in the metric, with the dense layers' biases. BLAST layers of one shape are factorized together.
fn nearest(
    targets: &[Target],
    metric: &Moment,
    factorizer: &FactorizerConfig,
) -> Result<Vec<Approximation<StructuredLinear>>, CompressError> {
    let mut found: Vec<Option<Approximation<StructuredLinear>>> = targets.iter().map(|_| None).collect();
    for first in 0..targets.len() {
        if found[first].is_some() {
            continue;
        }
        let Target { layer, structure, weight } = &targets[first];
        let Structure::Blast { blocks, rank } = *structure else {
            let nearest = approximate(*structure, weight.clone(), layer.bias.clone(), Some(metric), factorizer);
            found[first] = Some(nearest.map_err(|source| layer.error(source))?);
            continue;
        };
        let alike = |other: &Target| other.structure == *structure && other.weight.dims() == weight.dims();
        let members: Vec<usize> = (first..targets.len()).filter(|at| alike(&targets[*at])).collect();
        let weights = members.iter().map(|at| targets[*at].weight.clone()).collect();
        let factorizer = factorizer.clone().with_blocks(blocks).with_rank(rank).init();
        let factorizer = factorizer.with_moment(metric.to_tensor(&weight.device()));
        let factors = factorizer.factorize_batch(Tensor::stack(weights, 0)).map_err(|source| layer.error(source))?;
        for (number, at) in members.into_iter().enumerate() {
            let layer = StructuredLinear::Blast(factors.layer(number, targets[at].layer.bias.clone()));
            found[at] = Some(Approximation { layer, relative_error: factors.errors()[number] });
        }
    }
    Ok(found.into_iter().flatten().collect())
}

/// `G` as the solvers take it.
fn metric(anchor: &Anchor) -> Moment {
    let n = anchor.gram.nrows();
    let entries = (0..n * n).map(|at| anchor.gram[(at / n, at % n)]).collect();
    Moment::from_sum(n, 1, entries)
}

/// A tensor like the layer's weight.
fn upload(matrix: &Mat<f64>, like: &Tensor<2>) -> Tensor<2> {
    let (m, n) = (matrix.nrows(), matrix.ncols());
    let entries: Vec<f64> = (0..m * n).map(|at| matrix[(at / n, at % n)]).collect();
    Tensor::from_data(TensorData::new(entries, [m, n]).convert_dtype(like.dtype()), (&like.device(), like.dtype()))
}

/// The layer with the bias that keeps the mean of the outputs, if the dense one has a bias.
fn with_bias(
    dense: &Layer,
    anchor: &Anchor,
    mut found: Approximation<StructuredLinear>,
) -> Result<Approximation<StructuredLinear>, CompressError> {
    let Some(bias) = &dense.bias else { return Ok(found) };
    let matrix = read(&found.layer.to_dense())?;
    let shift = anchor.shift(&dense.matrix, &matrix);
    let shift = TensorData::new(shift, [matrix.nrows()]).convert_dtype(bias.dtype());
    let bias = bias.clone().detach() + Tensor::from_data(shift, (&bias.device(), bias.dtype()));
    if let Some(old) = found.layer.bias_mut() {
        *old = Param::from_tensor(bias);
    }
    Ok(found)
}
