//! Progress bars.

use indicatif::{ProgressBar, ProgressStyle};
use std::error::Error;

/// A bar for so many units, with a message before it and the time left after it.
pub fn progress(count: usize, unit: &str) -> Result<ProgressBar, Box<dyn Error>> {
    let style = ProgressStyle::with_template(&format!("{{msg}} {{wide_bar}} {{pos}}/{{len}} {unit}, {{eta}} left"))?;
    Ok(ProgressBar::new(count as u64).with_style(style))
}
