//! The layers of each structure: integers, their scales, and the product of both.

use crate::display::{grid, layer_display};
use crate::ss1::SavedFunction;
use burn::module::{Module, Param, ParamId};
use burn::tensor::{DType, Device, Int, Shape, Tensor, TensorData};
use burn_structured_ops::block_diagonal::Order;
use burn_structured_ops::int8::{Int8Factor, Int8Matrix, int8_tensor};

/// The integers `[groups, outputs, inputs]` of a factor, from −127 to 127.
pub(super) type Values = Param<Tensor<3, Int>>;
/// The scales of its outputs, `[groups, outputs]`.
pub(super) type Scales = Param<Tensor<2>>;

/// A dense or block-diagonal layer of int8 weights.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Int8BlockLinear {
    /// Blocks `[b, d_output / b, d_input / b]`; a dense layer is one block.
    pub w: Param<Tensor<3, Int>>,
    /// `[b, d_output / b]`.
    pub w_scale: Param<Tensor<2>>,
    /// Vector of size `d_output`.
    pub bias: Option<Param<Tensor<1>>>,
}

/// A low-rank, Monarch or block tensor-train layer of int8 weights.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Int8TwoFactorLinear {
    /// `[b2, q, d_input / b2]`; of low rank `[1, r, d_input]`.
    pub right: Param<Tensor<3, Int>>,
    /// `[b2, q]`.
    pub right_scale: Param<Tensor<2>>,
    /// `[b1, d_output / b1, p]`; of low rank `[1, d_output, r]`.
    pub left: Param<Tensor<3, Int>>,
    /// `[b1, d_output / b1]`.
    pub left_scale: Param<Tensor<2>>,
    /// Vector of size `d_output`.
    pub bias: Option<Param<Tensor<1>>>,
}

/// A BLAST layer of int8 weights.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Int8BlastLinear {
    /// Output factors `[b1, d_output / b1, r]`.
    pub u: Param<Tensor<3, Int>>,
    /// `[b1, d_output / b1]`.
    pub u_scale: Param<Tensor<2>>,
    /// Couplings `[b1, b2, r]`, which stay floats.
    pub s: Param<Tensor<3>>,
    /// Input factors, transposed: `[b2, r, d_input / b2]`.
    pub v: Param<Tensor<3, Int>>,
    /// `[b2, r]`.
    pub v_scale: Param<Tensor<2>>,
    /// Vector of size `d_output`.
    pub bias: Option<Param<Tensor<1>>>,
}

/// An SS1 layer of int8 weights.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Int8Ss1Linear {
    /// Stored weights, transposed: `[1, d_output, w]`.
    pub z: Param<Tensor<3, Int>>,
    /// `[1, d_output]`.
    pub z_scale: Param<Tensor<2>>,
    /// Vector of size `d_output`.
    pub bias: Option<Param<Tensor<1>>>,
    /// The [hash](crate::Ss1Hash) and the block sizes.
    pub(super) hash: SavedFunction,
}

/// The integers nearest to a factor, and their scales.
pub(super) fn quantized(factor: Tensor<3>) -> (Values, Scales) {
    let Int8Factor { values, scales } = Int8Factor::quantize(factor.detach());
    (Param::initialized(ParamId::new(), values), Param::from_tensor(scales).set_require_grad(false))
}

/// Integers and scales that are 0, which take no memory before they are looked at.
pub(super) fn zeros([groups, outputs, inputs]: [usize; 3], device: &Device) -> (Values, Scales) {
    let values = move |device: &Device, _| int8_tensor(TensorData::zeros::<i8, _>([groups, outputs, inputs]), device);
    let scales = move |device: &Device, _| Tensor::zeros([groups, outputs], (device, DType::F32));
    let values_shape = Shape::new([groups, outputs, inputs]);
    (
        Param::uninitialized(ParamId::new(), values, device.clone(), false, values_shape),
        Param::uninitialized(ParamId::new(), scales, device.clone(), false, Shape::new([groups, outputs])),
    )
}

/// Rows and columns of the groups of a factor put side by side.
fn joined(values: &Values) -> [usize; 2] {
    let [groups, outputs, inputs] = values.lazy_shape().dims();
    [groups * outputs, groups * inputs]
}

