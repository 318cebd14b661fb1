//! Tokens as tensors.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Sequences, and the token that follows each of theirs.
#[derive(Clone, Debug)]
pub struct TokenBatch {
    /// Tokens `[batch, context]`.
    pub inputs: Tensor<2, Int>,
    /// The next tokens `[batch, context]`.
    pub targets: Tensor<2, Int>,
}

impl TokenBatch {
    /// Rows of `context + 1` tokens each.
    pub(crate) fn new(rows: &[Vec<u32>], device: &Device) -> Self {
        let context = rows.first().map_or(0, |row| row.len() - 1);
        Self { inputs: columns(rows, 0, context, device), targets: columns(rows, 1, context, device) }
    }
}

/// The `count` tokens from position `start` of every row.
pub(super) fn columns(rows: &[Vec<u32>], start: usize, count: usize, device: &Device) -> Tensor<2, Int> {
    let tokens: Vec<i64> =
        rows.iter().flat_map(|row| &row[start..start + count]).map(|token| i64::from(*token)).collect();
    Tensor::from_data(TensorData::new(tokens, [rows.len(), count]), device)
}
