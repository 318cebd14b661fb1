//! Several structures side by side: a table, JSON and a plot against relative FLOPs or parameters.
//!
//! | report | of | quality |
//! |---|---|---|
//! | [`ImageReport`] | image classifiers | test accuracy |
//! | [`LanguageReport`] | language models, each trained with one or several seeds | perplexity |
//! | [`DiffusionReport`] | a dense diffusion transformer, compressed and retrained | noise error |
//! | [`ClickReport`] | click models | area under the ROC curve |
//! | [`RetrainingReport`] | a dense language model, compressed and retrained | perplexity before, between and after |
//! | [`FineTuningReport`] | a pretrained sentence encoder, compressed and fine-tuned | Spearman's correlation before and after, times |

mod chart;
mod clicks;
mod cost;
mod curves;
mod diffusion;
mod fine_tuning;
mod images;
mod language;
mod retraining;
mod save;
mod structures;
mod table;

pub use chart::{Better, Chart, FLOPS, Point, short};
pub use clicks::{ClickReport, ClickRow};
pub use cost::ModelCost;
pub use diffusion::{DiffusionQuality, DiffusionReport, DiffusionRow};
pub use fine_tuning::{FineTuningReport, FineTuningRow, FineTuningRun, Latency};
pub use images::{ImageReport, ImageRow};
pub use language::{LanguageReport, LanguageRow, SeedRun, Spread};
pub use retraining::{RetrainingReport, RetrainingRow};
pub use save::ReportError;
pub use structures::split_structures;
