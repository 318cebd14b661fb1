//! The blocks of a model, one after another.

use super::assemble::{self, Job};
use super::layerwise::{plan_for, run_identity};
use super::store::{Opened, Store};
use super::tensors::{UnitReport, cast, is_same, shard_metadata};
use super::{Event, Finished, Observer, Output, PipelineError};
use crate::CompressError;
use crate::distill::{DistillConfig, distill};
use crate::names::is_suffix;
use crate::optimize::{Budget, TrainingStep};
use crate::plan::{Plan, Planned};
use crate::refine::{RefineConfig, refine_block};
use crate::report::{BlockResult, DistillResult, RefineResult};
use crate::sequential::{Prefix, SequentialConfig};
use burn::config::Config;
use burn::tensor::Device;
use burn_structured_checkpoint::{Checkpoint, LayerEntry, StateDict, TensorData};
use burn_structured_nn::{BlockModel, Structure};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::ops::ControlFlow;
use std::time::Instant;

/// How to compress a model block after block.
#[derive(Config, Debug)]
pub struct BlockwiseConfig {
    /// How layers are fitted.
    #[config(default = "SequentialConfig::new()")]
    pub sequential: SequentialConfig,
    /// How every block is trained afterwards, if it is. The budget is that of one block; a time becomes a number of steps at the first
    /// block, which holds for all of them.
    #[config(default = "None")]
    pub refine: Option<RefineConfig>,
    /// How the whole model is trained in the end, if it is.
    #[config(default = "None")]
    pub distill: Option<DistillConfig>,
    /// The seed of everything random: it replaces those of the other settings.
    #[config(default = 0)]
    pub seed: u64,
    /// Whether the linear layers get int8 weights in the end, those that stay dense among them.
    #[config(default = false)]
    pub int8: bool,
}

/// Raw text, as a model's batches.
pub struct Texts<'a, B> {
    /// What blocks are fitted and refined on.
    pub calibration: &'a [B],
    /// What the share of the dense inputs is chosen and errors are measured on.
    pub held_out: &'a [B],
    /// What the model is distilled on.
    pub distillation: &'a [B],
    /// What tells these texts from others, such as a hash of their bytes: a run continues only with the same.
    pub fingerprint: String,
}

type Failure = Box<dyn Error + Send + Sync>;

/// How the blocks of a model go to checkpoints, and come from them: for `burn-structured-models`, `block_weights` and `load_block`.
pub struct BlockFormat<'a, M> {
    /// The tensors of a block under the names that they have in the dense checkpoint: those of compressed layers, those of dense
    /// ones, and the others, such as norms.
    pub save: &'a dyn Fn(&M, usize) -> Result<StateDict<'static>, Failure>,
    /// Replaces a block by the one in a checkpoint, which need not have any other.
    pub load: &'a dyn Fn(&mut M, usize, &Checkpoint) -> Result<(), Failure>,
}

impl<B> fmt::Debug for Texts<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calibration, held_out, distillation, fingerprint } = self;
        f.debug_struct("Texts")
            .field("calibration", &calibration.len())
            .field("held_out", &held_out.len())
            .field("distillation", &distillation.len())
            .field("fingerprint", fingerprint)
            .finish()
    }
}

impl<M> fmt::Debug for BlockFormat<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockFormat").finish_non_exhaustive()
    }
}

