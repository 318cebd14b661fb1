//! Operands of a product as its tasks see them.

/// Bytes that a row of quantized features is padded to: a register.
const ROW_ALIGN: usize = 64;

/// Quantized inputs: a row for each token of each group.
pub(super) struct QuantizedRows<'a> {
    pub groups: usize,
    pub tokens: usize,
    /// Features of a row.
    pub depth: usize,
    /// From row to row.
    pub stride: usize,
    /// `[groups, tokens, stride]`.
    pub values: &'a mut [i8],
    /// `[groups, tokens]`.
    pub scales: &'a mut [f32],
    /// The sum of the values of each row.
    pub sums: &'a mut [i32],
}

impl<'a> QuantizedRows<'a> {
    /// Elements of f32 that values, scales and sums take.
    pub fn lengths([groups, tokens, depth]: [usize; 3]) -> [usize; 3] {
        [groups * tokens * depth.next_multiple_of(ROW_ALIGN) / 4, groups * tokens, groups * tokens]
    }

    /// Rows in workspaces of such lengths.
    pub fn new([groups, tokens, depth]: [usize; 3], [values, scales, sums]: [&'a mut [f32]; 3]) -> Self {
        let (values, sums) = (bytemuck::cast_slice_mut(values), bytemuck::cast_slice_mut(sums));
        Self { groups, tokens, depth, stride: depth.next_multiple_of(ROW_ALIGN), values, scales, sums }
    }
}

/// A factor: rows of `depth` weights, each with a scale.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    /// `[rows, depth]`.
    pub values: &'a [i8],
    /// `[rows]`.
    pub scales: &'a [f32],
    pub depth: usize,
}

/// Rows of a factor that read the same inputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    /// The group of the inputs.
    pub group: usize,
    /// The first row.
    pub first: usize,
    pub rows: usize,
    /// The output feature of the first row; the others follow.
    pub output: usize,
}

impl Block {
    /// `count` rows from `first` on.
    pub fn part(self, first: usize, count: usize) -> Self {
        Self { first: self.first + first, rows: count, output: self.output + first, ..self }
    }
}

/// Blocks of at most `rows` rows.
pub(super) fn cut(blocks: &[Block], rows: usize) -> Vec<Block> {
    let parts = |block: &Block| {
        let (block, total) = (*block, block.rows);
        (0..total).step_by(rows).map(move |first| block.part(first, rows.min(total - first)))
    };
    blocks.iter().flat_map(parts).collect()
}
