//! How the whole model is trained: the arguments that `compress` and `drop` share.

use crate::stored::Stored;
use crate::text::at_least_one;
use burn_structured_compress::Budget;
use burn_structured_compress::distill::DistillConfig;
use clap::Args;

/// Lines for the distillation of a sentence encoder.
const LINES: usize = 24_000;

/// Windows for the distillation of a language model.
const WINDOWS: usize = 512;

/// Training of the whole model on raw text.
#[derive(Args, Debug)]
pub struct DistillArguments {
    /// Train the whole model at the end for so many minutes
    #[arg(long, value_name = "MINUTES", requires = "text", value_parser = minutes)]
    distill: Option<f64>,
    /// Train the whole model at the end for so many steps
    #[arg(long, value_name = "STEPS", requires = "text", conflicts_with = "distill", value_parser = at_least_one)]
    distill_steps: Option<usize>,
    /// Samples of the text for --distill [default: 24,000 lines, or 512 windows]
    #[arg(long, value_name = "NUMBER", requires = "text", value_parser = at_least_one)]
    distill_samples: Option<usize>,
    /// The highest learning rate of --distill
    #[arg(long, value_name = "RATE", requires = "text", value_parser = rate, default_value_t = DistillConfig::new().learning_rate)]
    distill_rate: f64,
}

impl DistillArguments {
    /// How long the whole model is trained, if it is.
    pub fn budget(&self) -> Option<Budget> {
        self.distill_steps.map(Budget::Steps).or(self.distill.map(|minutes| Budget::Seconds(60.0 * minutes)))
    }

    /// How a model is trained, if it is.
    pub fn config<M: Stored>(&self) -> Option<DistillConfig> {
        self.budget().map(|budget| M::distillation().with_budget(budget).with_learning_rate(self.distill_rate))
    }

    /// Lines of text to train a sentence encoder on.
    pub fn lines(&self) -> usize {
        self.samples(LINES)
    }

    /// Windows of text to train a language model on.
    pub fn windows(&self) -> usize {
        self.samples(WINDOWS)
    }

    fn samples(&self, default: usize) -> usize {
        self.budget().map_or(0, |_| self.distill_samples.unwrap_or(default))
    }
}

/// A time above 0.
pub fn minutes(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(minutes) if minutes > 0.0 && minutes < 1e6 => Ok(minutes),
        _ => Err("give a number of minutes above 0".into()),
    }
}

/// A learning rate.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1.0 => Ok(rate),
        _ => Err("give a number above 0 and up to 1, such as 1e-4".into()),
    }
}
