//! The layers of any checkpoint, each by itself.

use super::assemble::{self, Job};
use super::quantize::check_int8;
use super::store::{Identity, Opened, Store, hex};
use super::tensors::{UnitReport, cast, shard_metadata};
use super::{Event, Finished, Observer, Output, PipelineError};
use crate::CompressError;
use crate::approximate::approximate;
use crate::calibrate::Calibrator;
use crate::factorize::FactorizerConfig;
use crate::plan::{Plan, Planned, check_replaces_something};
use burn::config::Config;
use burn::tensor::Device;
use burn_structured_checkpoint::{self as checkpoint, Checkpoint, Dtype, linears};
use burn_structured_nn::Structure;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Instant;

/// How to compress layers by themselves.
#[derive(Config, Debug)]
pub struct LayerwiseConfig {
    /// Share of the identity in the second moments of the inputs.
    #[config(default = 0.01)]
    pub regularization: f64,
    /// How BLAST factors are found; the plan sets the blocks and the rank, and `seed` the seed.
    #[config(default = "FactorizerConfig::new().with_steps(40)")]
    pub factorizer: FactorizerConfig,
    /// The seed of everything random.
    #[config(default = 0)]
    pub seed: u64,
    /// Whether the linear layers get int8 weights in the end, those that stay dense among them.
    #[config(default = false)]
    pub int8: bool,
}

/// Compresses the linear layers of `source` as `plan` says, each by itself: the nearest layer to its outputs on the inputs that
/// `calibration` knows, or else to its weight. One layer is in memory at a time.
///
/// # Errors
///
/// If the plan replaces nothing or does not fit, the checkpoint is compressed already, the calibration is of another model, a weight cannot be compressed, the output is
/// there already or cannot be written, or `observer` breaks. What is finished is kept, see the [module](crate::pipeline).
///
/// # Example
///
/// ```no_run
/// use burn::tensor::Device;
/// use burn_structured_checkpoint::Checkpoint;
/// use burn_structured_compress::pipeline::{Event, LayerwiseConfig, Output, compress_checkpoint};
/// use burn_structured_compress::plan::Plan;
/// use std::ops::ControlFlow;
///
/// # fn main() -> Result<(), burn_structured_compress::CompressError> {
/// let source = Checkpoint::open("model")?;
/// let plan = Plan::from_toml("format = 1\n[[rule]]\npattern = 'mlp'\nstructure = 'blast:b=4,ratio=0.5'")?;
/// let config = LayerwiseConfig::new();
/// let output = Output::new("model-small");
/// let observer = &mut |_: &Event<'_>| ControlFlow::Continue(());
/// let done = compress_checkpoint(&source, &plan, None, &config, &output, &Device::flex(), observer)?;
/// println!("{:.3}", done.report.mean_weight_error().unwrap_or(0.0));
/// # Ok(())
/// # }
/// ```
pub fn compress_checkpoint(
    source: &Checkpoint,
    plan: &Plan,
    calibration: Option<&Calibrator>,
    config: &LayerwiseConfig,
    output: &Output,
    device: &Device,
    observer: &mut Observer<'_>,
) -> Result<Finished, CompressError> {
    let planned = plan_for(source, plan, config.int8)?;
    let work: Vec<&Planned> = planned.iter().filter(|planned| planned.structure.is_some()).collect();
    if let Some(known) = calibration {
        known.check(work.iter().map(|planned| planned.layer.name.as_str()))?;
    }
    let identity = run_identity("layerwise", source, &planned, config.seed, device)
        .with("data", calibration.map_or_else(|| "none".to_string(), fingerprint))
        .with_settings("settings", &LayerwiseConfig { seed: 0, ..config.clone() });
    let units = (0..work.len()).map(|index| format!("layer-{index:04}")).collect();
    let mut store = match Store::open(output, identity, units, source.files(), observer)? {
        Opened::Finished(done) => return Ok(*done),
        Opened::Run(store) => store,
    };
    for (index, planned) in work.iter().enumerate().skip(store.finished()) {
        let began = Instant::now();
        let name = planned.layer.name.as_str();
        let (units, unit) = (work.len(), Event::Unit { index, units: work.len(), name });
        if observer(&unit).is_break() {
            return Err(store.interrupted().into());
        }
        let compressed = compress_layer(source, planned, calibration, config, device);
        let Compressed { tensors, metadata, structure, relative_error } =
            compressed.map_err(|error| error.in_layer(name))?;
        let flow = observer(&Event::Layer { name, structure, relative_error });
        let seconds = began.elapsed().as_secs_f64();
        store.finish(&tensors, &metadata, seconds)?;
        // A layer that is done is kept, also if the run ends here.
        if flow.is_break() || observer(&Event::UnitFinished { index, units, name, seconds }).is_break() {
            return Err(store.interrupted().into());
        }
    }
    assemble::compressed(
        store,
        &Job { source, planned: &planned, seed: config.seed, int8: config.int8, device },
        observer,
    )
}