/// Compresses a dense `model` block after block as `plan` says: every block is fitted to what the compressed blocks before it give,
/// then [refined](crate::refine), and in the end the model is [distilled](crate::distill), as `config` says.
///
/// `source` is the checkpoint that the model was loaded from: its other tensors are taken over as they are. What is trained has the
/// type that it has there, and every block goes on from what was stored of the one before.
///
/// # Errors
///
/// If the plan replaces nothing or does not fit, the model and the checkpoint do not belong together, a block cannot be fitted or
/// trained, the output is there already or cannot be written, or `observer` breaks. What is finished is kept, see the
/// [module](crate::pipeline).
#[allow(clippy::too_many_arguments, reason = "each of them is one thing that a run needs")]
pub fn compress_model<M: BlockModel>(
    source: &Checkpoint,
    model: &M,
    format: &BlockFormat<'_, M>,
    texts: &Texts<'_, M::Batch>,
    plan: &Plan,
    config: &BlockwiseConfig,
    output: &Output,
    device: &Device,
    observer: &mut Observer<'_>,
) -> Result<Finished, CompressError> {
    let planned = plan_for(source, plan, config.int8)?;

    let structures = structures_of(source, model, &planned)?;
    if texts.calibration.is_empty() || texts.held_out.is_empty() {
        return Err(CompressError::NoBatches);
    }
    let config = config.clone().seeded();
    let depth = model.blocks().len();
    let mut units: Vec<String> = (0..depth).map(|block| format!("block-{block:03}")).collect();
    units.extend(config.distill.iter().map(|_| "distilled".to_string()));
    let identity = run_identity("blockwise", source, &planned, config.seed, device)
        .with("data", texts.fingerprint.clone())
        .with_settings("settings", &config);
    let store = match Store::open(output, identity, units, source.files(), observer)? {
        Opened::Finished(done) => return Ok(*done),
        Opened::Run(store) => store,
    };
    let mut run = Run { source, format, texts, config: &config, structures: &structures, store, observer };
    if run.store.finished() < run.store.units().len()
        && let Err(error) = run.units(model)
    {
        return Err(run.store.explain(error));
    }
    let Run { store, observer, .. } = run;
    assemble::compressed(
        store,
        &Job { source, planned: &planned, seed: config.seed, int8: config.int8, device },
        observer,
    )
}

impl BlockwiseConfig {
    /// The same settings with one seed.
    fn seeded(mut self) -> Self {
        self.sequential.factorizer.seed = self.seed;
        if let Some(refine) = &mut self.refine {
            refine.seed = self.seed;
        }
        if let Some(distill) = &mut self.distill {
            distill.seed = self.seed;
        }
        self
    }
}

/// A run in progress.
struct Run<'a, 'b, M: BlockModel> {
    source: &'a Checkpoint,
    format: &'a BlockFormat<'a, M>,
    texts: &'a Texts<'a, M::Batch>,
    config: &'a BlockwiseConfig,
    /// Of every linear layer of every block.
    structures: &'a [Vec<Option<Structure>>],
    store: Store,
    observer: &'a mut Observer<'b>,
}

impl<M: BlockModel> Run<'_, '_, M> {
    /// Makes the units that are not finished.
    fn units(&mut self, model: &M) -> Result<(), CompressError> {
        let student = self.blocks(model)?;
        match &self.config.distill {
            Some(config) => self.distill(student, model, config),
            None => Ok(()),
        }
    }

    /// The student behind all blocks: those that are finished are read, the others are made.
    fn blocks(&mut self, model: &M) -> Result<M, CompressError> {
        let (depth, finished) = (model.blocks().len(), self.store.finished());
        let mut student = model.clone();
        for block in 0..finished.min(depth) {
            let shard = self.store.shard(block)?;
            self.load(&mut student, block, &shard)?;
        }
        if finished >= depth {
            return Ok(student);
        }
        let mut prefix = Prefix::new(model, self.texts.calibration, self.texts.held_out)?;
        for block in 0..depth {
            if block >= finished {
                self.block(&prefix, &mut student, block)?;
            }
            if block + 1 < depth {
                prefix.advance(&student, block)?;
            }
        }
        Ok(student)
    }

