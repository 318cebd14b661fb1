//! The command line of the layer benchmark.

use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Times structured layers beside the dense layers they replace, in one process, as ratios.
///
/// The dense baseline is the fastest of Burn's `Linear` and this crate's dense kernels in both layouts and, on the processor, the gemm
/// and faer crates called directly; small products on one thread as well. Candidates of a row take turns; the figure is the median round. Without flags, the catalogue's selection is
/// measured on Flex in f32.
#[derive(Parser, Debug)]
#[command(name = "cargo bench --features baselines --bench layers --", version, max_term_width = 120)]
pub struct Arguments {
    /// Devices, one table for all: flex, ndarray, cuda:0, … as compiled in by --features
    #[arg(long, value_delimiter = ',', default_value = "flex")]
    pub device: Vec<String>,
    /// Types of the numbers [default: f32, with --all the catalogue's]
    #[arg(long, value_enum, value_delimiter = ',')]
    pub dtype: Vec<Precision>,
    /// What is measured.
    #[command(flatten)]
    pub selection: Selection,
    /// Also time every strategy of BLAST and SS1 by itself, where the device has a path of its own for it
    #[arg(long)]
    pub strategies: bool,

    /// Leave out the reference bodies: where every product is tuned first, they take most of the time
    #[arg(long)]
    pub no_reference: bool,

    /// Seconds to spend on each figure
    #[arg(long, default_value_t = 0.4, value_parser = seconds)]
    pub seconds: f64,
    /// MiB of weights and inputs to rotate through, so that no cache is measured; 0 reuses the same
    #[arg(long, default_value_t = 64, value_name = "MIB")]
    pub rotation: usize,
    /// Calls in a row before waiting for the device, times being of one: as in a network, where nobody waits after every
    /// layer [default: 1 on processors, 20 on GPUs]
    #[arg(long, value_parser = count)]
    pub calls: Option<usize>,
    /// A tenth of the time and fewer rounds, to see that all is well
    #[arg(long)]
    pub quick: bool,

    /// Print what would be measured and stop; --json writes it as well
    #[arg(long)]
    pub list: bool,
    /// Write the figures to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write layers.json and both plots to this folder, anew after every layer; benches/results takes figures of a clean commit only
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Measure nothing: print the table of these files, and draw their plots with --out
    #[arg(long, num_args = 1.., value_name = "FILE", conflicts_with_all = ["json", "list"])]
    pub plot: Vec<PathBuf>,

    /// Measure nothing: compare recorded files, before and after, each one or several with commas in between, whose medians count;
    /// --json writes the ratios as a variant of an ablation
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], conflicts_with_all = ["plot", "list", "out"])]
    pub against: Vec<String>,
    /// Measure nothing: write README.md and the plots of the results recorded in this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["plot", "list", "out", "json", "against"])]
    pub summary: Option<PathBuf>,

    /// What `cargo bench` passes.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Which part of the catalogue.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Selection {
    /// The whole catalogue: every layer, structure, number of tokens and pass, in every dtype; takes long
    #[arg(long)]
    pub all: bool,
    /// Only structures whose text contains this, such as ss1 or ratio=0.5
    #[arg(long, value_name = "PATTERN")]
    pub only: Option<String>,
    /// Layers, inputs before outputs, such as 768x3072,4096x4096, instead of the catalogue's
    #[arg(long, value_delimiter = ',')]
    pub layers: Vec<Layer>,
    /// A structure, such as blast:b=4,ratio=0.5, instead of the catalogue's; may be given repeatedly
    #[arg(long = "structure", value_name = "STRUCTURE")]
    pub structures: Vec<String>,
    /// Rows of the input, instead of the catalogue's
    #[arg(long, value_delimiter = ',', value_parser = count)]
    pub tokens: Vec<usize>,
    /// Only this pass
    #[arg(long, value_enum)]
    pub pass: Option<Pass>,
}

/// What is timed of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pass {
    /// The output
    Forward,
    /// The output, then the gradients of the input and of every parameter
    ForwardBackward,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::ForwardBackward => "forward + backward",
        })
    }
}

/// Types of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32 bits
    F32,
    /// 64 bits
    F64,
    /// 16 bits, IEEE
    F16,
    /// 16 bits, the range of f32
    Bf16,
}

/// The shape of a layer, written `768x3072`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Input features.
    pub d_input: usize,
    /// Output features.
    pub d_output: usize,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.d_input, self.d_output)
    }
}

impl FromStr for Layer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sizes = text.split_once('x').and_then(|(d_input, d_output)| {
            Some(Self { d_input: count(d_input).ok()?, d_output: count(d_output).ok()? })
        });
        sizes.ok_or_else(|| format!("`{text}` is no layer; write inputs and outputs, such as 768x3072"))
    }
}

fn count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("`{text}` is no whole number above 0"))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| *seconds > 0.0 && seconds.is_finite());
    seconds.ok_or_else(|| format!("`{text}` is no time above 0"))
}
