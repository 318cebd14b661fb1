//! The coupling on tensor cores, for many blocks.
//!
//! For each `k` of the rank, `t_i = Σ_j s_ij z_j` is a product of the matrix `s[:, :, k]` with the column `z[:, token, k]` for every
//! token. With sixteen blocks either way it has as many multiplications as the instructions that ordinary arithmetic can issue in
//! the time that memory needs for `z` and `t`; as tiles of 16 × 16 by 16 × 8 tokens there are a tenth as many instructions.

use crate::cube::gemm::tensor_core::{MmaBackend, PLANE, TILE_COLS, TILE_K, TILE_ROWS, VECTOR};
use cubecl::cmma::MmaDefinition;
use cubecl::prelude::*;

/// Blocks of a tile, on either side.
pub(super) const TILE_BLOCKS: usize = TILE_ROWS;
/// Tokens of a tile.
pub(super) const TILE_TOKENS: usize = TILE_COLS;
/// Elements of shared memory for the two tiles of a plane, where the instruction is emulated.
const SCRATCH: usize = (TILE_ROWS + TILE_COLS) * TILE_K;

/// `t_i = Σ_j s_ij ∘ z_j` for at most [`TILE_BLOCKS`] blocks on either side.
///
/// Each of `planes` (a power of two, at most eight) has a vector of the rank, for which it keeps all of `s` in registers while it goes through the tokens of its cube, a
/// tile at a time. A unit loads the vector of four `z_j` of one token, of which element `k` is its share of the tile of `k`,
/// and ends up with the vectors of two `t_i` of two tokens. These go through shared memory, to be written in whole lines.
/// `rank` and `s_*_stride` are in vectors.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn couple_tiles_kernel<T: Float, N: Size>(
    z: &Tensor<Vector<T, N>>,
    s: &Tensor<Vector<T, N>>,
    t: &mut Tensor<Vector<T, N>>,
    out_blocks: usize,
    in_blocks: usize,
    tokens: usize,
    rank: usize,
    s_output_stride: usize,
    s_input_stride: usize,
    tiles: usize,
    cubes: usize,
    #[comptime] planes: usize,
    #[comptime] mma: MmaBackend,
    #[define(T)] _dtype: ElemType,
) {
    // The same for all units of a cube, which therefore all reach the barriers below or none.
    if CUBE_POS >= cubes {
        terminate!();
    }
    let chunks = rank.div_ceil(planes);
    let chunk = CUBE_POS % chunks;
    let first_tile = CUBE_POS / chunks * tiles;
    let end_tile = min(first_tile + tiles, tokens.div_ceil(TILE_TOKENS));
    let plane = UNIT_POS as usize / PLANE;
    let lane = UNIT_POS as usize % PLANE;
    let (row, pair) = (lane / 4, lane % 4 * 2);
    // Beyond the rank, its last vector again, which is not stored.
    let k = min(chunk * planes + plane, rank - 1);

    let mut scales = Sequence::<Array<Vector<T, Const<2>>>>::new();
    #[unroll]
    for _ in 0..VECTOR {
        scales.push(Array::<Vector<T, Const<2>>>::new(4usize));
    }
    #[unroll]
    for register in 0..4usize {
        let i = row + comptime!(register % 2 * (TILE_BLOCKS / 2));
        let j = pair + comptime!(register / 2 * (TILE_BLOCKS / 2));
        let mut vectors = Array::<Vector<T, N>>::new(2usize);
        #[unroll]
        for side in 0..2usize {
            let mut vector = Vector::<T, N>::new(T::new(0.0));
            if i < out_blocks && j + side < in_blocks {
                vector = s[i * s_output_stride + (j + side) * s_input_stride + k];
            }
            vectors[side] = vector;
        }
        #[unroll]
        for element in 0..VECTOR {
            let mut values = Vector::<T, Const<2>>::new(T::new(0.0));
            values.insert(0usize, vectors[0].extract(element));
            values.insert(1usize, vectors[1].extract(element));
            let into = scales.index_mut(element);
            into[register] = values;
        }
    }

    let mut epilogue_smem =
        Shared::<[Vector<T, N>]>::new_aligned_slice(comptime!(TILE_BLOCKS * TILE_TOKENS * planes), 128usize);
    let mut scratch =
        Shared::<[T]>::new_slice(comptime!(if mma == MmaBackend::Emulated { SCRATCH * planes } else { 1 }));
    let mut next = Array::<Vector<T, N>>::new(4usize);
    load_tile::<T, N>(z, &mut next, first_tile, row, pair, k, in_blocks, tokens, rank);
    for tile in first_tile..end_tile {
        let mut loaded = Array::<Vector<T, N>>::new(4usize);
        #[unroll]
        for i in 0..4usize {
            loaded[i] = next[i];
        }
        load_tile::<T, N>(z, &mut next, tile + 1, row, pair, k, in_blocks, tokens, rank);
        let mut coupled = Array::<Vector<T, N>>::new(4usize);
        #[unroll]
        for i in 0..4usize {
            coupled[i] = Vector::new(T::new(0.0));
        }
        #[unroll]
        for element in 0..VECTOR {
            let mut values = Array::<Vector<T, Const<2>>>::new(2usize);
            #[unroll]
            for register in 0..2usize {
                let mut pair = Vector::<T, Const<2>>::new(T::new(0.0));
                pair.insert(0usize, loaded[comptime!(2 * register)].extract(element));
                pair.insert(1usize, loaded[comptime!(2 * register + 1)].extract(element));
                values[register] = pair;
            }
            let mut sums = Array::<Vector<f32, Const<2>>>::new(2usize);
            sums[0] = Vector::new(0.0f32);
            sums[1] = Vector::new(0.0f32);
            multiply_tiles::<T>(&scales[element], &values, &mut sums, &mut scratch, mma);
            #[unroll]
            for i in 0..4usize {
                let value = T::cast_from(sums[comptime!(i / 2)].extract(comptime!(i % 2)));
                let mut vector = coupled[i];
                vector.insert(element, value);
                coupled[i] = vector;
            }
        }
        #[unroll]
        for i in 0..4usize {
            let block = row + comptime!(i / 2 * (TILE_BLOCKS / 2));
            let offset = block * TILE_TOKENS + pair + comptime!(i % 2);
            epilogue_smem[offset * planes + (plane ^ swizzle(block, pair, planes))] = coupled[i];
        }
        sync_cube();
        #[unroll]
        for round in 0..comptime!(TILE_BLOCKS * TILE_TOKENS / PLANE) {
            let index = UNIT_POS as usize + comptime!(round * PLANE * planes);
            let (offset, vector) = (index / planes, index % planes);
            let (block, token) = (offset / TILE_TOKENS, offset % TILE_TOKENS);
            let (all_token, all_vector) = (tile * TILE_TOKENS + token, chunk * planes + vector);
            if block < out_blocks && all_token < tokens && all_vector < rank {
                t[(block * tokens + all_token) * rank + all_vector] =
                    epilogue_smem[offset * planes + (vector ^ swizzle(block, token, planes))];
            }
        }
        sync_cube();
    }
}

