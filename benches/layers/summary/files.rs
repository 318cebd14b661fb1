//! What is recorded: a folder for each machine or training comparison, in it JSON files that are told apart by their names.
//!
//! ```text
//! layers*.json      cargo bench --features baselines --bench layers
//! models*.json      cargo bench --features tokenizers --bench models, benches/external/models.py
//! pytorch*.json     benches/external/pytorch.py
//! int8.json         cargo bench --bench int8
//! block.json        cargo bench --bench block
//! ablation.json     variants of the engine beside the full one
//! comparison.json   vision transformers of several structures trained alike
//! language.json     language models of several structures trained alike
//! compression.json  a dense language model compressed and retrained
//! generation.json   tokens a second of language models
//! encoder.json      a sentence encoder compressed in several ways
//! clicks.json       click models of several structures trained alike
//! diffusion.json    a diffusion transformer compressed and retrained
//! decode.json       how long language models decode
//! products.json     the error of inner products, projected, quantized and both
//! fine-tuning.json  a sentence encoder compressed by several structures and fine-tuned
//! checked.json      which figures beyond the parameter ratio were checked by hand, and what was found
//! ```

use super::ablation::Ablation;
use super::block::recorded as block;
use super::fine_tuning::FineTuning;
use super::int8::recorded as int8;
use super::language;
use super::layers::Checked;
use super::models::recorded as models;
use super::training::Comparison;
use super::{clicks, decode, diffusion, encoder, products};
use crate::harness::provenance::unpublished;
use crate::record::Results;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// The contents of a file, and its path from the page.
#[derive(Debug)]
pub struct Recorded<T> {
    /// Its name in the folder of the page.
    pub path: String,
    /// What is in it.
    pub results: T,
}

/// What is recorded in a folder, oldest first.
#[derive(Debug, Default)]
pub struct Folder {
    /// Its name, which is the machine's.
    pub name: String,
    /// Layers by this program.
    pub layers: Vec<Recorded<Results>>,
    /// Layers with int8 weights.
    pub int8: Option<Recorded<int8::Results>>,
    /// The lines of a transformer block.
    pub block: Option<Recorded<block::Results>>,
    /// Layers by others.
    pub external: Vec<Recorded<Results>>,
    /// Whole models by this program.
    pub models: Vec<Recorded<models::Results>>,
    /// Whole models by others.
    pub external_models: Vec<Recorded<models::Results>>,
    /// What the mechanisms of the engine are worth.
    pub ablation: Option<Recorded<Ablation>>,
    /// Structures trained alike.
    pub training: Option<Recorded<Comparison>>,
    /// Language models trained alike.
    pub language: Option<Recorded<language::Comparison>>,
    /// A language model compressed.
    pub compression: Option<Recorded<language::Compression>>,
    /// Tokens a second.
    pub generation: Option<Recorded<language::Generation>>,
    /// A sentence encoder compressed.
    pub encoder: Option<Recorded<encoder::Compressed>>,
    /// Click models trained alike.
    pub clicks: Option<Recorded<clicks::Comparison>>,
    /// A diffusion transformer compressed.
    pub diffusion: Option<Recorded<diffusion::Compression>>,
    /// How long language models decode.
    pub decode: Option<Recorded<decode::Decoding>>,
    /// The error of inner products.
    pub products: Option<Recorded<products::Products>>,
    /// A sentence encoder compressed and fine-tuned.
    pub fine_tuning: Option<Recorded<FineTuning>>,
    /// Figures that were checked by hand.
    pub checked: Checked,
    /// Files whose figures are not published, with the reason.
    pub withheld: Vec<String>,
}

/// The folders in `results`, in the order of their names.
///
/// # Errors
///
/// If a file cannot be read or is of none of the kinds above; the message names it.
pub fn read(results: &Path) -> Result<Vec<Folder>, String> {
    let folders = entries(results)?.into_iter().filter(|path| path.is_dir());
    folders.map(|folder| read_folder(&folder)).collect()
}

