//! The model block by block.

use super::{Llama, random_model, tiny};
use crate::decoder::testing::random_tokens;
use crate::testing::inputs_of;
use burn::tensor::{Device, Tolerance};
use burn_structured_nn::BlockModel;

#[test]
fn layers_of_a_stage_have_one_input() {
    let device = Device::flex();
    let model = random_model(&tiny(), &device);
    let tokens = random_tokens(1, 5, 17, &device);
    let (block, x) = (&model.blocks[0], BlockModel::embed(&model, &tokens));
    let (inputs, output) = inputs_of(|| Llama::forward_block(block, x.clone(), &tokens));
    assert_eq!(inputs.len(), 7);
    let data = |index: usize| inputs[index].to_data();
    assert!(data(0) == data(1) && data(1) == data(2) && data(4) == data(5));

    let of_stages = [0, 3, 4, 6].map(|layer| inputs[layer].clone());
    let residual = |stage: usize| Llama::residual(block, stage, &x, &of_stages[..=stage]);
    assert!(residual(0).is_none() && residual(2).is_none());
    let attended = block.attention.proj.forward(of_stages[1].clone()) + residual(1).unwrap();
    let tolerance = Tolerance::absolute(1e-5);
    block.norm2.forward(attended).into_data().assert_approx_eq::<f32>(&data(4), tolerance);
    let sum = block.down.forward(of_stages[3].clone()) + residual(3).unwrap();
    sum.into_data().assert_approx_eq::<f32>(&output.flatten::<2>(0, 1).into_data(), tolerance);
}
