//! What recipes of all models check alike.

use super::TrainingError;
use burn_structured_nn::Factor;

/// Whether the learning rate of every factor, `lr · lr_scale ^ factor_rates`, is at most 1.
///
/// # Errors
///
/// If one is above.
pub(crate) fn check_factor_rates(lr: f64, factor_rates: f64, factors: &[Factor]) -> Result<(), TrainingError> {
    if factors.iter().any(|factor| lr * factor.lr_scale.powf(factor_rates) > 1.0) {
        let expected = "with this lr the rate of a factor is above 1; lower either";
        return Err(TrainingError::Recipe { name: "factor rates", value: factor_rates.to_string(), expected });
    }
    Ok(())
}
