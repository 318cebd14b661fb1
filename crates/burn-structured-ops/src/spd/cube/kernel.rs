//! Cholesky factorization (a cube or a unit for each matrix) and substitution (a unit for each right-hand side).
//!
//! Both work in global memory, a panel of columns or rows at a time, so that every value loaded serves as many sums. They use no
//! shared memory, which CubeCL 0.11 cannot use on every device.

use crate::cube::gemm::Strides;
use cubecl::prelude::*;

#[cube]
fn offset(strides: &Strides, row: usize, col: usize) -> usize {
    row * strides.row + col * strides.col
}

/// Waits until all units of the cube see what the others wrote to global memory.
#[cube]
fn sync(#[comptime] units: usize) {
    if comptime!(units > 1) {
        sync_storage();
    }
}

/// `L` with `L Lᵀ = a`, for one matrix a cube of `units` units, or one matrix a unit if that is one.
///
/// Element `(i, j)` of `L` is stored at `j n + i`, next to that of the neighbouring unit.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn factor_kernel<A: Float>(
    a: &Tensor<A>,
    factor: &mut Tensor<A>,
    a_strides: &Strides,
    n: usize,
    matrices: usize,
    // Not all compilers take it as a literal.
    nan: InputScalar,
    #[comptime] units: usize,
    #[comptime] panel: usize,
    #[define(A)] _dtype: ElemType,
) {
    let matrix = if comptime!(units == 1) { ABSOLUTE_POS } else { CUBE_POS };
    // The same for all units of a cube, which therefore all reach the barriers below or none.
    if matrix >= matrices {
        terminate!();
    }
    let unit = UNIT_POS as usize % units;
    let base = matrix * n * n;
    let a_base = matrix * a_strides.batch;

    for index in 0..n.div_ceil(panel) {
        let first = index * panel;

        // What the columns so far leave of the panel.
        let mut row = first + unit;
        while row < n {
            let mut sums = Array::<A>::new(panel);
            #[unroll]
            for c in 0..panel {
                sums[c] = A::new(0.0);
            }
            for k in 0..first {
                let value = factor[base + k * n + row];
                #[unroll]
                for c in 0..panel {
                    // Beyond the edge, the last row is taken again and the sum not stored.
                    sums[c] += value * factor[base + k * n + min(first + c, n - 1)];
                }
            }
            #[unroll]
            for c in 0..panel {
                if first + c <= row {
                    factor[base + (first + c) * n + row] = a[a_base + offset(a_strides, row, first + c)] - sums[c];
                }
            }
            row += units;
        }
        sync(units);

        // Every unit factors the block on the diagonal for itself. Beyond the edge, its last row is taken again, and what
        // comes of that is not stored.
        let mut block = Array::<A>::new(comptime!(panel * panel));
        #[unroll]
        for r in 0..panel {
            #[unroll]
            for c in 0..comptime!(r + 1) {
                block[r * panel + c] = factor[base + min(first + c, n - 1) * n + min(first + r, n - 1)];
            }
        }
        sync(units);
        #[unroll]
        for c in 0..panel {
            #[unroll]
            for r in c..panel {
                let mut value = block[r * panel + c];
                #[unroll]
                for k in 0..c {
                    value -= block[r * panel + k] * block[c * panel + k];
                }
                block[r * panel + c] =
                    if comptime!(r == c) { root::<A>(value, nan.get::<A>()) } else { value / block[c * panel + c] };
            }
        }

        // The rows of the panel, those of the block itself among them.
        let mut row = first + unit;
        while row < n {
            let mut values = Array::<A>::new(panel);
            #[unroll]
            for c in 0..panel {
                let mut value = factor[base + min(first + c, n - 1) * n + row];
                #[unroll]
                for k in 0..c {
                    value -= values[k] * block[c * panel + k];
                }
                values[c] = value / block[c * panel + c];
            }
            #[unroll]
            for c in 0..panel {
                if first + c <= row {
                    factor[base + (first + c) * n + row] = values[c];
                }
            }
            row += units;
        }
        sync(units);
    }
}

/// The square root of a positive number; NaN of anything else, which then spreads over the rest of the matrix.
#[cube]
fn root<A: Float>(pivot: A, nan: A) -> A {
    let positive = pivot > A::new(0.0) && pivot <= A::max_value();
    select(positive, pivot.sqrt(), nan)
}

/// `x` with `L Lᵀ x = b`, one unit for each column of `x [batch, n, k]`.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn substitute_kernel<A: Float>(
    factor: &Tensor<A>,
    b: &Tensor<A>,
    x: &mut Tensor<A>,
    factor_strides: &Strides,
    b_strides: &Strides,
    n: usize,
    k: usize,
    columns: usize,
    #[comptime] panel: usize,
    #[define(A)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= columns {
        terminate!();
    }
    let (matrix, column) = (ABSOLUTE_POS / k, ABSOLUTE_POS % k);
    let l_base = matrix * factor_strides.batch;
    let b_base = matrix * b_strides.batch + column * b_strides.col;
    let x_base = matrix * n * k + column;
    let panels = n.div_ceil(panel);

    for index in 0..panels {
        let first = index * panel;
        let mut values = Array::<A>::new(panel);
        #[unroll]
        for r in 0..panel {
            values[r] = b[b_base + min(first + r, n - 1) * b_strides.row];
        }
        for j in 0..first {
            let solved = x[x_base + j * k];
            #[unroll]
            for r in 0..panel {
                values[r] -= factor[l_base + offset(factor_strides, min(first + r, n - 1), j)] * solved;
            }
        }
        #[unroll]
        for r in 0..panel {
            let row = min(first + r, n - 1);
            let mut value = values[r];
            #[unroll]
            for j in 0..r {
                value -= factor[l_base + offset(factor_strides, row, min(first + j, n - 1))] * values[j];
            }
            values[r] = value / factor[l_base + offset(factor_strides, row, row)];
            if first + r < n {
                x[x_base + row * k] = values[r];
            }
        }
    }

    for done in 0..panels {
        let first = (panels - 1 - done) * panel;
        let mut values = Array::<A>::new(panel);
        #[unroll]
        for r in 0..panel {
            // Zero beyond the edge, so that the rows before it have nothing to subtract.
            values[r] = select(first + r < n, x[x_base + min(first + r, n - 1) * k], A::new(0.0));
        }
        for j in first + panel..n {
            let solved = x[x_base + j * k];
            #[unroll]
            for r in 0..panel {
                values[r] -= factor[l_base + offset(factor_strides, j, min(first + r, n - 1))] * solved;
            }
        }
        #[unroll]
        for turn in 0..panel {
            let r = comptime!(panel - 1 - turn);
            if first + r < n {
                let row = first + r;
                let mut value = values[r];
                #[unroll]
                for j in comptime!(r + 1)..panel {
                    value -= factor[l_base + offset(factor_strides, min(first + j, n - 1), row)] * values[j];
                }
                values[r] = value / factor[l_base + offset(factor_strides, row, row)];
                x[x_base + row * k] = values[r];
            }
        }
    }
}
