//! Folding and unfolding rows, as a kernel.

use crate::gemm::fold::{FoldSizes, RotationKind, folded, unfolded};
use cubecl::prelude::*;

/// `out [rows, width] = fold(x [rows, n])`, or with `inverse` `out [rows, n] = unfold(x [rows, w])`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn fold_kernel<T: Float, A: Float>(
    x: &Tensor<T>,
    out: &mut Tensor<T>,
    row_stride: usize,
    col_stride: usize,
    out_width: usize,
    units: usize,
    output_block: usize,
    sizes: &FoldSizes,
    #[comptime] kind: RotationKind,
    #[comptime] inverse: bool,
    #[define(T, A)] _dtypes: [ElemType; 2],
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let offset = ABSOLUTE_POS / out_width * row_stride;
    let col = ABSOLUTE_POS % out_width;
    let value = if comptime!(inverse) {
        unfolded::<T, A>(x, offset, col_stride, col, output_block, sizes, kind)
    } else {
        folded::<T, A>(x, offset, col_stride, col, output_block, sizes, kind)
    };
    out[ABSOLUTE_POS] = T::cast_from(value);
}
