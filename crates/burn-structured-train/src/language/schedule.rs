//! Learning rates: linear warm-up, then a cosine down to the minimum, for one rate or a rate of each group of parameters.

use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use burn::module::ParamGroup;

/// The rate of step `s`, counted from 0, of a run of `n` steps with `w` steps of warm-up:
///
/// ```text
/// peak · (s + 1) / (w + 1)                              for s < w
/// min + (peak - min) · (1 + cos(π (s - w) / (n - w))) / 2   from then on, and `min` from step n
/// ```
///
/// as in nanoGPT. The steps may be fractions, as those of a schedule by time are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct WarmupCosine {
    pub peak: f64,
    pub min: f64,
    pub warmup: f64,
    pub total: f64,
}

impl WarmupCosine {
    pub fn rate(&self, step: f64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1.0) / (self.warmup + 1.0);
        }
        let progress = (step - self.warmup) / (self.total - self.warmup).max(f64::MIN_POSITIVE);
        let weight = 0.5 * (1.0 + (std::f64::consts::PI * progress.clamp(0.0, 1.0)).cos());
        self.min + (self.peak - self.min) * weight
    }

    pub fn scaled(self, scale: f64) -> Self {
        Self { peak: self.peak * scale, min: self.min * scale, ..self }
    }

    /// One scheduler for all parameters, with rates scaled by the factor of each group for the parameters in it.
    pub fn scheduler(self, groups: impl IntoIterator<Item = (f64, ParamGroup)>) -> ModuleLrScheduler {
        let schedule = |schedule| Schedule { schedule, step: 0 };
        groups.into_iter().fold(ModuleLrScheduler::new(schedule(self)), |scheduler, (scale, group)| {
            scheduler.with_group(group, schedule(self.scaled(scale)))
        })
    }
}

/// A [`WarmupCosine`] that counts its steps. The rate depends on the count alone, so that a resumed run has the very rates of
/// an undisturbed one.
#[derive(Clone)]
struct Schedule {
    schedule: WarmupCosine,
    step: usize,
}

impl LrScheduler for Schedule {
    fn step(&mut self) -> f64 {
        self.step += 1;
        self.schedule.rate((self.step - 1) as f64)
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new().with_scalar("step", self.step)
    }

    fn load_record(&mut self, record: LrSchedulerRecord) {
        if let Some(step) = record.scalar("step") {
            self.step = step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::ParamId;

    const SCHEDULE: WarmupCosine = WarmupCosine { peak: 1e-3, min: 1e-4, warmup: 4.0, total: 10.0 };

    #[test]
    fn rates_are_those_of_nano_gpt() {
        // `get_lr` of nanoGPT's train.py with these settings.
        let expected =
            [2e-4, 4e-4, 6e-4, 8e-4, 1e-3, 9.397114317029974e-4, 7.75e-4, 5.5e-4, 3.25e-4, 1.602885682970026e-4];
        for (step, expected) in expected.into_iter().enumerate() {
            assert!(
                (SCHEDULE.rate(step as f64) - expected).abs() < 1e-12,
                "step {step}: {}",
                SCHEDULE.rate(step as f64)
            );
        }
        assert_eq!(SCHEDULE.rate(10.0), 1e-4);
        assert_eq!(SCHEDULE.rate(50.0), 1e-4);
    }

    #[test]
    fn schedule_of_warmup_alone_ends_at_the_peak() {
        let schedule = WarmupCosine { warmup: 3.0, total: 3.0, ..SCHEDULE };
        assert!((0..3).all(|step| schedule.rate(step as f64) < 1e-3));
        assert_eq!(schedule.rate(3.0), 1e-3);
    }

    #[test]
    fn resumed_schedule_has_the_same_rates() {
        let groups = || [(4.0, ParamGroup::from_path("factor"))];
        let mut undisturbed = SCHEDULE.scheduler(groups());
        (0..3).for_each(|_| drop(undisturbed.step()));
        let mut resumed = SCHEDULE.scheduler(groups()).load_record(undisturbed.to_record());
        for _ in 3..10 {
            let [a, b] = [undisturbed.step(), resumed.step()];
            for (path, scale) in [("factor", 4.0), ("other", 1.0)] {
                let rates = [&a, &b].map(|rates| rates.lr_from_param(ParamId::from(1), Some(path)));
                assert_eq!(rates[0].to_bits(), rates[1].to_bits());
                assert_eq!(rates[0], scale * a.base());
            }
        }
    }
}
