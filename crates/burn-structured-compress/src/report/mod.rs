//! Plots of factorization runs.

mod convergence;

pub use convergence::{Axis, Curve, Panel, plot_convergence};
