//! The last layer of a residual branch.

use burn::nn::Dropout;
use burn::tensor::Tensor;
use burn_structured_nn::{Activation, Epilogue, StructuredLinear, feed_forward};

/// `residual + dropout(layer(input))`; the sum is an epilogue of the product unless elements are dropped in between.
pub(crate) fn forward_added(
    layer: &StructuredLinear,
    input: Tensor<3>,
    dropout: &Dropout,
    residual: Option<Tensor<3>>,
) -> Tensor<3> {
    match residual {
        None => dropout.forward(layer.forward(input)),
        Some(residual) if drops(dropout, &input) => residual + dropout.forward(layer.forward(input)),
        Some(residual) => layer.forward_then(input, Epilogue::new().with_residual(residual)),
    }
}

/// `residual + dropout(down(hidden_dropout(f(up(input)))))`.
pub(crate) fn mlp_added(
    [up, down]: [&StructuredLinear; 2],
    activation: Activation,
    input: Tensor<3>,
    hidden_dropout: Option<&Dropout>,
    dropout: &Dropout,
    residual: Option<Tensor<3>>,
) -> Tensor<3> {
    if !drops(dropout, &input) && hidden_dropout.is_none_or(|dropout| !drops(dropout, &input)) {
        return feed_forward(up, None, activation, down, input, residual);
    }
    let hidden = up.forward_then(input, Epilogue::new().with_activation(activation));
    let hidden = match hidden_dropout {
        Some(dropout) => dropout.forward(hidden),
        None => hidden,
    };
    forward_added(down, hidden, dropout, residual)
}

/// Whether elements of a tensor like this one are dropped.
fn drops(dropout: &Dropout, like: &Tensor<3>) -> bool {
    dropout.prob > 0.0 && dropout.training.is_enabled() && like.device().is_autodiff()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::DropoutConfig;
    use burn::tensor::{Device, Distribution, Tolerance};
    use burn_structured_nn::StructuredLinearConfig;

    #[test]
    fn forward_added_drops_elements_of_the_branch_alone() {
        let device = Device::flex().autodiff();
        device.seed(3);
        let layer = StructuredLinearConfig::new(8, 16, "low-rank:r=2".parse().unwrap()).init(&device);
        let x = Tensor::<3>::random([4, 5, 8], Distribution::Normal(0.0, 1.0), &device);
        let residual = Tensor::<3>::random([4, 5, 16], Distribution::Normal(0.0, 1.0), &device);
        let expected = (layer.forward(x.clone()) + residual.clone()).into_data();
        let none = forward_added(&layer, x.clone(), &DropoutConfig::new(0.0).init(), Some(residual.clone()));
        none.into_data().assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
        let dropped = forward_added(&layer, x, &DropoutConfig::new(0.5).init(), Some(residual.clone())) - residual;
        let zeros = dropped.abs().lower_elem(1e-6).float().mean().into_scalar::<f64>();
        assert!((0.3..0.7).contains(&zeros), "{zeros}");
    }
}
