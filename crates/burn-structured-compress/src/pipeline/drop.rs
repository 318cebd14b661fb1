//! A model with some of its blocks, as a dense checkpoint.

use super::assemble::MODEL;
use super::blockwise::{as_in_source, decided};
use super::error::writing;
use super::layerwise::run_identity;
use super::store::{Opened, Store};
use super::tensors::{UnitReport, shard_metadata, unit_report};
use super::{BlockFormat, Event, Observer, Output, PipelineError, Texts, companions};
use crate::CompressError;
use crate::distill::{DistillConfig, distill, output_error};
use crate::drop::imitated;
use crate::optimize::{Budget, TrainingStep};
use crate::report::DistillResult;
use burn::tensor::Device;
use burn_structured_checkpoint::{self as checkpoint, BlockName, Checkpoint, TensorData, family, files};
use burn_structured_nn::BlockModel;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The file with the number of blocks.
const CONFIG: &str = "config.json";

/// A model of which blocks were left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropped {
    /// The folder.
    pub path: PathBuf,
    /// `‖y - y_dense‖ / ‖y_dense‖` of the outputs on the held-out batches, before any training.
    pub output_error: f64,
    /// How it was trained, if it was.
    pub distillation: Option<DistillResult>,
    /// The time it took.
    pub seconds: f64,
}

/// Writes the dense model of `source` with the blocks `kept` only, which are numbered anew, and trains it to imitate the whole one if
/// there are settings for that. The output is a folder like that of `source`: `config.json` has the new number of blocks, and all
/// other tensors and files are taken over as they are.
///
/// `student` is `model` with these blocks; [`blocks_to_keep`](crate::drop::blocks_to_keep) chooses them. Interrupted, the run
/// continues as every run, see the [module](crate::pipeline); the seed is that of `config`.
///
/// # Errors
///
/// If the checkpoint is compressed or of an unknown family, `kept` are not ascending blocks of the model, the training fails, the output
/// is there already or cannot be written, or `observer` breaks.
#[allow(clippy::too_many_arguments, reason = "each of them is one thing that a run needs")]
pub fn drop_blocks<M: BlockModel>(
    source: &Checkpoint,
    model: &M,
    student: M,
    kept: &[usize],
    format: &BlockFormat<'_, M>,
    texts: &Texts<'_, M::Batch>,
    config: Option<&DistillConfig>,
    output: &Output,
    device: &Device,
    observer: &mut Observer<'_>,
) -> Result<Dropped, CompressError> {
    let began = Instant::now();
    if source.manifest()?.is_some() {
        return Err(PipelineError::Compressed { path: source.path().to_owned() }.into());
    }
    let depth = model.blocks().len();
    let ascending = kept.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascending || kept.last().is_none_or(|last| *last >= depth) || student.blocks().len() != kept.len() {
        return Err(PipelineError::Blocks { kept: kept.to_vec(), depth }.into());
    }
    let folder_config = shallower_config(source, kept.len())?;
    let error = output_error(&student, model, texts.held_out);
    let identity = run_identity("drop", source, &[], config.map_or(0, |config| config.seed), device)
        .with("blocks", format!("{kept:?}"))
        .with("data", config.map_or("none", |_| &texts.fingerprint))
        .with_settings("settings", &config);
    let units = config.iter().map(|_| "distilled".to_string()).collect();
    let mut store = match Store::open(output, identity, units, source.files(), observer)? {
        Opened::Finished(done) => return Err(PipelineError::Exists { path: done.path }.into()),
        Opened::Run(store) => store,
    };
    if let Some(config) = config.filter(|_| store.finished() == 0) {
        let config = DistillConfig { blocks: Some(imitated(kept, depth)), ..config.clone() };
        let trained = train(source, model, student, format, texts, &config, &mut store, observer);
        trained.map_err(|error| store.explain(error))?;
    }
    if observer(&Event::Assemble).is_break() {
        return Err(store.interrupted().into());
    }
    let shard = (store.finished() > 0).then(|| store.shard(0)).transpose()?;
    let distillation = shard.as_ref().map(unit_report).transpose()?.and_then(|report| report.distillation);
    let folder = store.assembly()?;
    write_model(&folder, source, kept, shard.as_ref())?;
    companions::copy(source, &folder)?;
    let path = folder.join(CONFIG);
    files::replace(&path, folder_config.as_bytes()).map_err(PipelineError::write(&path))?;
    drop(shard);
    let path = store.complete()?;
    Ok(Dropped { path, output_error: error, distillation, seconds: began.elapsed().as_secs_f64() })
}

