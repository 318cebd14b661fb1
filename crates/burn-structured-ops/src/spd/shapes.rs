//! Output types, which fusion needs before anything is computed.

use burn::tensor::DType;

/// The type in which systems of `dtype` are solved.
pub(super) fn computed(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// The matrices that `x [batch, n, k]` solves for.
#[cfg(feature = "fusion")]
pub(super) fn square(x: &burn::tensor::Shape) -> burn::tensor::Shape {
    burn::tensor::Shape::new([x[0], x[1], x[1]])
}