fn factor(values: &Values, scales: &Scales) -> Int8Factor {
    Int8Factor { values: values.val(), scales: scales.val() }
}

impl Int8BlockLinear {
    pub(super) fn matrix(&self) -> Int8Matrix {
        Int8Matrix::BlockDiagonal { w: factor(&self.w, &self.w_scale) }
    }

    /// The size of the input features.
    pub fn d_input(&self) -> usize {
        joined(&self.w)[1]
    }

    /// The size of the output features.
    pub fn d_output(&self) -> usize {
        joined(&self.w)[0]
    }

    /// The number of blocks.
    pub fn blocks(&self) -> usize {
        self.w.lazy_shape()[0]
    }
}

impl Int8TwoFactorLinear {
    pub(super) fn matrix(&self, output: Order) -> Int8Matrix {
        Int8Matrix::Monarch {
            r: factor(&self.right, &self.right_scale),
            l: factor(&self.left, &self.left_scale),
            output,
        }
    }

    /// The size of the input features.
    pub fn d_input(&self) -> usize {
        joined(&self.right)[1]
    }

    /// The size of the output features.
    pub fn d_output(&self) -> usize {
        joined(&self.left)[0]
    }

    /// The block grid `[b1, b2]`, which is `[1, 1]` of low rank.
    pub fn blocks(&self) -> [usize; 2] {
        [self.left.lazy_shape()[0], self.right.lazy_shape()[0]]
    }

    /// The rank of a block.
    pub fn rank(&self) -> usize {
        self.right.lazy_shape()[1] / self.left.lazy_shape()[0]
    }
}

impl Int8BlastLinear {
    pub(super) fn matrix(&self) -> Int8Matrix {
        Int8Matrix::Blast { u: factor(&self.u, &self.u_scale), s: self.s.val(), v: factor(&self.v, &self.v_scale) }
    }

    /// The size of the input features.
    pub fn d_input(&self) -> usize {
        joined(&self.v)[1]
    }

    /// The size of the output features.
    pub fn d_output(&self) -> usize {
        joined(&self.u)[0]
    }

    /// The block grid `[b1, b2]`.
    pub fn blocks(&self) -> [usize; 2] {
        let [b1, b2, _] = self.s.lazy_shape().dims();
        [b1, b2]
    }

    /// The rank of the blocks.
    pub fn rank(&self) -> usize {
        self.s.lazy_shape()[2]
    }
}

impl Int8Ss1Linear {
    pub(super) fn matrix(&self) -> Int8Matrix {
        let (width, d_output) = self.sizes();
        let fold = self.hash.get(width, d_output).fold(d_output);
        Int8Matrix::Ss1 { z: factor(&self.z, &self.z_scale), fold }
    }

    /// Stored weights of a row, and rows.
    pub(super) fn sizes(&self) -> (usize, usize) {
        let [_, d_output, width] = self.z.lazy_shape().dims();
        (width, d_output)
    }

    /// The size of the input features.
    ///
    /// # Panics
    ///
    /// If a hash was loaded that does not fit the weights.
    pub fn d_input(&self) -> usize {
        let (width, d_output) = self.sizes();
        self.hash.get(width, d_output).d_input
    }

    /// The size of the output features.
    pub fn d_output(&self) -> usize {
        self.sizes().1
    }

    /// Additions of the sketches of one token.
    pub(super) fn additions(&self) -> usize {
        let (width, d_output) = self.sizes();
        self.hash.get(width, d_output).additions(width, d_output)
    }

    /// How many input blocks share their weights.
    ///
    /// # Panics
    ///
    /// As [`d_input`](Self::d_input).
    pub fn reduction(&self) -> usize {
        let (width, d_output) = self.sizes();
        self.hash.get(width, d_output).reduction
    }
}

layer_display!(Int8BlockLinear, layer => { "blocks": layer.blocks() });
layer_display!(Int8TwoFactorLinear, layer => { "blocks": grid(layer.blocks()), "rank": layer.rank() });
layer_display!(Int8BlastLinear, layer => { "blocks": grid(layer.blocks()), "rank": layer.rank() });
layer_display!(Int8Ss1Linear, layer => { "reduction": layer.reduction() });
