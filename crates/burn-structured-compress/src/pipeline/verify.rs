//! Checks of an output against its report and the dense checkpoint.

use super::PipelineError;
use super::store::sha256_of;
use super::tensors::weight_error;
use crate::CompressError;
use crate::report::{LayerResult, Report};
use burn::tensor::Device;
use burn_structured_checkpoint::{self as checkpoint, Checkpoint, Dtype, Manifest, linears};
use burn_structured_nn::StructuredLinear;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What was checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verification {
    /// The checks.
    pub checks: Vec<Check>,
    /// The relative errors of the weights, computed anew; empty without the dense checkpoint.
    pub weight_errors: BTreeMap<String, f64>,
}

/// A check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// How it went.
    pub outcome: Outcome,
    /// What was found: for a failure, what is wrong; for a check that was left out, why.
    pub detail: String,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All is as it should be.
    Passed,
    /// Something is not.
    Failed,
    /// There was nothing to compare with.
    Skipped,
}

impl Verification {
    /// Whether no check failed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.outcome != Outcome::Failed)
    }

    fn add(&mut self, name: &str, found: Result<String, String>) {
        let (outcome, detail) = match found {
            Ok(detail) => (Outcome::Passed, detail),
            Err(detail) => (Outcome::Failed, detail),
        };
        self.checks.push(Check { name: name.to_string(), outcome, detail });
    }

    fn skip(&mut self, name: &str, why: &str) {
        self.checks.push(Check { name: name.to_string(), outcome: Outcome::Skipped, detail: why.to_string() });
    }
}

/// Checks a compressed checkpoint: every layer is loaded, the files are compared with the hashes of the report, and with the `dense`
/// checkpoint the errors of all weights are computed anew and all other tensors are compared byte for byte.
///
/// What is wrong with the output is a failed check, not an error.
///
/// # Errors
///
/// If the checkpoint is not compressed, or a file cannot be read at all.
pub fn verify(
    compressed: &Checkpoint,
    dense: Option<&Checkpoint>,
    device: &Device,
) -> Result<Verification, CompressError> {
    let not_compressed = || PipelineError::NotCompressed { path: compressed.path().to_owned() };
    let manifest = compressed.manifest()?.ok_or_else(not_compressed)?;
    let mut found = Verification { checks: Vec::new(), weight_errors: BTreeMap::new() };
    let report = compressed
        .folder()
        .filter(|folder| folder.join("report.json").exists())
        .map(|folder| (folder, Report::load(folder)));
    let report = match report {
        None => {
            found.skip("report", "there is no report.json beside the checkpoint");
            None
        }
        Some((_, Err(error))) => {
            found.add("report", Err(error.to_string()));
            None
        }
        Some((folder, Ok(report))) => {
            found.add(
                "report",
                Ok(format!("{} linear layers, {} compressed", report.layers.len(), report.compressed().count())),
            );
            Some((folder, report))
        }
    };
    if let Some((folder, report)) = &report {
        found.add("files", check_files(folder, report));
        found.add("description", check_description(&manifest, report));
    }
    let mut layers = BTreeMap::new();
    found.add("layers", load_layers(compressed, &manifest, device, &mut layers));
    match dense {
        None => found.skip("errors", "no dense checkpoint was given"),
        Some(dense) => {
            found.add("dense checkpoint", check_source(&manifest, dense));
            let report = report.as_ref().map(|(_, report)| report);
            let errors = weight_errors(dense, &layers, device)?;
            found.add("errors", check_errors(&errors, &manifest, report));
            found.weight_errors = errors;
            found.add("other tensors", check_others(compressed, dense, &manifest, report));
        }
    }
    Ok(found)
}

fn check_files(folder: &Path, report: &Report) -> Result<String, String> {
    for file in &report.files {
        // Paths of a report that was tampered with stay within the folder.
        let parts: Vec<&str> = file.path.split('/').collect();
        if parts.iter().any(|part| part.is_empty() || *part == "." || *part == ".." || part.contains(['\\', ':'])) {
            return Err(format!("the report names {:?}, which is no file of the output", file.path));
        }
        let path = parts.iter().fold(folder.to_owned(), |path, part| path.join(part));
        let length = fs::metadata(&path).map_err(|error| format!("{}: {error}", file.path))?.len();
        if length != file.bytes {
            return Err(format!("{} has {length} bytes instead of {}", file.path, file.bytes));
        }
        let hash = sha256_of(&path).map_err(|error| format!("{}: {error}", file.path))?;
        if hash != file.sha256 {
            return Err(format!("{} was changed: its SHA-256 is {hash} instead of {}", file.path, file.sha256));
        }
    }
    Ok(format!("{} files have their hashes", report.files.len()))
}

