//! The whole product of a few tokens in one launch, for small layers.
//!
//! Every weight is read by neighbouring units along the rank, the contiguous axis of `u`, `s` and `v`.
//!
//! A cube is `lanes` units along the rank by `splits` that share the elements of a sum. In the first half they share the features of
//! `x_j`, and the `z_j` they have in shared memory are coupled as they come; in the second each of the `splits` takes an
//! output row and the lanes share its rank.

use super::sizes::DecodeSizes;
use crate::cube::gemm::Strides;
use cubecl::prelude::*;

/// The cube: fixed when the kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SingleCube {
    pub(super) lanes: usize,
    pub(super) splits: usize,
    /// Capacity in tokens; the product may have fewer.
    pub(super) tokens: usize,
}

impl SingleCube {
    pub(super) fn units(&self) -> usize {
        self.lanes * self.splits
    }

    /// Values in shared memory: the partial sums, and a `t_i` of `rank` for each token.
    pub(super) fn shared(&self, rank: usize) -> usize {
        self.partials() + self.tokens * rank
    }

    /// Partial sums: one of every unit for each token.
    fn partials(&self) -> usize {
        self.units() * self.tokens
    }
}

/// Every cube computes all of `t_i` for its output block, and then its output rows.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn decode_kernel<T: Float, A: Float>(
    x: &Tensor<T>,
    v: &Tensor<T>,
    s: &Tensor<T>,
    u: &Tensor<T>,
    bias: &Tensor<T>,
    y: &mut Tensor<T>,
    x_strides: &Strides,
    v_strides: &Strides,
    s_strides: &Strides,
    u_strides: &Strides,
    bias_stride: usize,
    sizes: &DecodeSizes,
    passes: usize,
    cubes: usize,
    #[comptime] cube: SingleCube,
    #[comptime] rank: usize,
    #[comptime] has_bias: bool,
    #[define(T, A)] _dtypes: [ElemType; 2],
) {
    if CUBE_POS >= cubes {
        terminate!();
    }
    let per_cube = passes * comptime!(cube.splits);
    let down = sizes.out_rows.div_ceil(per_cube);
    let block = CUBE_POS / down;
    let unit = UNIT_POS as usize;
    let lane = unit % comptime!(cube.lanes);
    let mut partials = Shared::<[A]>::new_slice(comptime!(cube.partials()));
    let mut coupled = Shared::<[A]>::new_slice(comptime!(cube.tokens * rank));
    let slices = comptime!(rank.div_ceil(cube.lanes));
    for slice in 0..slices {
        let first_k = slice * comptime!(cube.lanes);
        let sum =
            couple_slice::<T, A>(x, v, s, &mut partials, x_strides, v_strides, s_strides, sizes, first_k, block, cube);
        if unit < comptime!(cube.tokens * cube.lanes) && first_k + lane < rank {
            coupled[unit / comptime!(cube.lanes) * rank + first_k + lane] = sum;
        }
    }
    sync_cube();
    for pass in 0..passes {
        let first_row = (CUBE_POS % down) * per_cube + pass * comptime!(cube.splits);
        let row = first_row + unit / comptime!(cube.lanes);
        let mut sums = Array::<A>::new(comptime!(cube.tokens));
        #[unroll]
        for token in 0..comptime!(cube.tokens) {
            sums[token] = A::new(0.0);
        }
        let offset = block * u_strides.batch + min(row, sizes.out_rows - 1) * u_strides.row;
        let mut k = lane;
        while k < rank {
            let weight = A::cast_from(u[offset + k * u_strides.col]);
            #[unroll]
            for token in 0..comptime!(cube.tokens) {
                sums[token] += weight * coupled[token * rank + k];
            }
            k += comptime!(cube.lanes);
        }
        store_rows::<T, A>(&sums, &mut partials, bias, y, bias_stride, sizes, block, first_row, cube, has_bias);
    }
}

