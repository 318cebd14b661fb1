//! How long to train.

use crate::CompressError;
use crate::error::check_positive;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// How long to train.
///
/// Seconds become a number of steps once, from a few timed steps whose result is thrown away. A run that is to be repeated exactly
/// takes the [`Steps`](Self::Steps) that the report of the first one names.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Budget {
    /// So many steps.
    Steps(usize),
    /// So many seconds, the timed steps included.
    Seconds(f64),
}

/// Timed steps, beside one that warms up.
const TIMED: usize = 6;

impl Budget {
    /// The number of steps. `step` runs the step of a number, on a copy of what is trained, and returns its share of the work of
    /// an average step.
    ///
    /// # Errors
    ///
    /// If the seconds are not a finite number above 0, or a step fails.
    pub(crate) fn steps(
        self,
        mut step: impl FnMut(usize) -> Result<f64, CompressError>,
    ) -> Result<usize, CompressError> {
        let seconds = match self {
            Self::Steps(steps) => return Ok(steps),
            Self::Seconds(seconds) => seconds,
        };
        check_positive("seconds", seconds)?;
        let began = Instant::now();
        step(0)?;
        let (mut work, mut spent) = (0.0, Duration::ZERO);
        for number in 1..=TIMED {
            let before = Instant::now();
            work += step(number)?;
            spent += before.elapsed();
        }
        let left = (seconds - began.elapsed().as_secs_f64()).max(0.0);
        let average = spent.as_secs_f64() / work.max(f64::MIN_POSITIVE);
        Ok(((left / average.max(1e-9)) as usize).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_a_time_follow_the_timed_ones() {
        assert_eq!(Budget::Steps(7).steps(|_| unreachable!("nothing is timed")).unwrap(), 7);
        let mut timed = Vec::new();
        // Every timed step is twice an average one.
        let steps = Budget::Seconds(0.5).steps(|number| {
            timed.push(number);
            std::thread::sleep(Duration::from_millis(10));
            Ok(2.0)
        });
        assert_eq!(timed, (0..=TIMED).collect::<Vec<_>>());
        let steps = steps.unwrap();
        assert!((30..=90).contains(&steps), "{steps}");
        assert_eq!(Budget::Seconds(1e-9).steps(|_| Ok(1.0)).unwrap(), 1);
        assert!(Budget::Seconds(f64::NAN).steps(|_| Ok(1.0)).is_err());
    }
}
