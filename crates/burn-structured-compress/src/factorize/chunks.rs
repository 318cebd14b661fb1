//! Evaluation in chunks: what is built for every block of the grid takes no more memory at a time than the matrices themselves.

use super::Problem;
use burn::tensor::Tensor;
use std::ops::Range;

/// Elements below which a chunk is not worth a kernel launch of its own.
const MIN_ELEMENTS: usize = 1 << 18;

/// Some of the matrices, and some of the blocks of one side of their grid.
pub(super) struct Chunk {
    pub matrices: Range<usize>,
    pub blocks: Range<usize>,
}

impl Chunk {
    /// A chunk's part of a tensor of all `[matrices, blocks, rows, columns]`.
    pub fn of(&self, factor: &Tensor<4>) -> Tensor<4> {
        factor.clone().slice([self.matrices.clone(), self.blocks.clone()])
    }

    /// A chunk's part of `[matrices, blocks · height, columns]`.
    pub fn rows_of(&self, matrices: &Tensor<3>, height: usize) -> Tensor<3> {
        matrices.clone().slice([self.matrices.clone(), self.blocks.start * height..self.blocks.end * height])
    }
}

impl Problem {
    /// How many blocks can be processed at once, at `elements` for each.
    pub(super) fn blocks_at_once(&self, elements: usize) -> usize {
        let all = self.dims().iter().product::<usize>();
        (all.max(MIN_ELEMENTS) / elements.max(1)).max(1)
    }

    /// The results of `compute` for all matrices and all `blocks` of one side of the grid, `elements` to be built for each block.
    ///
    /// `compute` returns `[matrices, blocks, rows, columns]` of its chunk; the result is `[k, blocks · rows, columns]`.
    pub(super) fn in_chunks<const N: usize>(
        &self,
        blocks: usize,
        elements: usize,
        compute: impl Fn(&Chunk) -> [Tensor<4>; N],
    ) -> [Tensor<3>; N] {
        let [k, ..] = self.dims();
        let at_once = self.blocks_at_once(elements);
        let ranges = |all: usize, step: usize| (0..all).step_by(step).map(move |at| at..(at + step).min(all));
        let of_matrices = |matrices: Range<usize>| {
            let chunks = ranges(blocks, at_once.min(blocks)).map(|blocks| Chunk { matrices: matrices.clone(), blocks });
            concat(chunks.map(|chunk| compute(&chunk).map(join_rows)).collect(), 1)
        };
        concat(ranges(k, (at_once / blocks).clamp(1, k)).map(of_matrices).collect(), 0)
    }
}

/// The first tensors of all parts, concatenated, then the second tensors, and so on.
fn concat<const N: usize>(mut parts: Vec<[Tensor<3>; N]>, dim: usize) -> [Tensor<3>; N] {
    match parts.len() {
        1 => parts.remove(0),
        _ => std::array::from_fn(|at| Tensor::cat(parts.iter().map(|part| part[at].clone()).collect(), dim)),
    }
}

/// `V̄_i = [V_j diag(s_ij)]_j` for the rows `i` of a chunk: `[matrices, rows, n, r]`.
pub(super) fn stack_scaled(s: &Tensor<4>, v: &Tensor<4>, chunk: &Chunk) -> Tensor<4> {
    let [_, b2, q, r] = v.dims();
    let v = v.clone().slice([chunk.matrices.clone()]).unsqueeze_dim::<5>(1);
    let s = chunk.of(s).unsqueeze_dim::<5>(3);
    (s * v).reshape([chunk.matrices.len(), chunk.blocks.len(), b2 * q, r])
}

/// `FᵀF` of each block.
pub(super) fn gram(factor: &Tensor<4>) -> Tensor<4> {
    factor.clone().swap_dims(2, 3).matmul(factor.clone())
}

/// `[matrices, blocks, ..]` as one batch: `[matrices · blocks, ..]`.
pub(super) fn batch(blocks: Tensor<4>) -> Tensor<3> {
    let [k, count, rows, columns] = blocks.dims();
    blocks.reshape([k * count, rows, columns])
}

/// The rows of all blocks: `[matrices, blocks · rows, columns]`.
fn join_rows(blocks: Tensor<4>) -> Tensor<3> {
    let [k, count, rows, columns] = blocks.dims();
    blocks.reshape([k, count * rows, columns])
}
