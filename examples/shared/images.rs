//! Images from the command line.

use burn_structured::train::data::{CifarKind, DataError, ImageSet, cifar, download, folder, synthetic};
use clap::{Args, ValueEnum};
use std::error::Error;
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dataset {
    /// CIFAR-10, in its official binary files
    Cifar10,
    /// CIFAR-100, in its official binary files
    Cifar100,
    /// Images in folders: <DATA_DIR>/train/<class>/ and <DATA_DIR>/test/<class>/
    Folder,
    /// The built-in procedurally generated set
    Synthetic,
}

#[derive(Args, Debug)]
pub struct ImageArgs {
    /// What to train on
    #[arg(long, value_enum, default_value = "cifar10")]
    pub dataset: Dataset,
    /// Folder with the images [default: the cache folder, else a download]
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// Never use the network
    #[arg(long)]
    pub offline: bool,
}

impl ImageArgs {
    /// All images, of the built-in set where CIFAR is not to be had.
    pub fn read(&self, seed: u64) -> Result<ImageSet, Box<dyn Error>> {
        let kind = match self.dataset {
            Dataset::Cifar10 => CifarKind::Cifar10,
            Dataset::Cifar100 => CifarKind::Cifar100,
            Dataset::Folder => {
                let root = self.data_dir.as_deref().ok_or("--dataset folder needs --data-dir")?;
                return Ok(folder::load(root, 32)?);
            }
            Dataset::Synthetic => return Ok(synthetic::generate(1000, 200, seed)),
        };
        match download::locate(kind, self.data_dir.as_deref(), !self.offline) {
            Ok(folder) => Ok(cifar::load(&folder, kind)?),
            Err(error) if error.is_unavailable() && self.data_dir.is_none() => Ok(fallback_set(kind, &error, seed)),
            Err(error) => Err(error.into()),
        }
    }
}

/// The synthetic set, with a warning that it is not CIFAR.
fn fallback_set(kind: CifarKind, reason: &DataError, seed: u64) -> ImageSet {
    eprintln!("{} is not available: {reason}", kind.name());
    eprintln!("Running on the built-in SYNTHETIC set instead. Its results say nothing about {}.", kind.name());
    eprintln!("For real images, give the folder with the official binary files: --data-dir <folder>\n");
    synthetic::generate(1000, 200, seed)
}
