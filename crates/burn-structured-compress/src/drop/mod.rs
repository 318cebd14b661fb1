//! Leaving whole blocks out: the baseline that structured compression has to beat.

use crate::CompressError;
use burn::tensor::Tensor;
use burn_structured_nn::BlockModel;

/// Which `keep` blocks of a model to keep, ascending: blocks are left out one after another, each time the one whose absence
/// changes the output least on the `held_out` batches.
///
/// # Errors
///
/// If there are no batches, or fewer blocks than `keep`.
pub fn blocks_to_keep<M: BlockModel>(
    model: &M,
    held_out: &[M::Batch],
    keep: usize,
) -> Result<Vec<usize>, CompressError> {
    let depth = model.blocks().len();
    if held_out.is_empty() {
        return Err(CompressError::NoBatches);
    }
    if keep > depth {
        return Err(CompressError::Setting {
            name: "keep",
            value: keep as f64,
            range: "use at most the model's blocks",
        });
    }
    let mut kept: Vec<usize> = (0..depth).collect();
    let expected: Vec<Tensor<2>> = held_out.iter().map(|batch| output(model, &kept, batch)).collect();
    while kept.len() > keep {
        let without = |left_out: usize| kept.iter().copied().filter(|block| *block != left_out).collect::<Vec<_>>();
        let error = |blocks: &[usize]| -> f64 {
            let square = |(batch, expected): (&M::Batch, &Tensor<2>)| {
                (output(model, blocks, batch) - expected.clone()).square().sum().into_scalar::<f64>()
            };
            held_out.iter().zip(&expected).map(square).sum()
        };
        let choices = kept.iter().map(|block| without(*block)).map(|blocks| (error(&blocks), blocks));
        let least = choices.min_by(|a, b| a.0.total_cmp(&b.0));
        let Some((_, blocks)) = least else { break };
        kept = blocks;
    }
    Ok(kept)
}

/// The output of a model with some of its blocks.
fn output<M: BlockModel>(model: &M, blocks: &[usize], batch: &M::Batch) -> Tensor<2> {
    let features = blocks
        .iter()
        .fold(model.embed(batch), |features, block| M::forward_block(&model.blocks()[*block], features, batch));
    model.output(features, batch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Toy, batches};
    use burn_structured_nn::StructuredLinear;

    #[test]
    fn blocks_to_keep_leaves_out_what_does_least() {
        let mut toy = Toy::new(4, 3);
        for (block, size) in [(1, 0.0), (2, 0.01)] {
            let StructuredLinear::Dense(down) = &mut toy.blocks[block].down else { unreachable!("it is dense") };
            down.weight = down.weight.clone().map(|weight| weight * size);
            down.bias = down.bias.clone().map(|bias| bias.map(|bias| bias * size));
        }
        let held_out = batches(3, 11);
        assert_eq!(blocks_to_keep(&toy, &held_out, 4).unwrap(), [0, 1, 2, 3]);
        assert_eq!(blocks_to_keep(&toy, &held_out, 3).unwrap(), [0, 2, 3]);
        assert_eq!(blocks_to_keep(&toy, &held_out, 2).unwrap(), [0, 3]);
        assert_eq!(blocks_to_keep(&toy, &held_out, 0).unwrap(), [0usize; 0]);
        assert!(blocks_to_keep(&toy, &held_out, 5).is_err());
        assert!(blocks_to_keep(&toy, &[], 1).is_err());
    }
}
