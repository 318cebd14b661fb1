//! The second of two launches: `y` of up to 8 tokens from `t`, by one reading of `U`.
//!
//! Units are `lanes` along the rank, which read a row of `U_i` in vectors, by `planes` that take rows of their own, a few at a
//! time so that enough loads are in flight.

use super::sizes::DecodeSizes;
use crate::cube::gemm::Strides;
use cubecl::prelude::*;

/// The cube of the second launch: fixed when the kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ExpandCube {
    /// Units along the rank, of a vector each.
    pub(super) lanes: usize,
    /// Elements of a vector.
    pub(super) vector: usize,
    /// Output rows that are worked on at once.
    pub(super) planes: usize,
    /// Output rows of a unit.
    pub(super) rows: usize,
    /// Capacity in tokens; the product may have fewer.
    pub(super) tokens: usize,
    /// Vectors of a row that a unit loads before it uses the first of them.
    pub(super) in_flight: usize,
}

impl ExpandCube {
    pub(super) fn units(&self) -> usize {
        self.lanes * self.planes
    }

    /// Output rows of a cube.
    pub(super) fn height(&self) -> usize {
        self.planes * self.rows
    }

    /// Values in shared memory: what each unit has of its rows.
    pub(super) fn shared(&self) -> usize {
        self.units() * self.rows * self.tokens
    }
}

/// `y_i = t_i U_iᵀ + bias_i`, a cube for `cube.height()` output rows. The strides of `u` are in vectors; `t` is contiguous.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn decode_expand_kernel<T: Float, A: Float, N: Size>(
    t: &Tensor<Vector<T, N>>,
    u: &Tensor<Vector<T, N>>,
    bias: &Tensor<T>,
    y: &mut Tensor<T>,
    u_strides: &Strides,
    bias_stride: usize,
    sizes: &DecodeSizes,
    cubes: usize,
    #[comptime] cube: ExpandCube,
    #[comptime] has_bias: bool,
    #[define(T, A)] _dtypes: [ElemType; 2],
) {
    // The same for all units of a cube, which therefore all reach the barrier below or none.
    if CUBE_POS >= cubes {
        terminate!();
    }
    let (units, lanes, planes) = comptime!((cube.units(), cube.lanes, cube.planes));
    let (rows, tokens, height) = comptime!((cube.rows, cube.tokens, cube.height()));
    let unit = UNIT_POS as usize;
    let (lane, plane) = (unit % lanes, unit / lanes);
    let down = sizes.out_rows.div_ceil(height);
    let block = CUBE_POS / down;
    let first_row = CUBE_POS % down * height;
    let vectors = sizes.rank / comptime!(cube.vector);

    let mut partials = Shared::<[A]>::new_slice(comptime!(cube.shared()));
    let mut sums = Array::<A>::new(comptime!(rows * tokens));
    #[unroll]
    for i in 0..comptime!(rows * tokens) {
        sums[i] = A::new(0.0);
    }
    let mut k = lane;
    while k < vectors {
        let mut weights = Array::<Vector<T, N>>::new(comptime!(rows * cube.in_flight));
        #[unroll]
        for step in 0..comptime!(cube.in_flight) {
            // Beyond the rank, its last vector again, which is not added.
            let position = min(k + step * lanes, vectors - 1) * u_strides.col;
            #[unroll]
            for i in 0..rows {
                let row = min(first_row + i * planes + plane, sizes.out_rows - 1);
                weights[step * rows + i] = u[block * u_strides.batch + row * u_strides.row + position];
            }
        }
        #[unroll]
        for step in 0..comptime!(cube.in_flight) {
            let position = k + step * lanes;
            if position < vectors {
                #[unroll]
                for token in 0..tokens {
                    let start = (block * sizes.tokens + min(token, sizes.tokens - 1)) * vectors;
                    let values = Vector::<A, N>::cast_from(t[start + position]);
                    #[unroll]
                    for i in 0..rows {
                        let products = Vector::<A, N>::cast_from(weights[step * rows + i]) * values;
                        #[unroll]
                        for element in 0..comptime!(cube.vector) {
                            sums[i * tokens + token] += products.extract(element);
                        }
                    }
                }
            }
        }
        k += comptime!(cube.in_flight * lanes);
    }

    #[unroll]
    for i in 0..comptime!(rows * tokens) {
        partials[i * units + unit] = sums[i];
    }
    sync_cube();
    let mut index = unit;
    while index < comptime!(height * tokens) {
        // Neighbouring units write neighbouring rows.
        let (local_row, token) = (index % height, index / height);
        let row = first_row + local_row;
        if token < sizes.tokens && row < sizes.out_rows {
            let start = (local_row / planes * tokens + token) * units + local_row % planes * lanes;
            let mut sum = A::new(0.0);
            #[unroll]
            for lane in 0..lanes {
                // Neighbours begin at different lanes, which lie in different banks.
                sum += partials[start + (lane + index) % lanes];
            }
            let output = block * sizes.out_rows + row;
            if comptime!(has_bias) {
                sum += A::cast_from(bias[output * bias_stride]);
            }
            y[token * (sizes.out_blocks * sizes.out_rows) + output] = T::cast_from(sum);
        }
        index += units;
    }
}
