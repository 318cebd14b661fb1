//! Several structures side by side: a table, JSON and a plot against relative FLOPs.
//!
//! | report | of | quality |
//! |---|---|---|
//! | [`ImageReport`] | image classifiers | test accuracy |
//! | [`LanguageReport`] | language models, each trained with one or several seeds | perplexity |
//! | [`DiffusionReport`] | a dense diffusion transformer, compressed and retrained | noise error |
//! | [`ClickReport`] | click models | area under the ROC curve |
//! | [`RetrainingReport`] | a dense language model, compressed and retrained | perplexity before, between and after |

mod chart;
mod clicks;
mod cost;
mod diffusion;
mod images;
mod language;
mod retraining;
mod save;
mod structures;
mod table;

pub use chart::{Better, Chart, FLOPS, Point};
pub use clicks::{ClickReport, ClickRow};
pub use cost::ModelCost;
pub use diffusion::{DiffusionQuality, DiffusionReport, DiffusionRow};
pub use images::{ImageReport, ImageRow};
pub use language::{LanguageReport, LanguageRow, SeedRun, Spread};
pub use retraining::{RetrainingReport, RetrainingRow};
pub use save::ReportError;
pub use structures::split_structures;
