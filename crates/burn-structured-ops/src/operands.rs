//! Checks of operands, shared by all backends: unchecked kernels rely on them.

use burn::backend::TensorMetadata;
use burn::tensor::Shape;

/// Checks the operands of a stage: one dtype, and shapes that `output` accepts.
///
/// # Panics
///
/// If the dtypes differ, or `output` panics.
pub(crate) fn check<T: TensorMetadata, const N: usize>(output: impl FnOnce([&Shape; N]) -> Shape, operands: [&T; N]) {
    let dtypes = operands.map(TensorMetadata::dtype);
    assert!(dtypes.iter().all(|dtype| *dtype == dtypes[0]), "operands must have the same dtype, got {dtypes:?}");
    output(operands.map(TensorMetadata::shape).each_ref());
}

/// The sizes of an operand that must have `D` axes.
pub(crate) fn axes<const D: usize>(stage: &str, name: &str, shape: &Shape) -> [usize; D] {
    assert_eq!(shape.rank(), D, "{stage}: `{name}` must have {D} axes, got {shape:?}");
    std::array::from_fn(|axis| shape[axis])
}
