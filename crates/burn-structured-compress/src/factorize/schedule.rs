//! Schedules of the step size.

use super::stepper::Clock;
use serde::{Deserialize, Serialize};

/// The rate of a step, relative to the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Schedule {
    /// Always 1.
    Constant,
    /// From 1 linearly to 0, as in the BLAST paper.
    #[default]
    Linear,
    /// From 1 to 0 along half a cosine.
    Cosine,
}

impl Schedule {
    /// The rate of the next step.
    pub fn rate(self, clock: Clock<'_>) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Linear => clock.remaining(),
            Self::Cosine => 0.5 - 0.5 * (std::f64::consts::PI * clock.remaining()).cos(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_falls_from_one_to_zero() {
        let clock = |step| Clock { step, steps: 10, errors: &[1.0] };
        for schedule in [Schedule::Linear, Schedule::Cosine] {
            assert_eq!(schedule.rate(clock(0)), 1.0);
            assert!((schedule.rate(clock(5)) - 0.5).abs() < 1e-12);
            assert!(schedule.rate(clock(9)) < 0.11);
        }
        assert_eq!(Schedule::Constant.rate(clock(9)), 1.0);
    }
}
