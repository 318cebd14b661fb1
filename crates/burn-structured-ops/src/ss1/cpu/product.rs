//! Products in which every block of output rows has a sketch of its own.

use super::doubled::{self, double, halve};
use super::rotate::Plan;
use crate::cpu::gemm::{self, Epilogue, Finish, Rows, Target, transpose_into, transposed_stride};
use crate::cpu::{
    Matrix, Output, Scalar, SharedOutput, ThreadTeam, Workspace, alloc_uninit_with, contiguous, dense_slice,
    split_aligned,
};
use crate::ss1::Fold;
use burn::tensor::Shape;
use burn_flex::FlexTensor;

/// Tokens of a task at most: their sketch should stay in an L2 cache.
const TASK_TOKENS: usize = 128;

/// The rotations of one output block, and its rows of `W`.
struct OutputBlock {
    plan: Plan,
    first: usize,
    rows: usize,
}

fn output_blocks(fold: Fold, m: usize) -> Vec<OutputBlock> {
    let block = |block| {
        let rows = fold.output_rows(m, block);
        OutputBlock { plan: Plan::new(fold, block), first: rows.start, rows: rows.len() }
    };
    (0..fold.output_blocks(m)).map(block).collect()
}

/// Tokens of a task, and output blocks: all of them, unless there are too few tokens for the threads.
fn task_sizes(tokens: usize, blocks: usize) -> [usize; 2] {
    let task_tokens = gemm::balanced_chunk(tokens, TASK_TOKENS);
    let chunks = tokens.div_ceil(task_tokens.max(1));
    [task_tokens.max(1), blocks.div_ceil(gemm::tasks_wanted().div_ceil(2 * chunks.max(1))).max(1)]
}

/// `y_b = fold_b(x) Z_b`, and what follows.
pub(super) fn forward<E: Scalar>(x: &FlexTensor, z: &FlexTensor, finish: Finish<'_, E>, fold: Fold) -> FlexTensor {
    let [tokens, n] = x.layout().shape().dims();
    let [width, m] = z.layout().shape().dims();
    let x = x.to_contiguous();
    let x = dense_slice::<E>(&x);
    let z = Matrix::<E>::of(z, 0);
    let blocks = output_blocks(fold, m);
    let [task_tokens, task_blocks] = task_sizes(tokens, blocks.len());
    let block_tasks = blocks.len().div_ceil(task_blocks);
    let product = |mut y: Output<'_, E>| {
        let y = y.share();
        ThreadTeam::default().parallel_for(tokens.div_ceil(task_tokens) * block_tasks, |task| {
            let start = task / block_tasks * task_tokens;
            let tokens = task_tokens.min(tokens - start);
            let blocks = &blocks[task % block_tasks * task_blocks..];
            let blocks = &blocks[..task_blocks.min(blocks.len())];
            E::with_buffer(Workspace::Task, |buffer| {
                let lengths = [tokens * doubled::width(fold), tokens * width, packed_len::<E>(width, blocks)];
                let [doubled, sketch, panels] = split_aligned(buffer, lengths);
                double(fold, &x[start * n..][..tokens * n], doubled);
                for OutputBlock { plan, first, rows } in blocks {
                    plan.fold_doubled(doubled, sketch);
                    // SAFETY: no other task has these tokens of this block.
                    let target = unsafe {
                        Target::new(y, start * m + first, [tokens, *rows], m, finish.epilogue(*first, *rows))
                    };
                    let sketch = Matrix::row_major(sketch, tokens, width, width);
                    gemm::blocked_gemm(
                        Rows::of(sketch).expect("contiguous rows"),
                        z.cols(*first, *rows),
                        target,
                        None,
                        panels,
                    );
                    // SAFETY: the product has just been stored.
                    unsafe { target.finish(finish, [start, *first]) };
                }
            });
        });
    };
    // SAFETY: every output block writes its columns for all tokens.
    contiguous(unsafe { alloc_uninit_with(tokens * m, product) }, Shape::new([tokens, m]))
}