/// Distills the student, and stores its blocks.
#[allow(clippy::too_many_arguments, reason = "they are those of the run")]
fn train<M: BlockModel>(
    source: &Checkpoint,
    model: &M,
    student: M,
    format: &BlockFormat<'_, M>,
    texts: &Texts<'_, M::Batch>,
    config: &DistillConfig,
    store: &mut Store,
    observer: &mut Observer<'_>,
) -> Result<(), CompressError> {
    const STEPS: &str = "distill.steps";
    let began = Instant::now();
    let units = store.units().to_vec();
    let (name, units) = (units[0].as_str(), units.len());
    if observer(&Event::Unit { index: 0, units, name }).is_break() {
        return Err(CompressError::Interrupted);
    }
    let budget = store.decision(STEPS).map_or(config.budget, Budget::Steps);
    let config = DistillConfig { budget, ..config.clone() };
    let mut failed = None;
    let mut on_step = |step: &TrainingStep| match decided(store, STEPS, step) {
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
        Ok(()) => observer(&Event::Distill(step)),
    };
    let distilled = distill(student, model, texts.distillation, texts.held_out, &config, &mut on_step);
    if let Some(error) = failed {
        return Err(error.into());
    }
    let distilled = distilled?;
    let result = DistillResult::from(distilled.report);
    let mut tensors = Vec::new();
    for block in 0..distilled.model.blocks().len() {
        let saved = (format.save)(&distilled.model, block).map_err(|source| PipelineError::Block { block, source })?;
        tensors.extend(saved.tensors.into_iter().map(|tensor| as_in_source(source, tensor, &BTreeMap::new())));
    }
    let report = UnitReport { distillation: Some(result), ..UnitReport::default() };
    let seconds = began.elapsed().as_secs_f64();
    store.finish(&tensors, &shard_metadata(BTreeMap::new(), config.seed, &report), seconds)?;
    let flow = observer(&Event::UnitFinished { index: 0, units, name, seconds });
    if flow.is_break() { Err(CompressError::Interrupted) } else { Ok(()) }
}

/// Writes the tensors of `source` without those of other blocks than `kept`, the blocks numbered anew, and those of the shard in the
/// place of those of the same names. Nothing is held in memory.
fn write_model(
    folder: &Path,
    source: &Checkpoint,
    kept: &[usize],
    shard: Option<&Checkpoint>,
) -> Result<(), CompressError> {
    let family = family(source);
    let mut tensors: BTreeMap<String, TensorData<'_>> = BTreeMap::new();
    for file in [source].into_iter().chain(shard) {
        for tensor in file.tensors() {
            let place = BlockName::parse(family, &tensor.name).filter(|_| std::ptr::eq(file, source));
            let name = match place {
                Some(place) => match kept.binary_search(&place.block) {
                    Ok(block) => place.of_block(block),
                    Err(_) => continue,
                },
                None => tensor.name.clone(),
            };
            let bytes = Cow::Borrowed(file.bytes(&tensor.name)?);
            let (dtype, shape) = (tensor.dtype, tensor.shape.clone());
            tensors.insert(name.clone(), TensorData { name, dtype, shape, bytes });
        }
    }
    let tensors: Vec<TensorData<'_>> = tensors.into_values().collect();
    checkpoint::write(&folder.join(MODEL), &tensors, source.metadata()).map_err(writing)
}

/// The text of `config.json` with another number of blocks, and nothing else changed.
///
/// # Errors
///
/// If the family is not known, or the file cannot be read or does not say how many blocks there are.
fn shallower_config(source: &Checkpoint, depth: usize) -> Result<String, PipelineError> {
    let path = source.folder().unwrap_or(Path::new("")).join(CONFIG);
    let wrong = |reason: String| PipelineError::Config { path: path.clone(), reason };
    let field = family(source).depth_field();
    let field = field.ok_or_else(|| wrong("the names of the tensors are of no known family".into()))?;
    let text = std::fs::read_to_string(&path).map_err(PipelineError::read(&path))?;
    with_number(&text, field, depth).map_err(wrong)
}

/// A JSON object with another whole number in one of its fields; everything else keeps its spelling.
fn with_number(text: &str, field: &str, number: usize) -> Result<String, String> {
    let mut expected: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let found = expected.get_mut(field).filter(|found| found.is_u64());
    *found.ok_or_else(|| format!("it has no whole number {field}"))? = number.into();
    let key = format!("\"{field}\"");
    // An inner object may have the same field.
    let places = text.match_indices(&key).filter_map(|(at, _)| {
        let digits = |char: char| char.is_ascii_digit();
        let start = at + key.len() + text[at + key.len()..].find(digits)?;
        let end = text[start..].find(|char| !digits(char)).map_or(text.len(), |end| start + end);
        Some(format!("{}{number}{}", &text[..start], &text[end..]))
    });
    let mut same = places.filter(|changed| serde_json::from_str::<Value>(changed).is_ok_and(|json| json == expected));
    same.next().ok_or_else(|| format!("{field} is spelled in an unusual way"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_number_changes_one_number() {
        let text = "{\n  \"inner\": {\"n_layer\": 7}, \"n_layer\" :12,\n  \"a\": 1e-5}\n";
        let changed = with_number(text, "n_layer", 3).unwrap();
        assert_eq!(changed, text.replace("12", "3"));
        for (text, message) in [("{", "EOF"), ("{\"n_layer\": \"2\"}", "no whole number"), ("{}", "n_layer")] {
            assert!(with_number(text, "n_layer", 3).unwrap_err().contains(message), "{text}");
        }
        assert!(with_number("{\"n_la\\u0079er\": 2}", "n_layer", 3).unwrap_err().contains("unusual"));
    }
}