fn read_folder(path: &Path) -> Result<Folder, String> {
    let mut folder = Folder { name: name(path), ..Folder::default() };
    for file in entries(path)?.into_iter().filter(|file| file.extension().is_some_and(|ending| ending == "json")) {
        let kind = name(&file);
        let at = kind.clone();
        if kind.starts_with("layers") || kind.starts_with("pytorch") {
            let results = Results::read(&file)?;
            let files = if kind.starts_with("layers") { &mut folder.layers } else { &mut folder.external };
            files.extend(checked(results, at, &mut folder.withheld));
        } else if kind.starts_with("models") {
            let results: models::Results = parse(&file)?;
            if results.format != models::FORMAT {
                return Err(format!(
                    "{}: format {}; this program reads {}",
                    file.display(),
                    results.format,
                    models::FORMAT
                ));
            }
            let own = results.program.starts_with("burn-structured");
            let files = if own { &mut folder.models } else { &mut folder.external_models };
            files.extend(checked(results, at, &mut folder.withheld));
        } else {
            let withheld = &mut folder.withheld;
            match kind.as_str() {
                "int8.json" => folder.int8 = published(&file, at, withheld)?,
                "block.json" => folder.block = published(&file, at, withheld)?,
                "ablation.json" => folder.ablation = published(&file, at, withheld)?,
                "comparison.json" => folder.training = Some(Recorded { path: at, results: parse(&file)? }),
                "language.json" => folder.language = published(&file, at, withheld)?,
                "compression.json" => folder.compression = published(&file, at, withheld)?,
                "generation.json" => folder.generation = published(&file, at, withheld)?,
                "encoder.json" => folder.encoder = published(&file, at, withheld)?,
                "fine-tuning.json" => folder.fine_tuning = published(&file, at, withheld)?,
                "clicks.json" => folder.clicks = published(&file, at, withheld)?,
                "diffusion.json" => folder.diffusion = published(&file, at, withheld)?,
                "decode.json" => folder.decode = published(&file, at, withheld)?,
                "products.json" => folder.products = published(&file, at, withheld)?,
                "checked.json" => folder.checked = parse(&file)?,
                _ => {
                    return Err(format!(
                        "{}: no kind of result; names begin with layers, models or pytorch, or are int8.json, block.json, ablation.json, \
                         comparison.json, language.json, compression.json, generation.json, encoder.json, fine-tuning.json, \
                         clicks.json, diffusion.json, decode.json, products.json or checked.json",
                        file.display()
                    ));
                }
            }
        }
    }
    // Whole models measure generation beside other programs.
    if folder.models.iter().flat_map(|file| &file.results.rows).any(|row| row.pass == "decode")
        && let Some(Recorded { path, .. }) = folder.generation.take()
    {
        folder.withheld.push(format!("{path} (measured with the whole models since)"));
    }
    folder.layers.sort_by(|a, b| a.results.measured.cmp(&b.results.measured));
    folder.external.sort_by(|a, b| a.results.measured.cmp(&b.results.measured));
    for files in [&mut folder.models, &mut folder.external_models] {
        files.sort_by(|a, b| a.results.measured.cmp(&b.results.measured));
    }
    Ok(folder)
}

/// What a file holds, unless it is not to be published.
fn published<T: DeserializeOwned + Measured>(
    file: &Path,
    path: String,
    withheld: &mut Vec<String>,
) -> Result<Option<Recorded<T>>, String> {
    Ok(checked(parse(file)?, path, withheld))
}

fn checked<T: Measured>(results: T, path: String, withheld: &mut Vec<String>) -> Option<Recorded<T>> {
    match unpublished(results.program()) {
        None => Some(Recorded { path, results }),
        Some(why) => {
            withheld.push(format!("{path} ({why})"));
            None
        }
    }
}

/// Figures that name the program that measured them.
trait Measured {
    fn program(&self) -> &str;
}

macro_rules! measured {
    ($($Figures:ty => $($field:ident).+),+ $(,)?) => {
        $(impl Measured for $Figures {
            fn program(&self) -> &str {
                &self.$($field).+
            }
        })+
    };
}

measured! {
    Results => program,
    models::Results => program,
    int8::Results => program,
    block::Results => program,
    Ablation => program,
    language::Comparison => origin.program,
    language::Compression => origin.program,
    language::Generation => origin.program,
    encoder::Compressed => origin.program,
    FineTuning => origin.program,
    clicks::Comparison => origin.program,
    diffusion::Compression => origin.program,
    decode::Decoding => origin.program,
    products::Products => origin.program,
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>().map_err(failed)?;
    paths.sort();
    Ok(paths)
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}
