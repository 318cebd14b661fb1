//! How a run reports its progress in lines.

use super::batches::Steps;
use crate::training::Pass;

/// The line that reports a pass: `step 250/2000  train  loss 2.4691  perplexity 11.81  9482 tokens/s  3 min left`.
pub(super) fn line(steps: Steps, context: usize) -> impl Fn(&Pass) -> String + Send + Sync + 'static {
    move |pass| {
        let before = |epoch: usize| steps.after(epoch.saturating_sub(1));
        let done = if pass.split == "train" {
            // The items of a pass are those of a whole interval, also in a last one that is shorter.
            before(pass.epoch) + pass.processed * steps.interval / pass.items.max(1)
        } else {
            steps.after(pass.epoch)
        };
        let mut line = format!("step {done}/{}  {:5}", steps.total, pass.split);
        if let Some(loss) = pass.metric("loss") {
            line += &format!("  loss {loss:.4}  perplexity {:.2}", loss.exp());
        }
        line += &format!("  {:.0} tokens/s", pass.items_per_second * context as f64);
        let here = done.saturating_sub(before(pass.first_epoch));
        if here > 0 && done < steps.total {
            let seconds_per_step = pass.elapsed.as_secs_f64() / here as f64;
            line += &format!("  {} left", duration(seconds_per_step * (steps.total - done) as f64));
        }
        line
    }
}

/// `45 s`, `12 min`, `3 h 20 min`.
fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        0..=1 => format!("{seconds:.0} s"),
        2..120 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn line_has_the_steps_and_the_time_left() {
        let line = line(Steps { total: 900, interval: 200 }, 64);
        let mut pass = Pass {
            epoch: 3,
            epochs: 5,
            first_epoch: 2,
            split: "train".into(),
            items: 2400,
            processed: 600,
            metrics: vec![("learning rate".into(), 1e-3), ("loss".into(), 2.0)],
            items_per_second: 10.0,
            elapsed: Duration::from_secs(50),
        };
        // 250 steps of this process took 50 s; 450 are left, 90 s.
        assert_eq!(line(&pass), "step 450/900  train  loss 2.0000  perplexity 7.39  640 tokens/s  2 min left");
        (pass.epoch, pass.split, pass.metrics) = (5, "valid".into(), Vec::new());
        assert_eq!(line(&pass), "step 900/900  valid  640 tokens/s");
    }

    #[test]
    fn durations_are_readable() {
        let durations = [0.4, 89.0, 90.0, 3600.0, 12_000.0].map(duration);
        assert_eq!(durations, ["0 s", "89 s", "2 min", "60 min", "3 h 20 min"]);
    }
}