fn check_description(manifest: &Manifest, report: &Report) -> Result<String, String> {
    let reported: BTreeMap<&str, String> =
        report.compressed().filter_map(|layer| Some((layer.name.as_str(), layer.structure?.to_string()))).collect();
    for (name, entry) in &manifest.layers {
        match reported.get(name.as_str()) {
            Some(structure) if *structure == entry.structure => {}
            other => {
                return Err(format!("{name} is {} in the checkpoint and {other:?} in the report", entry.structure));
            }
        }
    }
    if reported.len() != manifest.layers.len() {
        return Err(format!("the report has {} layers, the checkpoint {}", reported.len(), manifest.layers.len()));
    }
    Ok(format!("{} layers are as reported", reported.len()))
}

fn load_layers(
    compressed: &Checkpoint,
    manifest: &Manifest,
    device: &Device,
    layers: &mut BTreeMap<String, StructuredLinear>,
) -> Result<String, String> {
    for name in manifest.layers.keys() {
        let layer = checkpoint::layer(compressed, name, device).map_err(|error| error.to_string())?;
        if !layer.to_dense().is_finite().all().into_scalar::<bool>() {
            return Err(format!("{name} has entries that are NaN or infinite"));
        }
        layers.insert(name.clone(), layer);
    }
    Ok(format!("{} layers load", layers.len()))
}

fn check_source(manifest: &Manifest, dense: &Checkpoint) -> Result<String, String> {
    let fingerprint = dense.fingerprint();
    match &manifest.source {
        Some(source) if *source == fingerprint => Ok("it is the one that was compressed".into()),
        Some(source) => {
            Err(format!("{} has the fingerprint {fingerprint}, but {source} was compressed", dense.path().display()))
        }
        None => Err("the checkpoint does not say what it was made from".into()),
    }
}

fn weight_errors(
    dense: &Checkpoint,
    layers: &BTreeMap<String, StructuredLinear>,
    device: &Device,
) -> Result<BTreeMap<String, f64>, CompressError> {
    let mut errors = BTreeMap::new();
    for linear in linears(dense) {
        let Some(layer) = layers.get(&linear.name) else { continue };
        if [layer.d_input(), layer.d_output()] != [linear.d_input, linear.d_output] {
            continue;
        }
        let (weight, _) = checkpoint::dense_layer(dense, &linear, device)?;
        let error = weight_error(&weight.into_data(), &layer.to_dense().into_data());
        errors.insert(linear.name.clone(), error.map_err(|error| error.in_layer(&linear.name))?);
    }
    Ok(errors)
}

/// How far an error that is computed anew may be from the one that was recorded: devices round differently.
fn tolerance(recorded: f64) -> f64 {
    1e-3 * recorded + 1e-5
}

fn check_errors(
    errors: &BTreeMap<String, f64>,
    manifest: &Manifest,
    report: Option<&Report>,
) -> Result<String, String> {
    let reported = |name: &str| -> Option<&LayerResult> { report?.layers.iter().find(|layer| layer.name == name) };
    let mut largest = 0.0f64;
    for (name, entry) in &manifest.layers {
        let error =
            errors.get(name).ok_or_else(|| format!("the dense checkpoint has no layer {name} of the same size"))?;
        let recorded = [entry.relative_error, reported(name).and_then(|layer| layer.weight_error)];
        for recorded in recorded.into_iter().flatten() {
            if (error - recorded).abs() > tolerance(recorded) {
                return Err(format!("{name} has an error of {error:.6}, but {recorded:.6} was recorded"));
            }
        }
        largest = largest.max(*error);
    }
    Ok(format!("{} weights have the errors that were recorded; the largest is {largest:.4}", errors.len()))
}

fn check_others(
    compressed: &Checkpoint,
    dense: &Checkpoint,
    manifest: &Manifest,
    report: Option<&Report>,
) -> Result<String, String> {
    let (mut same, mut trained) = (0, 0);
    for tensor in dense.tensors() {
        let name = tensor.name.as_str();
        if name.strip_suffix(".weight").is_some_and(|layer| manifest.layers.contains_key(layer)) {
            continue;
        }
        let found = compressed.tensor(name).ok_or_else(|| format!("{name} is missing"))?;
        if (found.dtype, &found.shape) != (tensor.dtype, &tensor.shape) {
            return Err(format!(
                "{name} is {} {:?} instead of {} {:?}",
                found.dtype, found.shape, tensor.dtype, tensor.shape
            ));
        }
        if compressed.bytes(name).ok() == dense.bytes(name).ok() {
            same += 1;
            continue;
        }
        match report {
            Some(report) if !report.changed.iter().any(|changed| changed == name) => {
                return Err(format!("{name} is not what it was, and no training has changed it"));
            }
            _ => trained += 1,
        }
        if is_not_finite(compressed, name, found.dtype) {
            return Err(format!("{name} has entries that are NaN or infinite"));
        }
    }
    Ok(format!("{same} are as they were, {trained} were trained"))
}

fn is_not_finite(checkpoint: &Checkpoint, name: &str, dtype: Dtype) -> bool {
    let float = matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16);
    float && checkpoint.values(name).is_ok_and(|values| values.iter().any(|value| !value.is_finite()))
}
