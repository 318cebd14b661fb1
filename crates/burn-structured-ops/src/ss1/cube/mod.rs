//! SS1 on every CubeCL runtime: CUDA, ROCm, Vulkan, Metal, WebGPU and the CubeCL CPU.
//!
//! The one sketch of arithmetic rotations is a kernel that reads `x` once and is followed by Burn's matmul. Where every
//! block of rows has a sketch of its own, the GEMM folds `x` while it loads it, and neither a sketch nor the tied matrix is
//! ever in memory. The gradient of the input folds back what it computes from the stored weights, at the same share of the
//! dense FLOPs, where a group of blocks fits a cube; elsewhere it multiplies by the tied matrix, at the FLOPs of a dense product.

mod kernel;
mod launch;
mod strategy;

use super::{Fold, Ss1Backend, Ss1Strategy, reference, shapes};
use crate::EpilogueTensors;
use crate::operands::check;
use burn::backend::TensorMetadata;
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;

impl Ss1Backend for CubeBackend {
    fn ss1_fold(x: FloatTensor<Self>, fold: Fold, output_block: usize) -> FloatTensor<Self> {
        check(|shapes| shapes::folded(shapes, fold), [&x]);
        if x.shape().num_elements() == 0 {
            return reference::fold::<Self>(x, fold, output_block);
        }
        launch::fold_rows(x, fold, output_block, false)
    }

    fn ss1_unfold(a: FloatTensor<Self>, fold: Fold, output_block: usize) -> FloatTensor<Self> {
        check(|shapes| shapes::unfolded(shapes, fold), [&a]);
        if a.shape().num_elements() == 0 {
            return reference::unfold::<Self>(a, fold, output_block);
        }
        launch::fold_rows(a, fold, output_block, true)
    }

    fn ss1_product(
        x: FloatTensor<Self>,
        z: FloatTensor<Self>,
        epilogue: EpilogueTensors<Self>,
        fold: Fold,
        strategy: Ss1Strategy,
    ) -> FloatTensor<Self> {
        check(|shapes| shapes::product(shapes, fold), [&x, &z]);
        epilogue.check([x.shape()[0], z.shape()[1]], x.dtype());
        if strategy == Ss1Strategy::Reference || x.shape().num_elements() == 0 || z.shape().num_elements() == 0 {
            return epilogue.apply(reference::product::<Self>(x, z, fold));
        }
        epilogue.apply(launch::product(x, z, fold))
    }

    fn ss1_input_gradient(
        dy: FloatTensor<Self>,
        z: FloatTensor<Self>,
        fold: Fold,
        strategy: Ss1Strategy,
    ) -> FloatTensor<Self> {
        check(|shapes| shapes::input_gradient(shapes, fold), [&dy, &z]);
        if strategy == Ss1Strategy::Reference || dy.shape().num_elements() == 0 || z.shape().num_elements() == 0 {
            return reference::input_gradient::<Self>(dy, z, fold);
        }
        launch::input_gradient(dy, z, fold)
    }

    fn ss1_weight_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        fold: Fold,
        strategy: Ss1Strategy,
    ) -> FloatTensor<Self> {
        check(|shapes| shapes::weight_gradient(shapes, fold), [&x, &dy]);
        if strategy == Ss1Strategy::Reference || x.shape().num_elements() == 0 || dy.shape().num_elements() == 0 {
            return reference::weight_gradient::<Self>(x, dy, fold);
        }
        launch::weight_gradient(x, dy, fold)
    }
}
