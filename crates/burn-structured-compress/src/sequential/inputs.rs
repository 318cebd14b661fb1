//! The inputs that the groups of layers of a block have.

use crate::CompressError;
use burn::module::ParamId;
use burn::tensor::Tensor;
use burn_structured_nn::{BlockModel, StructuredLinear, observe_inputs};
use std::cell::RefCell;
use std::rc::Rc;

/// Inputs of the dense block that are kept, in bytes: 1 GiB. Those of the batches beyond are computed again for each group of layers.
const KEPT_BYTES: usize = 1 << 30;

/// The inputs `[tokens, d_input]` of the first groups of layers of a block, in the order of [`BlockModel::STAGES`].
pub(super) type StageInputs = Vec<Tensor<2>>;

/// What `observe_inputs` calls the groups' first layers.
///
/// # Errors
///
/// If a layer has no parameters.
pub(super) fn stage_ids<M: BlockModel>(block: &M::Block, stages: usize) -> Result<Vec<ParamId>, CompressError> {
    // The layers of a block can only be asked for to be replaced.
    let mut block = block.clone();
    let layers = M::linears_mut(&mut block);
    M::STAGES[..stages].iter().map(|stage| id(layers[stage[0]]).ok_or(CompressError::NoDenseLayer)).collect()
}

fn id(layer: &StructuredLinear) -> Option<ParamId> {
    match layer {
        StructuredLinear::Dense(layer) => Some(layer.weight.id),
        layer => layer.factors().first().map(|factor| factor.id),
    }
}

/// The inputs of the groups whose first layers are `ids`, and the block's output. A layer that the block applies several times has
/// its inputs one after another.
///
/// # Errors
///
/// If the block does not apply a layer.
pub(super) fn stage_inputs<M: BlockModel>(
    block: &M::Block,
    ids: &[ParamId],
    features: Tensor<3>,
    batch: &M::Batch,
) -> Result<(StageInputs, Tensor<3>), CompressError> {
    let seen = Rc::new(RefCell::new(vec![Vec::new(); ids.len()]));
    let (shared, known) = (seen.clone(), ids.to_vec());
    let observer = move |id: ParamId, input: Tensor<2>| {
        if let Some(at) = known.iter().position(|known| *known == id) {
            shared.borrow_mut()[at].push(input);
        }
    };
    let output = observe_inputs(observer, || M::forward_block(block, features, batch));
    let whole = |mut inputs: Vec<Tensor<2>>| match inputs.len() {
        0 => Err(CompressError::NoInputs),
        1 => Ok(inputs.remove(0)),
        _ => Ok(Tensor::cat(inputs, 0)),
    };
    let inputs = seen.take().into_iter().map(whole).collect::<Result<_, _>>()?;
    Ok((inputs, output))
}

/// Inputs of the dense block, which are the same for every share and for every group: of as many batches as there is room for.
pub(super) struct Kept {
    batches: Vec<Option<StageInputs>>,
    room: usize,
}

impl Kept {
    pub fn new(batches: usize) -> Self {
        Self { batches: vec![None; batches], room: KEPT_BYTES }
    }

    /// The inputs of a batch, computed unless they are kept.
    ///
    /// # Errors
    ///
    /// Those of `compute`.
    pub fn get(
        &mut self,
        batch: usize,
        compute: impl FnOnce() -> Result<StageInputs, CompressError>,
    ) -> Result<StageInputs, CompressError> {
        if let Some(inputs) = &self.batches[batch] {
            return Ok(inputs.clone());
        }
        let inputs = compute()?;
        let bytes = inputs.iter().map(|input| input.dims().iter().product::<usize>() * input.dtype().size()).sum();
        if let Some(room) = self.room.checked_sub(bytes) {
            self.room = room;
            self.batches[batch] = Some(inputs.clone());
        }
        Ok(inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn kept_inputs_are_bounded() {
        let mut kept = Kept { batches: vec![None; 3], room: 100 };
        let inputs = |rows: usize| vec![Tensor::<2>::zeros([rows, 2], &Device::flex())];
        let mut computed = 0;
        for _ in 0..2 {
            for (batch, rows) in [8, 8, 3].into_iter().enumerate() {
                let found = kept.get(batch, || {
                    computed += 1;
                    Ok(inputs(rows))
                });
                assert_eq!(found.unwrap()[0].dims(), [rows, 2]);
            }
        }
        // 64 and 24 bytes are kept, the second batch is not.
        assert_eq!((computed, kept.room), (4, 12));
    }
}
