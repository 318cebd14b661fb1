//! The model block by block.

use super::{Gpt2, random_model, tiny};
use crate::decoder::testing::random_tokens;
use crate::testing::inputs_of;
use burn::tensor::Device;
use burn_structured_nn::BlockModel;

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
