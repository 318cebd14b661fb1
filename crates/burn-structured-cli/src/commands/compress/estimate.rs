//! How much longer a run takes.

use burn_structured_compress::Budget;

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A layer or a block is fitted.
    Fit,
    /// A block is trained.
    Refine,
    /// The whole model is trained.
    Distill,
}

/// How long a phase takes.
#[derive(Clone, Copy, Debug)]
pub enum Length {
    /// So many seconds.
    Seconds(f64),
    /// So many steps, whose time is measured. A step of the whole model is one of each of its blocks.
    Steps(usize),
}

impl From<Budget> for Length {
    fn from(budget: Budget) -> Self {
        match budget {
            Budget::Steps(steps) => Self::Steps(steps),
            Budget::Seconds(seconds) => Self::Seconds(seconds),
        }
    }
}

/// The time left, from the means of the phases that are over and how far the current one is.
pub struct Estimate {
    refine: Option<Length>,
    distill: Option<Length>,
    phase: Phase,
    /// When the current phase began, in seconds.
    began: f64,
    /// Seconds and number of the phases that are over: fitting, refining.
    over: [(f64, usize); 2],
}

impl Estimate {
    /// A run that trains so long, if it does.
    pub fn new(refine: Option<Length>, distill: Option<Length>) -> Self {
        Self { refine, distill, phase: Phase::Fit, began: 0.0, over: [(0.0, 0); 2] }
    }

    /// The run is in this phase from now on; to be called with the same one again for the next layer or block.
    pub fn begin(&mut self, phase: Phase, now: f64) {
        (self.phase, self.began) = (phase, now);
    }

    /// The current phase is over.
    pub fn end(&mut self, now: f64) {
        if let Some((seconds, count)) = self.over.get_mut(self.phase as usize) {
            *seconds += now - self.began;
            *count += 1;
        }
    }

    /// The seconds left when `share` of the current phase of layer or block `index` of `depth` is done; `None` as long
    /// as that cannot be known.
    pub fn left(&self, now: f64, share: f64, index: usize, depth: usize) -> Option<f64> {
        let blocks = depth.saturating_sub(index + 1);
        let elapsed = now - self.began;
        // The first steps of a phase are the slowest.
        let whole = (share >= 0.05).then(|| elapsed / share);
        let expected = |phase: Phase| whole.filter(|_| self.phase == phase).or_else(|| self.mean(phase));
        let fit = || expected(Phase::Fit);
        let refine = || match self.refine {
            None => Some(0.0),
            Some(Length::Seconds(seconds)) => Some(expected(Phase::Refine).unwrap_or(seconds)),
            Some(Length::Steps(_)) => expected(Phase::Refine),
        };
        let distill = || match (self.distill, self.refine) {
            (None, _) => Some(0.0),
            (Some(Length::Seconds(seconds)), _) => Some(seconds),
            (Some(Length::Steps(steps)), Some(Length::Steps(of_block))) => {
                Some(refine()? * (steps * depth) as f64 / of_block.max(1) as f64)
            }
            // A guess, which is corrected as soon as it begins.
            (Some(Length::Steps(_)), _) => Some(fit()? * depth as f64),
        };
        let rest = |length: Option<f64>| Some((length? - elapsed).max(0.0));
        match self.phase {
            Phase::Fit => Some(rest(fit())? + refine()? + blocks as f64 * (fit()? + refine()?) + distill()?),
            Phase::Refine => Some(rest(refine())? + blocks as f64 * (fit()? + refine()?) + distill()?),
            Phase::Distill => match (whole, self.distill) {
                (None, Some(Length::Seconds(seconds))) => rest(Some(seconds)),
                _ => rest(whole),
            },
        }
    }

    fn mean(&self, phase: Phase) -> Option<f64> {
        let (seconds, count) = *self.over.get(phase as usize)?;
        (count > 0).then(|| seconds / count as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_is_the_mean_of_layers_without_training() {
        let mut estimate = Estimate::new(None, None);
        estimate.begin(Phase::Fit, 0.0);
        assert_eq!(estimate.left(1.0, 0.0, 0, 4), None);
        estimate.end(2.0);
        estimate.begin(Phase::Fit, 2.0);
        assert_eq!(estimate.left(3.0, 0.0, 1, 4), Some(1.0 + 4.0));
        estimate.end(6.0);
        estimate.begin(Phase::Fit, 6.0);
        assert_eq!(estimate.left(6.0, 0.0, 2, 4), Some(6.0));
    }

    #[test]
    fn left_counts_training_that_is_to_come() {
        let mut estimate = Estimate::new(Some(Length::Seconds(10.0)), Some(Length::Seconds(60.0)));
        estimate.begin(Phase::Fit, 0.0);
        // A block of 4 s, half of it done; 10 s of training; two more blocks; the distillation.
        assert_eq!(estimate.left(2.0, 0.5, 0, 3), Some(2.0 + 10.0 + 28.0 + 60.0));
        estimate.end(4.0);
        estimate.begin(Phase::Refine, 4.0);
        assert_eq!(estimate.left(5.0, 0.0, 0, 3), Some(9.0 + 28.0 + 60.0));
        estimate.begin(Phase::Distill, 42.0);
        assert_eq!(estimate.left(52.0, 0.01, 3, 3), Some(50.0));
        assert_eq!(estimate.left(62.0, 0.25, 3, 3), Some(60.0));
    }

    #[test]
    fn left_scales_steps_of_blocks_to_those_of_the_model() {
        let mut estimate = Estimate::new(Some(Length::Steps(100)), Some(Length::Steps(200)));
        estimate.begin(Phase::Fit, 0.0);
        assert_eq!(estimate.left(1.0, 0.5, 0, 2), None);
        estimate.end(2.0);
        estimate.begin(Phase::Refine, 2.0);
        // 10 s for 100 steps of one of two blocks, 40 s for 200 steps of both.
        assert_eq!(estimate.left(7.0, 0.5, 0, 2), Some(5.0 + 12.0 + 40.0));
        estimate.end(12.0);
        estimate.begin(Phase::Fit, 12.0);
        assert_eq!(estimate.left(13.0, 0.5, 1, 2), Some(1.0 + 10.0 + 40.0));
    }
}
