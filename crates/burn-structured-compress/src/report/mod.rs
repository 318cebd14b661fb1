//! What became of a model: the files that a run writes beside the checkpoint, pages made from them, and plots of convergence.

mod card;
mod chart;
mod convergence;
mod html;
mod result;
mod run;
mod spectra;

pub use card::model_card;
pub use convergence::{Axis, Curve, Panel, plot_convergence};
pub use html::{Page, html};
pub use result::{BlockResult, DistillResult, FORMAT, FileEntry, LayerResult, RefineResult, Report};
pub use run::{Environment, RunInfo, Score};
pub use spectra::{LayerSpectrum, spectra};

#[cfg(test)]
mod tests;
