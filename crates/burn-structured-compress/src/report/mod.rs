//! What a run looked like, for people.

mod convergence;

pub use convergence::{Axis, Curve, Panel, plot_convergence};
