//! SS1 on Flex, on the tensors' own storage.
//!
//! A rotation is two contiguous runs, so folding is a few vector additions a block. Where every block of output rows has a sketch of its
//! own (`product.rs`), the sketch of a tile of tokens is folded into a buffer that stays in cache, and multiplied from there. It is folded
//! from rows in which every block stands twice (`doubled.rs`), where a rotation is a single run.

pub(crate) mod doubled;
mod product;
mod rotate;

use super::{Fold, Ss1Backend, Ss1Strategy, reference, shapes};
use crate::EpilogueTensors;
use crate::cpu::{Scalar, contiguous, dense_slice, in_native, with_native};
use crate::operands::check;
use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use burn_flex::FlexTensor;
use rayon::prelude::*;
pub(crate) use rotate::Plan as FoldPlan;
use rotate::Plan;

impl Ss1Backend for Flex {
    fn ss1_fold(x: FloatTensor<Self>, fold: Fold, output_block: usize) -> FloatTensor<Self> {
        check(|shapes| shapes::folded(shapes, fold), [&x]);
        in_native([x], |[x]| with_native!(x.dtype(), E => fold_rows::<E>(&x, fold, output_block)))
    }

    fn ss1_unfold(a: FloatTensor<Self>, fold: Fold, output_block: usize) -> FloatTensor<Self> {
        check(|shapes| shapes::unfolded(shapes, fold), [&a]);
        in_native([a], |[a]| with_native!(a.dtype(), E => unfold_rows::<E>(&a, fold, output_block)))
    }

    fn ss1_product(
        x: FloatTensor<Self>,
        z: FloatTensor<Self>,
        epilogue: EpilogueTensors<Self>,
        fold: Fold,
        strategy: Ss1Strategy,
    ) -> FloatTensor<Self> {
        check(|shapes| shapes::product(shapes, fold), [&x, &z]);
        epilogue.check([x.layout().shape()[0], z.layout().shape()[1]], x.dtype());
        if strategy == Ss1Strategy::Reference {
            return epilogue.apply(reference::product::<Self>(x, z, fold));
        }
        let epilogue = epilogue.into_native();
        in_native([x, z], |[x, z]| with_native!(x.dtype(), E => product::forward::<E>(&x, &z, epilogue.finish(), fold)))
    }

    fn ss1_input_gradient(
        dy: FloatTensor<Self>,
        z: FloatTensor<Self>,
        fold: Fold,
        strategy: Ss1Strategy,
    ) -> FloatTensor<Self> {
        check(|shapes| shapes::input_gradient(shapes, fold), [&dy, &z]);
        if strategy == Ss1Strategy::Reference {
            return reference::input_gradient::<Self>(dy, z, fold);
        }
        in_native([dy, z], |[dy, z]| with_native!(dy.dtype(), E => product::input_gradient::<E>(&dy, &z, fold)))
    }

    fn ss1_weight_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        fold: Fold,
        strategy: Ss1Strategy,
    ) -> FloatTensor<Self> {
        check(|shapes| shapes::weight_gradient(shapes, fold), [&x, &dy]);
        if strategy == Ss1Strategy::Reference {
            return reference::weight_gradient::<Self>(x, dy, fold);
        }
        in_native([x, dy], |[x, dy]| with_native!(x.dtype(), E => product::weight_gradient::<E>(&x, &dy, fold)))
    }
}

/// Rows that one thread takes at a time: enough to outweigh handing them out.
fn rows_per_task(rows: usize) -> usize {
    rows.div_ceil(rayon::current_num_threads()).clamp(1, 64)
}

fn fold_rows<E: Scalar>(x: &FlexTensor, fold: Fold, output_block: usize) -> FlexTensor {
    let (n, width) = (fold.d_input, fold.width());
    let [rows, _] = x.layout().shape().dims();
    let x = x.to_contiguous();
    let x = dense_slice::<E>(&x);
    let plan = Plan::new(fold, output_block);
    let mut a = vec![E::ZERO; rows * width];
    let task = rows_per_task(rows);
    a.par_chunks_mut((task * width).max(1)).zip(x.par_chunks((task * n).max(1))).for_each(|(a, x)| plan.fold(x, a));
    contiguous(a, Shape::new([rows, width]))
}

fn unfold_rows<E: Scalar>(a: &FlexTensor, fold: Fold, output_block: usize) -> FlexTensor {
    let (n, width) = (fold.d_input, fold.width());
    let [rows, _] = a.layout().shape().dims();
    let a = a.to_contiguous();
    let a = dense_slice::<E>(&a);
    let plan = Plan::new(fold, output_block);
    let mut x = vec![E::ZERO; rows * n];
    let task = rows_per_task(rows);
    x.par_chunks_mut((task * n).max(1))
        .zip(a.par_chunks((task * width).max(1)))
        .for_each(|(x, a)| plan.add_unfolded(a, x));
    contiguous(x, Shape::new([rows, n]))
}
