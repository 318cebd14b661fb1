//! The methods that a configuration chooses from.

use super::{Gd, LevenbergMarquardt, PrecGd, Relaxed, Schedule, Start, Stepper};
use serde::{Deserialize, Serialize};

/// A stepper and its default start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Method {
    /// The default, and the most accurate: over-relaxed alternating least squares from the best low-rank matrix.
    #[default]
    Auto,
    /// Alternating gradient descent from small random factors, as in the BLAST paper.
    Gd {
        /// The rate over the steps.
        schedule: Schedule,
    },
    /// Preconditioned gradient descent from small random factors, as in the BLAST paper.
    PrecGd {
        /// 1 for the paper's loss, 2 for that of its code.
        step_scale: f64,
        /// Damping, relative to the norm of the residual.
        damping: f64,
        /// The rate over the steps.
        schedule: Schedule,
    },
    /// Alternating least squares from the best low-rank matrix.
    Als,
    /// Levenberg-Marquardt from the best low-rank matrix.
    LevenbergMarquardt,
}

impl Method {
    /// Gradient descent as in the BLAST paper.
    pub const GD: Self = Self::Gd { schedule: Schedule::Linear };

    /// Preconditioned gradient descent as in the code of the BLAST paper.
    pub const PREC_GD: Self = Self::PrecGd { step_scale: 2.0, damping: 0.1, schedule: Schedule::Linear };

    /// The stepper.
    pub fn stepper(self) -> Box<dyn Stepper> {
        match self {
            Self::Auto => Box::new(Relaxed::adaptive()),
            Self::Gd { schedule } => Box::new(Gd { schedule }),
            Self::PrecGd { step_scale, damping, schedule } => Box::new(PrecGd { step_scale, damping, schedule }),
            Self::Als => Box::new(Relaxed::fixed(1.0)),
            Self::LevenbergMarquardt => Box::new(LevenbergMarquardt::default()),
        }
    }

    /// The start, unless another is given.
    pub fn start(self) -> Start {
        match self {
            Self::Gd { .. } | Self::PrecGd { .. } => Start::Random { scale: 1e-3 },
            Self::Auto | Self::Als | Self::LevenbergMarquardt => Start::Spectral { noise: 0.1 },
        }
    }
}
