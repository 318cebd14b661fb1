//! The model block by block.

use super::{Settings, Tested, for_every_decoder, random};
use crate::decoder::testing::random_tokens;
use burn::tensor::Device;
use burn_structured_nn::BlockModel;

for_every_decoder! {
    blocks_one_after_another_give_the_features,
    stages_hold_every_layer_of_a_block_once,
}

fn blocks_one_after_another_give_the_features<M: Tested>() {
    let device = Device::flex();
    let model: M = random(&Settings::default(), &device);
    let tokens = random_tokens(3, 12, 17, &device);
    let embedded = model.embed(&tokens);
    let features = model.blocks().iter().fold(embedded, |x, block| M::forward_block(block, x, &tokens));
    let expected = model.features(tokens.clone()).reshape([36, 16]);
    assert_eq!(model.output(features, &tokens).into_data(), expected.into_data());
}

fn stages_hold_every_layer_of_a_block_once<M: Tested>() {
    let mut model: M = random(&Settings::default(), &Device::flex());
    let linears = BlockModel::linears(&model, 1);
    let mut stages = M::STAGES.concat();
    stages.sort_unstable();
    assert_eq!(stages, (0..linears.len()).collect::<Vec<_>>());
    let (_, first) = M::BLOCKS.split_once('.').unwrap();
    assert!(linears.iter().all(|(name, _)| name.starts_with(&format!("{first}1."))));
    let shapes: Vec<_> = linears.into_iter().map(|(_, layer)| [layer.d_input(), layer.d_output()]).collect();
    let replaced = M::linears_mut(&mut model.blocks_mut()[1]).into_iter();
    assert_eq!(replaced.map(|layer| [layer.d_input(), layer.d_output()]).collect::<Vec<_>>(), shapes);
}
