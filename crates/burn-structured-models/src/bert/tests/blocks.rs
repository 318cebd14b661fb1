//! The model block by block.

use super::{Bert, Checkpoint};
use crate::bert::batches_of_one_length;
use crate::testing::inputs_of;
use burn::tensor::Device;
use burn_structured_nn::BlockModel;

#[test]
fn blocks_one_after_another_give_the_embedding() {
    let model = Checkpoint::random(9).load("").unwrap();
    let sentences = vec![vec![2, 7, 3], vec![2, 4, 5, 6, 3], vec![2, 8, 3]];
    for batch in batches_of_one_length(sentences, 4, &Device::flex()) {
        let embedded = BlockModel::embed(&model, &batch);
        let features = model.blocks().iter().fold(embedded, |x, block| Bert::forward_block(block, x, &batch));
        let expected = model.embed(batch.tokens.clone(), batch.mask.clone());
        assert_eq!(model.output(features, &batch).into_data(), expected.into_data());
    }
}

#[test]
fn stages_hold_every_layer_of_a_block_once() {
    let mut model = Checkpoint::random(9).load("").unwrap();
    let names: Vec<String> = BlockModel::linears(&model, 1).into_iter().map(|(name, _)| name).collect();
    let mut stages: Vec<usize> = Bert::STAGES.concat();
    stages.sort();
    assert_eq!(stages, (0..names.len()).collect::<Vec<_>>());
    assert_eq!((names.len(), names[4].as_str()), (6, "encoder.layer.1.intermediate.dense"));
    let shapes = BlockModel::linears(&model, 1).into_iter().map(|(_, layer)| [layer.d_input(), layer.d_output()]);
    let shapes: Vec<_> = shapes.collect();
    let replaced = <Bert as BlockModel>::linears_mut(&mut model.blocks_mut()[1]).into_iter();
    assert_eq!(replaced.map(|layer| [layer.d_input(), layer.d_output()]).collect::<Vec<_>>(), shapes);
}

#[test]
fn residual_is_what_outputs_are_added_to() {
    let model = Checkpoint::random(9).load("").unwrap();
    let batch = batches_of_one_length(vec![vec![2, 7, 3]], 1, &Device::flex()).remove(0);
    let (block, x) = (&model.layers[0], BlockModel::embed(&model, &batch));
    let (inputs, output) = inputs_of(|| Bert::forward_block(block, x.clone(), &batch));
    let inputs: Vec<_> = Bert::STAGES.iter().map(|stage| inputs[stage[0]].clone()).collect();
    let residual = |stage: usize| Bert::residual(block, stage, &x, &inputs[..=stage]);
    assert!(residual(0).is_none() && residual(2).is_none());
    let attended = block.attention.output.forward(inputs[1].clone()) + residual(1).unwrap();
    assert_eq!(block.attention_norm.forward(attended).into_data(), inputs[2].to_data());
    let sum = block.output.forward(inputs[3].clone()) + residual(3).unwrap();
    assert_eq!(block.output_norm.forward(sum).into_data(), output.flatten::<2>(0, 1).into_data());
}
