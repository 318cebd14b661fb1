//! How long a compressed model is retrained.

use burn_structured::train::language::{LanguageSettings, RetrainConfig};
use burn_structured::train::training::RunFolder;
use std::error::Error;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A time, a number of steps, or a share of the time that the dense model was trained for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    Seconds(f64),
    Steps(usize),
    Share(f64),
}

impl FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |unit: &str| {
            let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
            Some(number).filter(|number| *number > 0.0 && number.is_finite())
        };
        let steps = || text.strip_suffix("steps")?.trim().parse().ok().filter(|steps| *steps > 0).map(Self::Steps);
        number("min")
            .map(|minutes| Self::Seconds(60.0 * minutes))
            .or_else(steps)
            .or_else(|| number("%").map(|percent| Self::Share(percent / 100.0)))
            .or_else(|| number("s").map(Self::Seconds))
            .ok_or_else(|| format!("`{text}` is no budget; write 10min, 90s, 200steps or 10%"))
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => write!(f, "{seconds:.0} s"),
            Self::Steps(steps) => write!(f, "{steps} steps"),
            Self::Share(share) => write!(f, "{:.0} % of the dense model's training time", 100.0 * share),
        }
    }
}

impl Budget {
    /// Sets the end of a retraining; `dense` is the folder of the dense model.
    pub fn apply(self, config: &mut RetrainConfig, dense: &Path) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Seconds(seconds) => config.seconds = Some(seconds),
            Self::Steps(steps) => {
                config.recipe.steps = steps;
                config.recipe.warmup_steps = config.recipe.warmup_steps.min(steps / 10);
            }
            Self::Share(share) => config.seconds = Some(share * training_seconds(dense)?),
        }
        Ok(())
    }
}

/// The time that the model in `folder` was trained for, from the files of its run.
fn training_seconds(folder: &Path) -> Result<f64, Box<dyn Error>> {
    let unknown = || {
        format!(
            "{} does not tell how long the model was trained, without interruption; give --retrain a time or steps",
            folder.display()
        )
    };
    let result = RunFolder::new(folder).result::<LanguageSettings>().ok_or_else(unknown)?;
    let rate = result.training_tokens_per_second.ok_or_else(unknown)?;
    let settings = std::fs::read_to_string(folder.join("settings.json")).map_err(|_| unknown())?;
    let settings: LanguageSettings = serde_json::from_str(&settings).map_err(|_| unknown())?;
    Ok((result.steps * settings.recipe.batch_size * settings.model.context) as f64 / rate)
}
