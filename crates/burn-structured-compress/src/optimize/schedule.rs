//! Learning rates: linear warm-up, then a cosine down to a share of the peak.

/// The rate of step `s`, counted from 0, of `n` steps with `w = warmup · n` steps of warm-up:
///
/// ```text
/// peak · (s + 1) / (w + 1)                                                       for s < w
/// peak · (last + (1 - last) · (1 + cos(π (s - w) / (n - w))) / 2)   from then on
/// ```
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub peak: f64,
    pub warmup: f64,
    pub last: f64,
    pub steps: usize,
}

impl Schedule {
    pub fn rate(&self, step: usize) -> f64 {
        let (step, warmup) = (step as f64, self.warmup * self.steps as f64);
        if step < warmup {
            return self.peak * (step + 1.0) / (warmup + 1.0);
        }
        let progress = (step - warmup) / (self.steps as f64 - warmup).max(1.0);
        self.peak * (self.last + (1.0 - self.last) * 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_rises_to_the_peak_and_falls_to_the_last() {
        let schedule = Schedule { peak: 2.0, warmup: 0.1, last: 0.1, steps: 40 };
        assert_eq!(schedule.rate(0), 2.0 / 5.0);
        assert_eq!(schedule.rate(4), 2.0);
        assert!((schedule.rate(22) - 2.0 * 0.55).abs() < 1e-12);
        assert!((schedule.rate(40) - 0.2).abs() < 1e-12);
        assert!((1..5).all(|step| schedule.rate(step) > schedule.rate(step - 1)));
        assert!((5..40).all(|step| schedule.rate(step) < schedule.rate(step - 1)));
    }
}