    /// Compresses and refines a block.
    fn block(&mut self, prefix: &Prefix<M>, student: &mut M, block: usize) -> Result<(), CompressError> {
        let began = Instant::now();
        self.begin(block)?;
        let structures = &self.structures[block];
        let observer = &mut *self.observer;
        let fitted = prefix.compress_block(student, block, structures, &self.config.sequential, &mut |step| {
            observer(&Event::Fit(step))
        })?;
        for layer in &fitted.layers {
            let (name, structure, relative_error) = (layer.name.as_str(), layer.structure, layer.relative_error);
            if observer(&Event::Layer { name, structure, relative_error }).is_break() {
                return Err(CompressError::Interrupted);
            }
        }
        let replaced = structures.iter().any(Option::is_some);
        // Without an error there is nothing to learn: neither the block nor one before it is compressed.
        let refinement = match &self.config.refine {
            Some(refine) if fitted.output_error > 0.0 => Some(self.refine(prefix, student, block, refine)?),
            _ => None,
        };
        let layer_names = self.file_names(student, block)?;
        let output_errors = fitted.layers.iter().map(|layer| {
            let name = layer_names.get(&layer.name).unwrap_or(&layer.name);
            (name.clone(), layer.relative_error)
        });
        let report = UnitReport {
            output_errors: output_errors.collect(),
            block: Some(BlockResult {
                block,
                alpha: replaced.then_some(fitted.alpha),
                output_error: fitted.output_error,
                refinement,
            }),
            distillation: None,
        };
        self.finish(student, &[block], &report, began)
    }

    fn refine(
        &mut self,
        prefix: &Prefix<M>,
        student: &mut M,
        block: usize,
        config: &RefineConfig,
    ) -> Result<RefineResult, CompressError> {
        const STEPS: &str = "refine.steps";
        let budget = self.store.decision(STEPS).map_or(config.budget, Budget::Steps);
        let config = RefineConfig { budget, ..config.clone() };
        let (store, observer) = (&mut self.store, &mut *self.observer);
        let mut failed = None;
        let mut on_step = |step: &TrainingStep| {
            if let Err(error) = decided(store, STEPS, step) {
                failed = Some(error);
                return ControlFlow::Break(());
            }
            observer(&Event::Refine { block, step })
        };
        let refined = refine_block(prefix, student, block, &config, &mut on_step);
        if let Some(error) = failed {
            return Err(error.into());
        }
        let refined = refined?;
        Ok(RefineResult { steps: refined.steps, before: refined.before, after: refined.after })
    }

    fn distill(&mut self, student: M, model: &M, config: &DistillConfig) -> Result<(), CompressError> {
        const STEPS: &str = "distill.steps";
        let began = Instant::now();
        let depth = model.blocks().len();
        self.begin(depth)?;
        let budget = self.store.decision(STEPS).map_or(config.budget, Budget::Steps);
        let config = DistillConfig { budget, ..config.clone() };
        let (store, observer) = (&mut self.store, &mut *self.observer);
        let mut failed = None;
        let mut on_step = |step: &TrainingStep| {
            if let Err(error) = decided(store, STEPS, step) {
                failed = Some(error);
                return ControlFlow::Break(());
            }
            observer(&Event::Distill(step))
        };
        let texts = self.texts;
        let distilled = distill(student, model, texts.distillation, texts.held_out, &config, &mut on_step);
        if let Some(error) = failed {
            return Err(error.into());
        }
        let distilled = distilled?;
        let result = DistillResult::from(distilled.report);
        let report = UnitReport { distillation: Some(result), ..UnitReport::default() };
        let blocks: Vec<usize> = (0..depth).collect();
        let mut student = distilled.model;
        self.finish(&mut student, &blocks, &report, began)
    }

    fn begin(&mut self, index: usize) -> Result<(), CompressError> {
        let units = self.store.units();
        let event = Event::Unit { index, units: units.len(), name: &units[index] };
        if (self.observer)(&event).is_break() { Err(CompressError::Interrupted) } else { Ok(()) }
    }

