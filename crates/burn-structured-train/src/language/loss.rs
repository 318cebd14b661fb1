//! How far a model's distribution of the next token is from the tokens that follow, or from another model's.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{FloatDType, Int, Tensor};

/// Negative log-likelihood of every target, `-log softmax(logits)[target]`, in 32 bits.
///
/// # Shapes
///
/// - `logits`: `[batch, length, vocabulary]`
/// - `targets`: `[batch, length]`
/// - result: `[batch, length]`
pub(super) fn negative_log_likelihood(logits: Tensor<3>, targets: Tensor<2, Int>) -> Tensor<2> {
    let log_probabilities = log_softmax(logits.cast(FloatDType::F32), 2);
    -log_probabilities.gather(2, targets.unsqueeze_dim(2)).squeeze_dim(2)
}

/// `temperature² · KL(softmax(teacher / temperature) ‖ softmax(student / temperature))`, averaged over the tokens.
///
/// The factor keeps the size of the gradients independent of the temperature (Hinton, Vinyals, Dean, *Distilling the
/// Knowledge in a Neural Network*, 2015, §2).
///
/// # Shapes
///
/// - `student` and `teacher`: `[batch, length, vocabulary]`
/// - result: `[1]`
pub(super) fn distillation(student: Tensor<3>, teacher: Tensor<3>, temperature: f64) -> Tensor<1> {
    let [batch, length, _] = student.dims();
    let student = log_softmax(student.cast(FloatDType::F32) / temperature, 2);
    let teacher = teacher.cast(FloatDType::F32) / temperature;
    let divergence = (softmax(teacher.clone(), 2) * (log_softmax(teacher, 2) - student)).sum();
    divergence * (temperature * temperature / (batch * length) as f64)
}

/// `‖student - teacher‖² / ‖teacher‖²`, averaged over the layers: the mean square error relative to what the layer holds, so
/// that every layer counts alike.
///
/// # Shapes
///
/// - each of `student` and `teacher`: `[batch, length, features]`, the same number of them
/// - result: `[1]`
pub(super) fn hidden_state_error(student: Vec<Tensor<3>>, teacher: Vec<Tensor<3>>) -> Tensor<1> {
    let layers = student.len() as f64;
    let error = |(student, teacher): (Tensor<3>, Tensor<3>)| {
        let [student, teacher] = [student, teacher].map(|states| states.cast(FloatDType::F32));
        let size = teacher.clone().square().sum().clamp_min(f64::from(f32::MIN_POSITIVE));
        (student - teacher).square().sum() / size
    };
    let errors = student.into_iter().zip(teacher).map(error);
    errors.reduce(|sum, error| sum + error).expect("a model has hidden states") / layers
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn close(actual: f32, expected: f64) {
        assert!((f64::from(actual) - expected).abs() < 1e-5, "{actual} instead of {expected}");
    }

    #[test]
    fn likelihood_is_that_of_the_target() {
        let device = Device::flex();
        let logits = Tensor::<3>::from_data([[[1.0f32.ln(), 3.0f32.ln()], [2.0f32.ln(), 2.0f32.ln()]]], &device);
        let loss = negative_log_likelihood(logits, Tensor::from_data([[1, 0]], &device));
        let loss: Vec<f32> = loss.into_data().iter().collect();
        close(loss[0], -(0.75f64.ln()));
        close(loss[1], 2.0f64.ln());
    }

    #[test]
    fn distillation_is_the_divergence_from_the_teacher() {
        let device = Device::flex();
        let logits = |odds: [f32; 2]| Tensor::<3>::from_data([[[odds[0].ln(), odds[1].ln()]]], &device);
        let divergence = |temperature: f64| {
            let [teacher, student] = [logits([16.0, 1.0]), logits([1.0, 1.0])];
            distillation(student, teacher, temperature).into_scalar::<f32>()
        };
        let expected = |p: f64| p * (2.0 * p).ln() + (1.0 - p) * (2.0 * (1.0 - p)).ln();
        close(divergence(1.0), expected(16.0 / 17.0));
        // The teacher's odds are √16 at temperature 2.
        close(divergence(2.0), 4.0 * expected(4.0 / 5.0));
        close(distillation(logits([3.0, 5.0]), logits([3.0, 5.0]), 2.0).into_scalar::<f32>(), 0.0);
    }

    #[test]
    fn hidden_state_error_is_relative_to_the_teacher() {
        let device = Device::flex();
        let states = |values: [[f32; 2]; 2]| values.map(|values| Tensor::<3>::from_data([[values]], &device)).to_vec();
        let teacher = [[3.0, 4.0], [0.6, 0.8]];
        let error = hidden_state_error(states([[3.0, 5.0], [0.6, 1.8]]), states(teacher));
        close(error.into_scalar::<f32>(), (1.0 / 25.0 + 1.0) / 2.0);
        let zero = states([[0.0, 0.0], [0.0, 0.0]]);
        close(hidden_state_error(zero.clone(), zero).into_scalar::<f32>(), 0.0);
    }
}
