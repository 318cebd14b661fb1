use crate::gpt2::{Gpt2, Gpt2Config};
use burn::tensor::{Device, Tensor};
use burn_structured_nn::Structure;

fn model(structure: Structure) -> Gpt2 {
    let device = Device::flex();
    device.seed(2);
    let config = Gpt2Config::new(300).with_context(200).with_d_model(64).with_depth(2).with_heads(4);
    config.with_structure(structure).init(&device)
}

fn std<const D: usize>(tensor: Tensor<D>) -> f64 {
    tensor.square().mean().sqrt().into_scalar::<f64>()
}

#[test]
fn structured_weights_have_the_dense_variance() {
    for name in Structure::NAMES {
        let model = model(name.parse().unwrap());
        for (layer, linear) in model.linears() {
            // Two blocks of two residual branches.
            let expected = if layer.ends_with("c_proj") { 0.02 / 4f64.sqrt() } else { 0.02 };
            let ratio = std(linear.to_dense()) / expected;
            assert!((0.85..1.15).contains(&ratio), "{layer}, {name}: {ratio}");
        }
    }
}

#[test]
fn dense_weights_have_the_variance_of_gpt2() {
    let model = model(Structure::Dense);
    for (layer, linear) in model.linears() {
        let expected = if layer.ends_with("c_proj") { 0.02 / 4f64.sqrt() } else { 0.02 };
        let ratio = std(linear.to_dense()) / expected;
        assert!((0.96..1.04).contains(&ratio), "{layer}: {ratio}");
    }
    for (name, embedding) in [("tokens", &model.tokens), ("positions", &model.positions)] {
        let ratio = std(embedding.weight.val()) / 0.02;
        assert!((0.96..1.04).contains(&ratio), "{name}: {ratio}");
    }
}

#[test]
fn biases_are_zero() {
    for name in Structure::NAMES {
        for (layer, linear) in model(name.parse().unwrap()).linears() {
            let bias = linear.bias().expect("GPT-2's layers have biases").val();
            assert_eq!(bias.abs().max().into_scalar::<f32>(), 0.0, "{layer}, {name}");
        }
    }
}