    /// Stores blocks of the student as the next unit, and goes on with what was stored.
    fn finish(
        &mut self,
        student: &mut M,
        blocks: &[usize],
        report: &UnitReport,
        began: Instant,
    ) -> Result<(), CompressError> {
        let (mut tensors, mut layers) = (Vec::new(), BTreeMap::new());
        for block in blocks {
            let saved =
                (self.format.save)(student, *block).map_err(|source| PipelineError::Block { block: *block, source })?;
            layers.extend(saved.layers);
            tensors.extend(saved.tensors);
        }
        let tensors: Vec<TensorData<'_>> =
            tensors.into_iter().map(|tensor| as_in_source(self.source, tensor, &layers)).collect();
        let metadata = shard_metadata(layers, self.config.seed, report);
        let (index, seconds) = (self.store.finished(), began.elapsed().as_secs_f64());
        let shard = self.store.finish(&tensors, &metadata, seconds)?;
        for block in blocks {
            self.load(student, *block, &shard)?;
        }
        let units = self.store.units();
        let event = Event::UnitFinished { index, units: units.len(), name: &units[index], seconds };
        if (self.observer)(&event).is_break() { Err(CompressError::Interrupted) } else { Ok(()) }
    }

    fn load(&self, student: &mut M, block: usize, shard: &Checkpoint) -> Result<(), PipelineError> {
        (self.format.load)(student, block, shard).map_err(|source| PipelineError::Block { block, source })
    }

    /// The names in the source of a block's linear layers, by those in the model.
    fn file_names(&self, model: &M, block: usize) -> Result<BTreeMap<String, String>, PipelineError> {
        let linears = burn_structured_checkpoint::linears(self.source);
        let named = model.linears(block).into_iter().filter_map(|(name, _)| {
            let full = linears.iter().find(|linear| is_suffix(&linear.name, &name))?;
            Some((name, full.name.clone()))
        });
        Ok(named.collect())
    }
}

/// A tensor of the student in the type that it has in the source, or that the weight has which it is a factor of; with the very
/// bytes of the source if the values are the same.
pub(super) fn as_in_source<'a>(
    source: &'a Checkpoint,
    tensor: TensorData<'static>,
    layers: &BTreeMap<String, LayerEntry>,
) -> TensorData<'a> {
    if is_same(&tensor, source)
        && let (Some(known), Ok(bytes)) = (source.tensor(&tensor.name), source.bytes(&tensor.name))
    {
        let (name, dtype, shape) = (tensor.name, known.dtype, known.shape.clone());
        return TensorData { name, dtype, shape, bytes: Cow::Borrowed(bytes) };
    }
    let known = source.tensor(&tensor.name).map(|known| known.dtype);
    let layer = tensor.name.rsplit_once('.').map(|(layer, _)| layer).filter(|layer| layers.contains_key(*layer));
    let layer = layer.and_then(|layer| source.tensor(&format!("{layer}.weight"))).map(|weight| weight.dtype);
    match known.or(layer) {
        Some(dtype) => cast(tensor, dtype),
        None => tensor,
    }
}

/// Keeps the number of steps that a time budget came to, at the first of them: nothing depends on it before.
pub(super) fn decided(store: &mut Store, name: &str, step: &TrainingStep) -> Result<(), PipelineError> {
    match store.decision(name) {
        Some(_) => Ok(()),
        None => store.decide(name, step.steps),
    }
}

/// The structures of the linear layers of every block of the model.
///
/// # Errors
///
/// If the source lacks a layer, or a layer that the plan replaces is in no block.
fn structures_of<M: BlockModel>(
    source: &Checkpoint,
    model: &M,
    planned: &[Planned],
) -> Result<Vec<Vec<Option<Structure>>>, PipelineError> {
    let mut left: BTreeSet<&str> = planned
        .iter()
        .filter(|planned| planned.structure.is_some())
        .map(|planned| planned.layer.name.as_str())
        .collect();
    let mut all = Vec::new();
    for block in 0..model.blocks().len() {
        let mut structures = Vec::new();
        for (name, _) in model.linears(block) {
            let found = planned.iter().find(|planned| is_suffix(&planned.layer.name, &name));
            let found =
                found.ok_or_else(|| PipelineError::Layer { path: source.path().to_owned(), layer: name, block })?;
            left.remove(found.layer.name.as_str());
            structures.push(found.structure);
        }
        all.push(structures);
    }
    match left.first() {
        Some(layer) => Err(PipelineError::Unreachable { layer: layer.to_string() }),
        None => Ok(all),
    }
}
