//! Leaving whole blocks out: the baseline that structured compression has to beat.

use crate::CompressError;
use burn::tensor::Tensor;
use burn_structured_nn::BlockModel;
use std::ops::ControlFlow;

/// What an observer receives while blocks are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropStep {
    /// Passes through the rest of the model that are done, one for each block and batch.
    pub done: usize,
    /// How many there are.
    pub steps: usize,
}

/// Which `keep` blocks of a model to keep, ascending: blocks are left out one after another, each time the one whose absence
/// changes the output least on the `held_out` batches.
///
/// # Errors
///
/// If there are no batches, fewer blocks than `keep`, the output is not finite, or the observer breaks.
pub fn blocks_to_keep<M: BlockModel>(
    model: &M,
    held_out: &[M::Batch],
    keep: usize,
    observer: &mut dyn FnMut(&DropStep) -> ControlFlow<()>,
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
    let forward =
        |features: Tensor<3>, block: &usize, batch| M::forward_block(&model.blocks()[*block], features, batch);
    let mut kept: Vec<usize> = (0..depth).collect();
    let steps = (keep + 1..=depth).sum::<usize>() * held_out.len();
    let mut done = 0;
    let expected: Vec<Tensor<2>> = held_out
        .iter()
        .map(|batch| model.output(kept.iter().fold(model.embed(batch), |x, block| forward(x, block, batch)), batch))
        .collect();
    while kept.len() > keep {
        let mut errors = vec![0.0; kept.len()];
        for (batch, expected) in held_out.iter().zip(&expected) {
            let mut features = model.embed(batch);
            for (at, block) in kept.iter().enumerate() {
                let without = kept[at + 1..].iter().fold(features.clone(), |x, block| forward(x, block, batch));
                let difference = model.output(without, batch) - expected.clone();
                errors[at] += difference.square().sum().into_scalar::<f64>();
                features = forward(features, block, batch);
                done += 1;
                if observer(&DropStep { done, steps }).is_break() {
                    return Err(CompressError::Interrupted);
                }
            }
        }
        if errors.iter().any(|error| !error.is_finite()) {
            return Err(CompressError::OutputNotFinite);
        }
        // The first one of the least error.
        let Some(least) = (0..kept.len()).min_by(|a, b| errors[*a].total_cmp(&errors[*b])) else { break };
        kept.remove(least);
    }
    Ok(kept)
}

/// The blocks of the whole model that the `kept` ones imitate: each also does the work of those that are left out behind it, so that
/// the next one finds the features that it knows.
///
/// ```
/// assert_eq!(burn_structured_compress::drop::imitated(&[0, 2, 3], 6), [1, 2, 5]);
/// ```
pub fn imitated(kept: &[usize], depth: usize) -> Vec<usize> {
    let next = kept.iter().skip(1).copied().chain([depth]);
    next.take(kept.len()).map(|next| next.saturating_sub(1)).collect()
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
        let keep = |keep: usize, held_out: &[Tensor<3>]| {
            let mut steps = Vec::new();
            let kept = blocks_to_keep(&toy, held_out, keep, &mut |step| {
                steps.push(*step);
                ControlFlow::Continue(())
            });
            assert!(steps.last().is_none_or(|last| last.done == last.steps));
            kept
        };
        assert_eq!(keep(4, &held_out).unwrap(), [0, 1, 2, 3]);
        assert_eq!(keep(3, &held_out).unwrap(), [0, 2, 3]);
        assert_eq!(keep(2, &held_out).unwrap(), [0, 3]);
        assert_eq!(keep(0, &held_out).unwrap(), [0usize; 0]);
        assert!(keep(5, &held_out).is_err() && keep(1, &[]).is_err());
        let stopped = blocks_to_keep(&toy, &held_out, 2, &mut |_| ControlFlow::Break(()));
        assert!(matches!(stopped, Err(CompressError::Interrupted)));
    }

    #[test]
    fn imitated_blocks_stand_in_front_of_the_next_kept_one() {
        assert_eq!(imitated(&[0, 2, 5], 6), [1, 4, 5]);
        assert_eq!(imitated(&[1, 2], 6), [1, 5]);
        assert_eq!(imitated(&[], 6), [0usize; 0]);
    }
}