/// `Σ_j s_ij z_j` for the output block `i = block` and `lanes` of the rank: unit `token · lanes + lane` ends up with that of its
/// token and lane.
///
/// All units of a cube must call it together.
#[cube]
fn couple_slice<T: Float, A: Float>(
    x: &Tensor<T>,
    v: &Tensor<T>,
    s: &Tensor<T>,
    partials: &mut Shared<[A]>,
    x_strides: &Strides,
    v_strides: &Strides,
    s_strides: &Strides,
    sizes: &DecodeSizes,
    first_k: usize,
    block: usize,
    #[comptime] cube: SingleCube,
) -> A {
    let unit = UNIT_POS as usize;
    // Beyond the rank, its last element again; what it gives is not stored.
    let k = min(first_k + unit % comptime!(cube.lanes), sizes.rank - 1);
    let split = unit / comptime!(cube.lanes);
    let mut sum = A::new(0.0);
    for j in 0..sizes.in_blocks {
        let mut partial = Array::<A>::new(comptime!(cube.tokens));
        #[unroll]
        for token in 0..comptime!(cube.tokens) {
            partial[token] = A::new(0.0);
        }
        let mut feature = split;
        while feature < sizes.features {
            let weight = A::cast_from(v[j * v_strides.batch + feature * v_strides.row + k * v_strides.col]);
            #[unroll]
            for token in 0..comptime!(cube.tokens) {
                let row = min(token, sizes.tokens - 1) * x_strides.row;
                partial[token] += weight * A::cast_from(x[j * x_strides.batch + row + feature * x_strides.col]);
            }
            feature += comptime!(cube.splits);
        }
        #[unroll]
        for token in 0..comptime!(cube.tokens) {
            partials[split * comptime!(cube.tokens * cube.lanes)
                + token * comptime!(cube.lanes)
                + unit % comptime!(cube.lanes)] = partial[token];
        }
        sync_cube();
        if unit < comptime!(cube.tokens * cube.lanes) {
            let mut z = A::new(0.0);
            for part in 0..comptime!(cube.splits) {
                z += partials[part * comptime!(cube.tokens * cube.lanes) + unit];
            }
            let scale = s[block * s_strides.batch + j * s_strides.row + k * s_strides.col];
            sum += A::cast_from(scale) * z;
        }
        sync_cube();
    }
    sum
}

/// Adds up the lanes' sums of `splits` output rows, and writes them with their bias.
///
/// All units of a cube must call it together.
#[cube]
fn store_rows<T: Float, A: Float>(
    sums: &Array<A>,
    partials: &mut Shared<[A]>,
    bias: &Tensor<T>,
    y: &mut Tensor<T>,
    bias_stride: usize,
    sizes: &DecodeSizes,
    block: usize,
    first_row: usize,
    #[comptime] cube: SingleCube,
    #[comptime] has_bias: bool,
) {
    let unit = UNIT_POS as usize;
    let split = unit / comptime!(cube.lanes);
    #[unroll]
    for token in 0..comptime!(cube.tokens) {
        partials[(token * comptime!(cube.splits) + split) * comptime!(cube.lanes) + unit % comptime!(cube.lanes)] =
            sums[token];
    }
    sync_cube();
    // Neighbouring units write neighbouring rows.
    let token = unit / comptime!(cube.splits);
    let row = first_row + unit % comptime!(cube.splits);
    if token < sizes.tokens && row < sizes.out_rows {
        let mut sum = A::new(0.0);
        for lane in 0..comptime!(cube.lanes) {
            sum += partials[unit * comptime!(cube.lanes) + lane];
        }
        let output = block * sizes.out_rows + row;
        if comptime!(has_bias) {
            sum += A::cast_from(bias[output * bias_stride]);
        }
        y[token * (sizes.out_blocks * sizes.out_rows) + output] = T::cast_from(sum);
    }
    sync_cube();
}