/// `dx = Σ_b unfold_b(dy_b Z_bᵀ)`.
pub(super) fn input_gradient<E: Scalar>(dy: &FlexTensor, z: &FlexTensor, fold: Fold) -> FlexTensor {
    let [tokens, m] = dy.layout().shape().dims();
    let (n, width) = (fold.d_input, fold.width());
    let dy = dy.to_contiguous();
    let dy = Rows::of(Matrix::<E>::of(&dy, 0)).expect("contiguous rows");
    let z = Matrix::<E>::of(z, 0);
    let blocks = output_blocks(fold, m);
    let depth = blocks.iter().map(|block| block.rows).max().unwrap_or(0);
    let task_tokens = gemm::balanced_chunk(tokens, tokens.div_ceil(rayon::current_num_threads()).clamp(1, TASK_TOKENS));
    let mut dx = vec![E::ZERO; tokens * n];
    let out = SharedOutput::new(&mut dx);
    ThreadTeam::default().parallel_for(tokens.div_ceil(task_tokens.max(1)), |task| {
        let start = task * task_tokens;
        let tokens = task_tokens.min(tokens - start);
        E::with_buffer(Workspace::Task, |buffer| {
            let lengths = [tokens * doubled::width(fold), tokens * width, gemm::packed_len::<E>(depth, width)];
            let [doubled, sketch, panels] = split_aligned(buffer, lengths);
            doubled.fill(E::ZERO);
            for OutputBlock { plan, first, rows } in &blocks {
                let (dy, z) = (dy.range(start, tokens).depths(*first, *rows), z.cols(*first, *rows).transposed());
                gemm::blocked_gemm(dy, z, Target::of_slice(&mut *sketch, [tokens, width], width), None, panels);
                plan.add_unfolded_doubled(sketch, doubled);
            }
            // SAFETY: no other task has these tokens, and the output is initialised.
            halve(fold, doubled, unsafe { out.slice(start * n, tokens * n) });
        });
    });
    contiguous(dx, Shape::new([tokens, n]))
}

/// `dZ_b = fold_b(x)ᵀ dy_b`.
pub(super) fn weight_gradient<E: Scalar>(x: &FlexTensor, dy: &FlexTensor, fold: Fold) -> FlexTensor {
    let [tokens, n] = x.layout().shape().dims();
    let [_, m] = dy.layout().shape().dims();
    let width = fold.width();
    let x = x.to_contiguous();
    let x = dense_slice::<E>(&x);
    let dy = Matrix::<E>::of(dy, 0);
    let blocks = output_blocks(fold, m);
    let mut gradient = vec![E::ZERO; width * m];
    let out = SharedOutput::new(&mut gradient);
    let team = ThreadTeam::default();
    let row = doubled::width(fold);
    E::with_buffer(Workspace::Shared, |buffer| {
        let [all_doubled] = split_aligned(buffer, [tokens * row]);
        let shared = SharedOutput::new(&mut *all_doubled);
        team.parallel_for(tokens.div_ceil(TASK_TOKENS), |task| {
            let (start, tokens) = (task * TASK_TOKENS, TASK_TOKENS.min(tokens - task * TASK_TOKENS));
            // SAFETY: no other task has these tokens, and the buffer is initialised.
            let doubled = unsafe { shared.slice(start * row, tokens * row) };
            double(fold, &x[start * n..][..tokens * n], doubled);
        });
        let all_doubled = &*all_doubled;
        team.parallel_for(blocks.len(), |task| {
            let OutputBlock { plan, first, rows } = &blocks[task];
            for start in (0..tokens).step_by(TASK_TOKENS) {
                let tokens = TASK_TOKENS.min(tokens - start);
                E::with_buffer(Workspace::Task, |buffer| {
                    let lengths =
                        [tokens * width, width * transposed_stride::<E>(tokens), gemm::packed_len::<E>(tokens, *rows)];
                    let [sketch, transposed, panels] = split_aligned(buffer, lengths);
                    plan.fold_doubled(&all_doubled[start * row..][..tokens * row], sketch);
                    let sketch = transpose_into(Matrix::row_major(sketch, tokens, width, width), transposed);
                    let dy = dy.rows(start, tokens).cols(*first, *rows);
                    // SAFETY: no other task has this block, and the output is initialised.
                    let target = unsafe { Target::new(out, *first, [width, *rows], m, Epilogue::Accumulate) };
                    gemm::blocked_gemm(sketch, dy, target, None, panels);
                });
            }
        });
    });
    contiguous(gradient, Shape::new([width, m]))
}

/// Elements that are packed at a time for any of the blocks.
fn packed_len<E: Scalar>(depth: usize, blocks: &[OutputBlock]) -> usize {
    blocks.iter().map(|block| gemm::packed_len::<E>(depth, block.rows)).max().unwrap_or(0)
}