/// A compressed layer as a shard.
struct Compressed {
    tensors: Vec<checkpoint::TensorData<'static>>,
    metadata: BTreeMap<String, String>,
    structure: Structure,
    relative_error: f64,
}

fn compress_layer(
    source: &Checkpoint,
    planned: &Planned,
    calibration: Option<&Calibrator>,
    config: &LayerwiseConfig,
    device: &Device,
) -> Result<Compressed, CompressError> {
    let Planned { layer, structure, .. } = planned;
    let structure = structure.unwrap_or(Structure::Dense);
    let (weight, bias) = checkpoint::dense_layer(source, layer, device)?;
    let moment = calibration.and_then(|known| known.find(&layer.name));
    let moment = moment.map(|moment| moment.regularized(config.regularization));
    let factorizer = config.factorizer.clone().with_seed(config.seed);
    let found = approximate(structure, weight, bias, moment.as_ref(), &factorizer)?;
    if !found.relative_error.is_finite() {
        return Err(CompressError::OutputNotFinite);
    }
    let (name, relative_error) = (layer.name.as_str(), found.relative_error);
    let dtype = source.tensor(&layer.weight).map_or(Dtype::F32, |weight| weight.dtype);
    let entry = checkpoint::layer_entry(&found.layer, layer.orientation, dtype, None)?;
    let bias = format!("{name}.bias");
    let factors = checkpoint::layer_tensors(name, &found.layer).into_iter();
    // The bias is as it was, and stays in its own type.
    let tensors = factors.filter(|tensor| tensor.name != bias).map(|tensor| cast(tensor, dtype)).collect();
    let output_errors = moment.map(|_| (layer.name.clone(), relative_error)).into_iter().collect();
    let report = UnitReport { output_errors, ..UnitReport::default() };
    let layers = BTreeMap::from([(layer.name.clone(), entry)]);
    Ok(Compressed { tensors, metadata: shard_metadata(layers, config.seed, &report), structure, relative_error })
}

/// What a plan does with the layers of a dense checkpoint.
///
/// # Errors
///
/// If it is compressed already, the plan does not fit, it replaces nothing, or a structure has no int8 form that is to have one.
pub(super) fn plan_for(source: &Checkpoint, plan: &Plan, int8: bool) -> Result<Vec<Planned>, CompressError> {
    if source.manifest()?.is_some() {
        return Err(PipelineError::Compressed { path: source.path().to_owned() }.into());
    }
    let planned = plan.resolve(&linears(source))?;
    check_replaces_something(&planned)?;
    for planned in planned.iter().filter(|_| int8) {
        planned.structure.map_or(Ok(()), |structure| check_int8(&planned.layer.name, structure))?;
    }
    Ok(planned)
}

/// What decides the result of every kind of run.
pub(super) fn run_identity(
    executor: &str,
    source: &Checkpoint,
    planned: &[Planned],
    seed: u64,
    device: &Device,
) -> Identity {
    let identity = Identity::new(executor)
        .with("model", source.fingerprint())
        .with("seed", seed.to_string())
        .with("device", format!("{device:?}"));
    planned.iter().fold(identity, |identity, planned| match planned.structure {
        Some(structure) => identity.with(format!("structure of {}", planned.layer.name), structure.to_string()),
        None => identity,
    })
}

/// SHA-256 of the moments of all layers.
fn fingerprint(calibration: &Calibrator) -> String {
    let mut hash = Sha256::new();
    for (name, moment) in calibration.moments() {
        for size in [name.len() as u64, moment.features() as u64, moment.tokens()] {
            hash.update(size.to_le_bytes());
        }
        hash.update(name.as_bytes());
        moment.sum().iter().for_each(|product| hash.update(product.to_le_bytes()));
    }
    hex(&hash.finalize())
}