/// Adds the product of a left and a right tile to the sums of a plane, of which each unit has its share.
///
/// With `g` a fourth of the unit's index in its plane and `p` twice the rest, a unit has of the left tile rows `g` and `g + 8`, by turns, at
/// depths `p` and `p + 1`, then the same at depths eight further; of the right tile depths `p` and `p + 1`, then eight further, at
/// column `g`; of the sums rows `g` and `g + 8` at columns `p` and `p + 1` (NVIDIA, *PTX ISA*, §9.7.14, `mma.m16n8k16`).
#[cube]
fn multiply_tiles<T: Float>(
    lhs: &Array<Vector<T, Const<2>>>,
    rhs: &Array<Vector<T, Const<2>>>,
    sums: &mut Array<Vector<f32, Const<2>>>,
    scratch: &mut Shared<[T]>,
    #[comptime] mma: MmaBackend,
) {
    if comptime!(mma == MmaBackend::Instruction) {
        MmaDefinition::<T, T, f32>::new(TILE_ROWS, TILE_COLS, TILE_K).execute_inplace(lhs, rhs, sums);
    } else {
        let lane = UNIT_POS as usize % PLANE;
        let (row, pair) = (lane / 4, lane % 4 * 2);
        let lhs_tile = UNIT_POS as usize / PLANE * SCRATCH;
        let rhs_tile = lhs_tile + comptime!(TILE_ROWS * TILE_K);
        #[unroll]
        for side in 0..2usize {
            #[unroll]
            for register in 0..4usize {
                let offset = (row + comptime!(register % 2 * 8)) * TILE_K + pair + comptime!(register / 2 * 8 + side);
                scratch[lhs_tile + offset] = lhs[register].extract(side);
            }
            #[unroll]
            for register in 0..2usize {
                let offset = (pair + comptime!(register * 8 + side)) * TILE_COLS + row;
                scratch[rhs_tile + offset] = rhs[register].extract(side);
            }
        }
        sync_cube();
        #[unroll]
        for half in 0..2usize {
            let mut both = sums[half];
            #[unroll]
            for side in 0..2usize {
                let mut sum = both.extract(side);
                for kk in 0..TILE_K {
                    let left = scratch[lhs_tile + (row + comptime!(half * 8)) * TILE_K + kk];
                    let right = scratch[rhs_tile + kk * TILE_COLS + pair + side];
                    sum += f32::cast_from(left) * f32::cast_from(right);
                }
                both.insert(side, sum);
            }
            sums[half] = both;
        }
        sync_cube();
    }
}

/// The permutation of a row's vectors in shared memory, so that what a plane stores at once is in different banks.
#[cube]
fn swizzle(block: usize, token: usize, #[comptime] planes: usize) -> usize {
    (token / 2 + block % 2 * 4) % planes
}

/// Loads a unit's share of a tile: the vectors of four `z_j` of one token, zeros beyond the last block.
#[cube]
fn load_tile<T: Float, N: Size>(
    z: &Tensor<Vector<T, N>>,
    values: &mut Array<Vector<T, N>>,
    tile: usize,
    row: usize,
    pair: usize,
    k: usize,
    in_blocks: usize,
    tokens: usize,
    rank: usize,
) {
    // Beyond the last token, the last one again, whose result is not stored.
    let token = min(tile * TILE_TOKENS + row, tokens - 1);
    #[unroll]
    for i in 0..4usize {
        let j = pair + comptime!(i / 2 * (TILE_BLOCKS / 2) + i % 2);
        let mut value = Vector::<T, N>::new(T::new(0.0));
        if j < in_blocks {
            value = z[(j * tokens + token) * rank + k];
        }
        values[i] = value;
    }
}
