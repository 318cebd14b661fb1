//! Products in which every block of output rows has a sketch of its own.

use super::doubled::{self, double, halve};
use super::rotate::Plan;
use crate::cpu::{Matrix, Output, Scalar, contiguous, dense_slice, multiply};
use crate::ss1::Fold;
use burn::tensor::Shape;
use burn_flex::FlexTensor;
use rayon::prelude::*;

/// Tokens of a tile at most: its sketch should stay in a second-level cache.
const TILE_TOKENS: usize = 128;
/// Tokens of a tile below which its GEMMs no longer pay for packing the weights.
const MIN_TILE_TOKENS: usize = 16;

/// The plans and row ranges of all output blocks.
fn plans(fold: Fold, m: usize) -> Vec<(Plan, usize, usize)> {
    let plan = |block| {
        let rows = fold.output_rows(m, block);
        (Plan::new(fold, block), rows.start, rows.len())
    };
    (0..fold.output_blocks(m)).map(plan).collect()
}

/// `y_b = fold_b(x) Z_b`.
pub(super) fn forward<E: Scalar>(x: &FlexTensor, z: &FlexTensor, fold: Fold) -> FlexTensor {
    let [tokens, n] = x.layout().shape().dims();
    let [width, m] = z.layout().shape().dims();
    let x = x.to_contiguous();
    let x = dense_slice::<E>(&x);
    let z = Matrix::<E>::of(z, 0);
    let plans = plans(fold, m);
    let mut y = vec![E::ZERO; tokens * m];
    let threads = rayon::current_num_threads();
    let tile = tokens.div_ceil(threads).clamp(1, TILE_TOKENS);
    if tile >= MIN_TILE_TOKENS || threads == 1 {
        y.par_chunks_mut((tile * m).max(1)).zip(x.par_chunks((tile * n).max(1))).for_each_init(
            || (vec![E::ZERO; tile * width], vec![E::ZERO; tile * doubled::width(fold)]),
            |(sketch, doubled), (y, x)| {
                let rows = y.len() / m;
                let (sketch, doubled) = (&mut sketch[..rows * width], &mut doubled[..rows * doubled::width(fold)]);
                double(fold, x, doubled);
                for (plan, start, len) in &plans {
                    plan.fold_doubled(doubled, sketch);
                    let sketch = Matrix::row_major(sketch, rows, width, width);
                    let z = z.cols(*start, *len);
                    multiply(&mut y[*start..], m, Output::Store, sketch, z, gemm::Parallelism::None);
                }
            },
        );
    } else {
        // Few tokens: threads share the output blocks, whose columns are put in place afterwards.
        let mut doubled = vec![E::ZERO; tokens * doubled::width(fold)];
        double(fold, x, &mut doubled);
        let columns: Vec<Vec<E>> = plans
            .par_iter()
            .map(|(plan, start, len)| {
                let (mut sketch, mut out) = (vec![E::ZERO; tokens * width], vec![E::ZERO; tokens * len]);
                plan.fold_doubled(&doubled, &mut sketch);
                let sketch = Matrix::row_major(&sketch, tokens, width, width);
                multiply(&mut out, *len, Output::Store, sketch, z.cols(*start, *len), gemm::Parallelism::None);
                out
            })
            .collect();
        put_columns(&mut y, m, &plans, &columns);
    }
    contiguous(y, Shape::new([tokens, m]))
}

/// `dx = Σ_b unfold_b(dy_b Z_bᵀ)`.
pub(super) fn input_gradient<E: Scalar>(dy: &FlexTensor, z: &FlexTensor, fold: Fold) -> FlexTensor {
    let [tokens, m] = dy.layout().shape().dims();
    let (n, width) = (fold.d_input, fold.width());
    let dy = Matrix::<E>::of(dy, 0);
    let z = Matrix::<E>::of(z, 0);
    let plans = plans(fold, m);
    let mut dx = vec![E::ZERO; tokens * n];
    let tile = tokens.div_ceil(rayon::current_num_threads()).clamp(1, TILE_TOKENS);
    dx.par_chunks_mut((tile * n).max(1)).enumerate().for_each_init(
        || (vec![E::ZERO; tile * width], vec![E::ZERO; tile * doubled::width(fold)]),
        |(sketch, doubled), (index, dx)| {
            let rows = dx.len() / n;
            let (sketch, doubled) = (&mut sketch[..rows * width], &mut doubled[..rows * doubled::width(fold)]);
            doubled.fill(E::ZERO);
            let dy = dy.rows(index * tile, rows);
            for (plan, start, len) in &plans {
                let (dy, z) = (dy.cols(*start, *len), z.cols(*start, *len).transposed());
                multiply(sketch, width, Output::Store, dy, z, gemm::Parallelism::None);
                plan.add_unfolded_doubled(sketch, doubled);
            }
            halve(fold, doubled, dx);
        },
    );
    contiguous(dx, Shape::new([tokens, n]))
}

/// `dZ_b = fold_b(x)ᵀ dy_b`.
pub(super) fn weight_gradient<E: Scalar>(x: &FlexTensor, dy: &FlexTensor, fold: Fold) -> FlexTensor {
    let [tokens, n] = x.layout().shape().dims();
    let [_, m] = dy.layout().shape().dims();
    let width = fold.width();
    let x = x.to_contiguous();
    let x = dense_slice::<E>(&x);
    let mut doubled = vec![E::ZERO; tokens * doubled::width(fold)];
    doubled
        .par_chunks_mut((TILE_TOKENS * doubled::width(fold)).max(1))
        .zip(x.par_chunks((TILE_TOKENS * n).max(1)))
        .for_each(|(doubled, x)| double(fold, x, doubled));
    let dy = Matrix::<E>::of(dy, 0);
    let plans = plans(fold, m);
    let columns: Vec<Vec<E>> = plans
        .par_iter()
        .map(|(plan, start, len)| {
            let mut gradient = vec![E::ZERO; width * len];
            let mut sketch = vec![E::ZERO; tokens.min(TILE_TOKENS) * width];
            let tiles = doubled.chunks((TILE_TOKENS * doubled::width(fold)).max(1));
            for (index, doubled) in tiles.enumerate() {
                let rows = doubled.len() / doubled::width(fold).max(1);
                let sketch = &mut sketch[..rows * width];
                plan.fold_doubled(doubled, sketch);
                let sketch = Matrix::row_major(sketch, rows, width, width).transposed();
                let dy = dy.rows(index * TILE_TOKENS, rows).cols(*start, *len);
                multiply(&mut gradient, *len, Output::Accumulate, sketch, dy, gemm::Parallelism::None);
            }
            gradient
        })
        .collect();
    let mut gradient = vec![E::ZERO; width * m];
    put_columns(&mut gradient, m, &plans, &columns);
    contiguous(gradient, Shape::new([width, m]))
}

/// Writes every block's columns, `[rows, len]`, into their place in `out [rows, m]`.
fn put_columns<E: Scalar>(out: &mut [E], m: usize, plans: &[(Plan, usize, usize)], columns: &[Vec<E>]) {
    for ((_, start, len), columns) in plans.iter().zip(columns) {
        for (row, columns) in out.chunks_exact_mut(m).zip(columns.chunks_exact(*len)) {
            row[*start..*start + *len].copy_from_slice(columns);
        }
    }
}
