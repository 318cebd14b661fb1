//! Numbers from the bytes of a tensor.

use half::{bf16, f16};
use safetensors::Dtype;

/// The float types that can be read.
pub(crate) const FLOATS: &str = "F64, F32, F16 and BF16";

/// Whether the type is one of [`FLOATS`].
pub(crate) fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// Values of a float type; `None` of another one.
pub(crate) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    Some(match dtype {
        Dtype::F32 => decode(bytes, f32::from_le_bytes),
        Dtype::F64 => decode(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        Dtype::F16 => decode(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
        Dtype::BF16 => decode(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        _ => return None,
    })
}

/// The bytes of `values` in a float type; `None` for another one.
#[cfg(feature = "burn")]
pub(crate) fn from_f32(dtype: Dtype, values: &[f32]) -> Option<Vec<u8>> {
    Some(match dtype {
        Dtype::F32 => encode(values, f32::to_le_bytes),
        Dtype::F64 => encode(values, |value| f64::from(value).to_le_bytes()),
        Dtype::F16 => encode(values, |value| f16::from_f32(value).to_le_bytes()),
        Dtype::BF16 => encode(values, |value| bf16::from_f32(value).to_le_bytes()),
        _ => return None,
    })
}

/// Values of an integer type; `None` of another one, or of numbers above `i64::MAX`.
#[cfg(feature = "burn")]
pub(crate) fn to_i64(dtype: Dtype, bytes: &[u8]) -> Option<Vec<i64>> {
    Some(match dtype {
        Dtype::I8 => decode(bytes, |bytes| i8::from_le_bytes(bytes).into()),
        Dtype::U8 => decode(bytes, |bytes| u8::from_le_bytes(bytes).into()),
        Dtype::I16 => decode(bytes, |bytes| i16::from_le_bytes(bytes).into()),
        Dtype::U16 => decode(bytes, |bytes| u16::from_le_bytes(bytes).into()),
        Dtype::I32 => decode(bytes, |bytes| i32::from_le_bytes(bytes).into()),
        Dtype::U32 => decode(bytes, |bytes| u32::from_le_bytes(bytes).into()),
        Dtype::I64 => decode(bytes, i64::from_le_bytes),
        _ => return None,
    })
}

fn decode<const N: usize, T>(bytes: &[u8], value: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|chunk| value(*chunk)).collect()
}

#[cfg(feature = "burn")]
fn encode<const N: usize>(values: &[f32], bytes: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| bytes(*value)).collect()
}
