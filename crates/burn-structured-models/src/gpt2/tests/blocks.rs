//! The model block by block.

use super::{Gpt2, random_model, tiny};
use crate::decoder::testing::random_tokens;
use crate::testing::inputs_of;
use burn::tensor::Device;
use burn_structured_nn::BlockModel;

#[test]
fn blocks_one_after_another_give_the_features() {
    let device = Device::flex();
    let model = random_model(&tiny(), &device);
    let tokens = random_tokens(3, 12, 17, &device);
    let embedded = BlockModel::embed(&model, &tokens);
    let features = model.blocks().iter().fold(embedded, |x, block| Gpt2::forward_block(block, x, &tokens));
    let expected = model.features(tokens.clone()).reshape([36, 16]);
    assert_eq!(model.output(features, &tokens).into_data(), expected.into_data());
}

#[test]
fn stages_hold_every_layer_of_a_block_once() {
    let mut model = random_model(&tiny(), &Device::flex());
    let linears = BlockModel::linears(&model, 1);
    assert_eq!(Gpt2::STAGES.concat(), [0, 1, 2, 3]);
    assert_eq!((linears.len(), linears[2].0.as_str()), (4, "h.1.mlp.c_fc"));
    let shapes: Vec<_> = linears.into_iter().map(|(_, layer)| [layer.d_input(), layer.d_output()]).collect();
    let replaced = <Gpt2 as BlockModel>::linears_mut(&mut model.blocks_mut()[1]).into_iter();
    assert_eq!(replaced.map(|layer| [layer.d_input(), layer.d_output()]).collect::<Vec<_>>(), shapes);
}

#[test]
fn residual_is_what_outputs_are_added_to() {
    let device = Device::flex();
    let model = random_model(&tiny(), &device);
    let tokens = random_tokens(1, 5, 17, &device);
    let (block, x) = (&model.blocks[0], BlockModel::embed(&model, &tokens));
    let (inputs, output) = inputs_of(|| Gpt2::forward_block(block, x.clone(), &tokens));
    let residual = |stage: usize| Gpt2::residual(block, stage, &x, &inputs[..=stage]);
    assert!(residual(0).is_none() && residual(2).is_none());
    let attended = block.attention.proj.forward(inputs[1].clone()) + residual(1).unwrap();
    assert_eq!(block.norm2.forward(attended).into_data(), inputs[2].to_data());
    let sum = block.fc2.forward(inputs[3].clone()) + residual(3).unwrap();
    assert_eq!(sum.into_data(), output.flatten::<2>(0, 1).into_data());
}
