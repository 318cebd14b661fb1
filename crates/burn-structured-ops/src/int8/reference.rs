//! Products with int8 weights in Burn's operations: what devices without code of their own run, and the reference of the tests.

use super::factor::SMALLEST;
use super::{Int8Factor, Int8Matrix, MAX};
use crate::block_diagonal::Order;
use crate::ss1::{Fold, folded};
use burn::tensor::{DType, Tensor};

/// `y [tokens, m] = x [tokens, n] Wᵀ`, in the dtype of `x`.
pub(super) fn product(x: Tensor<2>, matrix: &Int8Matrix) -> Tensor<2> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let y = match matrix {
        Int8Matrix::BlockDiagonal { w } => join(groups(split(x, w, Order::Grouped), w), Order::Grouped),
        Int8Matrix::Monarch { r, l, output } => {
            let between = join(groups(split(x, r, Order::Grouped), r), Order::Grouped);
            join(groups(split(between, l, Order::Strided), l), *output)
        }
        Int8Matrix::Blast { u, s, v } => {
            // [b2, tokens, r] → [r, tokens, b2] · [r, b2, b1] → [b1, tokens, r]
            let z = groups(split(x, v, Order::Grouped), v).permute([2, 1, 0]);
            let coupled = z.matmul(s.clone().cast(DType::F32).permute([2, 1, 0])).permute([2, 1, 0]);
            join(groups(coupled, u), Order::Grouped)
        }
        Int8Matrix::Ss1 { z, fold } => sketched(x, z, *fold),
    };
    y.cast(dtype)
}

/// `x [tokens, groups · inputs]` as `[groups, tokens, inputs]`.
fn split(x: Tensor<2>, w: &Int8Factor, order: Order) -> Tensor<3> {
    let ([tokens, _], [groups, _, inputs]) = (x.dims(), w.values.dims());
    match order {
        Order::Grouped => x.reshape([tokens, groups, inputs]).swap_dims(0, 1),
        Order::Strided => x.reshape([tokens, inputs, groups]).permute([2, 0, 1]),
    }
}

/// `[groups, tokens, outputs]` as `[tokens, groups · outputs]`.
fn join(y: Tensor<3>, order: Order) -> Tensor<2> {
    let [groups, tokens, outputs] = y.dims();
    let y = match order {
        Order::Grouped => y.swap_dims(0, 1),
        Order::Strided => y.permute([1, 2, 0]),
    };
    y.reshape([tokens, groups * outputs])
}

/// `y [groups, tokens, outputs]` of `x [groups, tokens, inputs]`.
fn groups(x: Tensor<3>, w: &Int8Factor) -> Tensor<3> {
    let largest = x.clone().detach().abs().max_dim(2);
    let zero = largest.clone().lower_elem(SMALLEST);
    let to_quanta = (largest.clone().recip() * f32::from(MAX)).mask_fill(zero, 0.0);
    let scales = largest / f32::from(MAX);
    // A difference with itself is 0, or no number where a feature is not finite.
    let finite = (x.clone().detach() - x.clone().detach()).sum_dim(2);
    let exact = x * to_quanta;
    // The gradient is that of the numbers before they are rounded.
    let rounded = exact.clone().detach().round();
    let quanta = match exact.device().is_autodiff() {
        true => exact.clone() + (rounded - exact.detach()),
        false => rounded,
    };
    let sums = quanta.matmul(w.as_float().swap_dims(1, 2));
    sums * scales * w.scales.clone().cast(DType::F32).unsqueeze_dim::<3>(1) + finite
}

/// The product of every block of rows with its own sketch.
fn sketched(x: Tensor<2>, z: &Int8Factor, fold: Fold) -> Tensor<2> {
    let [_, m, width] = z.values.dims();
    let blocks = (0..fold.output_blocks(m)).map(|block| {
        let rows = fold.output_rows(m, block);
        let w = Int8Factor {
            values: z.values.clone().slice([0..1, rows.clone(), 0..width]),
            scales: z.scales.clone().slice([0..1, rows]),
        };
        groups(folded(x.clone(), fold, block).unsqueeze(), &w).squeeze_dim::<2>(0)
    });
    Tensor::cat(blocks.collect(), 1)
}
