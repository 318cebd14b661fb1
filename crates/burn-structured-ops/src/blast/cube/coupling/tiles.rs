//! The coupling on tensor cores, for many blocks.
//!
//! For each `k` of the rank, `t_i = Σ_j s_ij z_j` is a product of the matrix `s[:, :, k]` with the column `z[:, token, k]` for every
//! token. With sixteen blocks either way it has as many multiplications as the instructions that ordinary arithmetic can issue in
//! the time that memory needs for `z` and `t`; as tiles of 16 × 16 by 16 × 8 tokens there are a tenth as many instructions.

use cubecl::cmma::MmaDefinition;
use cubecl::prelude::*;

/// Blocks of a tile, on either side.
pub(super) const TILE_BLOCKS: usize = 16;
/// Tokens of a tile.
pub(super) const TILE_TOKENS: usize = 8;
/// Units that multiply a tile together.
pub(super) const PLANE: usize = 32;
/// Ranks of a plane: a vector of 16 bytes.
pub(super) const VECTOR: usize = 8;

/// Who multiplies the tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Multiply {
    /// The device's matrix instruction.
    Instruction,
    /// The kernel itself, out of shared memory, as the instruction would: a stand-in by which devices without one can test what is
    /// around it.
    #[cfg_attr(not(all(test, feature = "cpu")), allow(dead_code, reason = "only tests need the stand-in"))]
    Emulated,
}

impl Multiply {
    /// Elements of shared memory that a plane needs for it.
    fn scratch(self) -> usize {
        match self {
            Self::Instruction => 1,
            Self::Emulated => TILE_BLOCKS * TILE_BLOCKS + TILE_BLOCKS * TILE_TOKENS,
        }
    }
}

/// `t_i = Σ_j s_ij ∘ z_j` for at most [`TILE_BLOCKS`] blocks on either side.
///
/// Each of `planes` (a power of two, at most eight) has a vector of the rank, for which it keeps all of `s` in registers while it goes through the tokens of its cube, a
/// tile at a time. A unit loads the vector of four `z_j` of one token, of which element `k` is its share of the tile of `k`,
/// and ends up with the vectors of two `t_i` of two tokens. These are laid out in shared memory, to be written in whole lines.
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
    #[comptime] multiply: Multiply,
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

    let mut landing =
        Shared::<[Vector<T, N>]>::new_aligned_slice(comptime!(TILE_BLOCKS * TILE_TOKENS * planes), 128usize);
    let mut scratch = Shared::<[T]>::new_slice(comptime!(multiply.scratch() * planes));
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
            let sums = multiply_tile::<T>(&scales[element], &values, &mut scratch, multiply);
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
            let place = block * TILE_TOKENS + pair + comptime!(i % 2);
            landing[place * planes + (plane ^ turn(block, pair, planes))] = coupled[i];
        }
        sync_cube();
        #[unroll]
        for round in 0..comptime!(TILE_BLOCKS * TILE_TOKENS / PLANE) {
            let index = UNIT_POS as usize + comptime!(round * PLANE * planes);
            let (place, vector) = (index / planes, index % planes);
            let (block, token) = (place / TILE_TOKENS, place % TILE_TOKENS);
            let (all_token, all_vector) = (tile * TILE_TOKENS + token, chunk * planes + vector);
            if block < out_blocks && all_token < tokens && all_vector < rank {
                t[(block * tokens + all_token) * rank + all_vector] =
                    landing[place * planes + (vector ^ turn(block, token, planes))];
            }
        }
        sync_cube();
    }
}

/// The product of a tile of `s` and one of `z`, of which a unit has its share, as the matrix instruction of CUDA wants it.
#[cube]
fn multiply_tile<T: Float>(
    scales: &Array<Vector<T, Const<2>>>,
    values: &Array<Vector<T, Const<2>>>,
    scratch: &mut Shared<[T]>,
    #[comptime] multiply: Multiply,
) -> Array<Vector<f32, Const<2>>> {
    let mut zeros = Array::<Vector<f32, Const<2>>>::new(2usize);
    zeros[0] = Vector::new(0.0f32);
    zeros[1] = Vector::new(0.0f32);
    if comptime!(multiply == Multiply::Instruction) {
        let definition = MmaDefinition::<T, T, f32>::new(TILE_BLOCKS, TILE_TOKENS, TILE_BLOCKS);
        definition.execute(scales, values, &zeros)
    } else {
        let lane = UNIT_POS as usize % PLANE;
        let (row, pair) = (lane / 4, lane % 4 * 2);
        let lhs = UNIT_POS as usize / PLANE * comptime!(multiply.scratch());
        let rhs = lhs + TILE_BLOCKS * TILE_BLOCKS;
        #[unroll]
        for side in 0..2usize {
            #[unroll]
            for register in 0..4usize {
                let i = row + comptime!(register % 2 * 8);
                let j = pair + comptime!(register / 2 * 8 + side);
                scratch[lhs + i * TILE_BLOCKS + j] = scales[register].extract(side);
            }
            #[unroll]
            for register in 0..2usize {
                let j = pair + comptime!(register * 8 + side);
                scratch[rhs + j * TILE_TOKENS + row] = values[register].extract(side);
            }
        }
        sync_cube();
        #[unroll]
        for half in 0..2usize {
            #[unroll]
            for side in 0..2usize {
                let mut sum = 0.0f32;
                for j in 0..TILE_BLOCKS {
                    let scale = f32::cast_from(scratch[lhs + (row + comptime!(half * 8)) * TILE_BLOCKS + j]);
                    sum += scale * f32::cast_from(scratch[rhs + j * TILE_TOKENS + pair + side]);
                }
                let mut sums = zeros[half];
                sums.insert(side, sum);
                zeros[half] = sums;
            }
        }
        sync_cube();
        zeros
    }
}

/// By how much the vectors of a row in shared memory are turned, so that what a plane stores at once lies in different banks.
#[cube]
fn turn(block: usize, token: usize, #[comptime] planes: usize) -> usize {
    (token / 2 + block % 2 * 4) % planes
}

/// Loads a unit's share of a tile: the vectors of four `z_j` of one token, zeros for blocks that there are not.
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
    // Beyond the last token, the last one again; what it gives is not stored.
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
