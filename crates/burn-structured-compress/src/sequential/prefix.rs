//! The features that the dense model and the compressed one have between two blocks.

use crate::CompressError;
use burn::tensor::Tensor;
use burn_structured_nn::BlockModel;
use std::cell::OnceCell;
use std::fmt;

/// The features of the dense model and of the compressed one in front of the same block, for the batches of calibration and for
/// held-out ones.
///
/// Two tensors `[batch, tokens, d_model]` of every batch are held, and a third while a block is compressed. In the meantime the
/// dense block's inputs of its layers are kept too, up to 1 GiB; those of the batches beyond are computed again for each group of
/// layers. Every share that is tried holds a block, and two matrices `[d_input, d_input]` in f64 while a group is fitted.
pub struct Prefix<M: BlockModel> {
    pub(crate) teacher: M,
    /// The block that the features are in front of.
    block: usize,
    pub(crate) calibration: Vec<Sample<M>>,
    pub(crate) held_out: Vec<Sample<M>>,
}

/// One batch.
pub(crate) struct Sample<M: BlockModel> {
    pub batch: M::Batch,
    /// In front of the block, in the dense model.
    pub dense: Tensor<3>,
    /// In front of the block, behind the compressed prefix.
    pub compressed: Tensor<3>,
    /// Behind the block, in the dense model; computed on first use.
    target: OnceCell<Tensor<3>>,
}

impl<M: BlockModel> Sample<M> {
    fn new(model: &M, batch: &M::Batch) -> Self {
        let features = model.embed(batch);
        Self { batch: batch.clone(), dense: features.clone(), compressed: features, target: OnceCell::new() }
    }

    /// The dense block's output of the dense features.
    pub fn target(&self, block: &M::Block) -> &Tensor<3> {
        self.target.get_or_init(|| M::forward_block(block, self.dense.clone(), &self.batch))
    }

    /// Keeps the dense block's output, which was computed for another reason.
    pub fn keep_target(&self, output: Tensor<3>) {
        // The one that is there, if any, is the same.
        let _ = self.target.set(output);
    }

    fn tokens(&self) -> usize {
        let [batch, tokens, _] = self.dense.dims();
        batch * tokens
    }
}

impl<M: BlockModel> Prefix<M> {
    /// The features in front of the first block of a dense `model`, where nothing is compressed yet.
    ///
    /// # Errors
    ///
    /// If there are no batches of one of the two kinds.
    pub fn new(model: &M, calibration: &[M::Batch], held_out: &[M::Batch]) -> Result<Self, CompressError> {
        if calibration.is_empty() || held_out.is_empty() {
            return Err(CompressError::NoBatches);
        }
        let teacher = model.valid();
        let samples = |batches: &[M::Batch]| batches.iter().map(|batch| Sample::new(&teacher, batch)).collect();
        let (calibration, held_out) = (samples(calibration), samples(held_out));
        Ok(Self { teacher, block: 0, calibration, held_out })
    }

    /// The block that the features are in front of.
    pub fn block(&self) -> usize {
        self.block
    }

    /// Takes the features through block `index`: the dense ones through the dense model's, the compressed ones through the
    /// `student`'s.
    ///
    /// # Errors
    ///
    /// If the features are in front of another block.
    pub fn advance(&mut self, student: &M, index: usize) -> Result<(), CompressError> {
        self.check(index)?;
        let (teacher, student) = (&self.teacher.blocks()[index], &student.blocks()[index]);
        for sample in self.calibration.iter_mut().chain(&mut self.held_out) {
            sample.dense = sample.target(teacher).clone();
            sample.target = OnceCell::new();
            sample.compressed = M::forward_block(student, sample.compressed.clone(), &sample.batch);
        }
        self.block += 1;
        Ok(())
    }

    /// `‖f(x) - f̂(x̂)‖ / ‖f(x)‖` on the held-out batches: the dense block's output of the dense features, and that of `block` of
    /// the compressed ones.
    pub(crate) fn output_error(&self, block: &M::Block) -> f64 {
        let dense = &self.teacher.blocks()[self.block];
        let square = |features: Tensor<3>| features.square().sum().into_scalar::<f64>();
        let (mut error, mut norm) = (0.0, 0.0);
        for sample in &self.held_out {
            let expected = sample.target(dense);
            let found = M::forward_block(block, sample.compressed.clone(), &sample.batch);
            error += square(found - expected.clone());
            norm += square(expected.clone());
        }
        if error == 0.0 { 0.0 } else { (error / norm).sqrt() }
    }

    /// Tokens of every batch of the calibration.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        self.calibration.iter().map(Sample::tokens).collect()
    }

    /// `Err` unless the features are in front of block `index`.
    pub(crate) fn check(&self, index: usize) -> Result<(), CompressError> {
        if index == self.block && index < self.teacher.blocks().len() {
            Ok(())
        } else {
            Err(CompressError::Block { block: index, features: self.block, blocks: self.teacher.blocks().len() })
        }
    }
}

impl<M: BlockModel> fmt::Debug for Prefix<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prefix")
            .field("block", &self.block)
            .field("calibration", &self.calibration.len())
            .field("held_out", &self.held_out.len())
            .finish_non_exhaustive()
    }
}
