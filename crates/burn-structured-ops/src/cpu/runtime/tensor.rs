//! Flex tensors as slices, in the types that have native code.
//!
//! f32 and f64 are native. f16 and bf16 are converted to f32 and back, which also accumulates in f32.

use super::on_pool;
use crate::cpu::{Matrix, Scalar};
use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::{Bytes, DType, FloatDType, Shape};
use burn_flex::{FlexTensor, Layout};

/// Runs `$body` with `$E` bound to the native element type of `$dtype`.
macro_rules! with_native {
    ($dtype:expr, $E:ident => $body:expr) => {
        match $dtype {
            burn::tensor::DType::F32 => {
                type $E = f32;
                $body
            }
            burn::tensor::DType::F64 => {
                type $E = f64;
                $body
            }
            other => panic!("Flex has no structured product for dtype {other:?}"),
        }
    };
}
pub(crate) use with_native;

/// Applies `stage` in a dtype it has native code for and returns the result in the operands' own. The first operand has a row, or
/// several, for each token.
pub(crate) fn in_native<const N: usize>(
    operands: [FlexTensor; N],
    stage: impl FnOnce([FlexTensor; N]) -> FlexTensor + Send,
) -> FlexTensor {
    let (dtype, shape) = (operands[0].dtype(), operands[0].layout().shape());
    let rows = shape.num_elements() / shape.last().copied().unwrap_or(1).max(1);
    let operands = operands.map(to_native);
    from_native(on_pool(rows, || stage(operands)), dtype)
}

pub(crate) fn to_native(tensor: FlexTensor) -> FlexTensor {
    match tensor.dtype() {
        DType::F16 | DType::BF16 => Flex::float_cast(tensor, FloatDType::F32),
        _ => tensor,
    }
}

pub(crate) fn from_native(tensor: FlexTensor, dtype: DType) -> FlexTensor {
    match dtype {
        DType::F16 => Flex::float_cast(tensor, FloatDType::F16),
        DType::BF16 => Flex::float_cast(tensor, FloatDType::BF16),
        _ => tensor,
    }
}

/// A tensor over `data`, which is laid out as `shape` says.
pub(crate) fn contiguous<E: Scalar>(data: Vec<E>, shape: Shape) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(data), Layout::contiguous(shape), E::dtype())
}

/// `x [tokens, n]` itself if its rows are contiguous, a copy elsewhere.
pub(crate) fn with_rows<E: Scalar>(x: FlexTensor) -> FlexTensor {
    if Matrix::<E>::of(&x, 0).has_contiguous_rows() { x } else { x.to_contiguous() }
}

/// The elements of a tensor whose storage is dense, in storage order.
pub(crate) fn dense_slice<E: Scalar>(tensor: &FlexTensor) -> &[E] {
    let start = tensor.layout().start_offset();
    &tensor.storage::<E>()[start..start + tensor.layout().num_elements()]
}
