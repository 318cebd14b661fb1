//! The tensor-core GEMM kernel: planes multiply tiles in shared memory while the next tiles are loaded.

use super::mma_backend::MmaBackend;
use super::stage::{element, fetch, lhs_position, rhs_position, starts, store};
use super::tiling::{Contiguous, PLANE, STAGES, Side, TILE_COLS, TILE_K, TILE_ROWS, Tiling, VECTOR};
use crate::cube::gemm::Strides;
use cubecl::cmma::{MatrixIdent, MmaDefinition};
use cubecl::prelude::*;

/// The sizes of a product, and of the batches of it.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct ProductSizes {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) k: usize,
    pub(super) cubes: usize,
}

/// `out_b = lhs_b rhs_b + bias_b` for `[m, k] × [k, n]`, sums in f32.
///
/// Each plane has the sums of its part of the cube's tile in the registers of its units, where the device's matrix
/// instructions expect them. Loads are pipelined: a step of [`Tiling::depth`] along `k` is read from memory into registers
/// three steps ahead, stored to one of [`STAGES`] parts of shared memory two steps ahead, and loaded from there into the
/// registers of the matrix instructions a few of them ahead, so that one barrier a step is enough.
///
/// Strides are in elements, all of them multiples of [`VECTOR`] but those along the contiguous axes; `bias` has a row of `n`
/// for each batch.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn tensor_core_gemm_kernel<T: Float, N: Size>(
    lhs: &Tensor<Vector<T, N>>,
    rhs: &Tensor<Vector<T, N>>,
    bias: &Tensor<T>,
    out: &mut Tensor<Vector<T, N>>,
    lhs_strides: &Strides,
    rhs_strides: &Strides,
    out_strides: &Strides,
    bias_stride: usize,
    sizes: &ProductSizes,
    #[comptime] tiling: Tiling,
    #[comptime] contiguous: [Contiguous; 2],
    #[comptime] has_bias: bool,
    #[comptime] mma: MmaBackend,
    #[define(T)] _dtype: ElemType,
) {
    // The same for all units of a cube, which therefore all reach the barriers below or none.
    if CUBE_POS >= sizes.cubes {
        terminate!();
    }
    let (height, width, units) = comptime!((tiling.height(), tiling.width(), tiling.units()));
    let (lhs_side, rhs_side) = comptime!((tiling.lhs(contiguous[0]), tiling.rhs(contiguous[1])));
    let (lhs_vectors, rhs_vectors, depth) = comptime!((lhs_side.vectors(), rhs_side.vectors(), tiling.depth));
    let across = sizes.cols.div_ceil(width);
    let down = sizes.rows.div_ceil(height);
    let first_col = (CUBE_POS % across) * width;
    let first_row = (CUBE_POS / across % down) * height;
    let batch = CUBE_POS / (across * down);

    let mut lhs_stages = Shared::<[Vector<T, N>]>::new_aligned_slice(comptime!(STAGES * lhs_vectors), 128usize);
    let mut rhs_stages = Shared::<[Vector<T, N>]>::new_aligned_slice(comptime!(STAGES * rhs_vectors), 128usize);
    let mut lhs_next = Array::<Vector<T, N>>::new(comptime!(lhs_vectors / units));
    let mut rhs_next = Array::<Vector<T, N>>::new(comptime!(rhs_vectors / units));
    let mut lhs_at =
        starts(batch * lhs_strides.batch, lhs_strides.row, lhs_strides.col, first_row, sizes.rows, lhs_side);
    let mut rhs_at =
        starts(batch * rhs_strides.batch, rhs_strides.col, rhs_strides.row, first_col, sizes.cols, rhs_side);
    let (lhs_step, rhs_step) = (depth * lhs_strides.col / VECTOR, depth * rhs_strides.row / VECTOR);

    let mut sums = Sequence::<Array<Vector<f32, Const<2>>>>::new();
    #[unroll]
    for _ in 0..comptime!(tiling.rows * tiling.cols) {
        let mut zeros = Array::<Vector<f32, Const<2>>>::new(2usize);
        zeros[0] = Vector::new(0.0f32);
        zeros[1] = Vector::new(0.0f32);
        sums.push(zeros);
    }
    let mut lhs_tiles = Sequence::<Array<Vector<T, Const<2>>>>::new();
    #[unroll]
    for _ in 0..comptime!(2 * tiling.rows) {
        lhs_tiles.push(Array::<Vector<T, Const<2>>>::new(4usize));
    }
    let mut rhs_tiles = Sequence::<Array<Vector<T, Const<2>>>>::new();
    #[unroll]
    for _ in 0..4usize {
        rhs_tiles.push(Array::<Vector<T, Const<2>>>::new(2usize));
    }

    let plane = UNIT_POS as usize / PLANE;
    let plane_row = plane / comptime!(tiling.planes_n) * comptime!(tiling.rows * TILE_ROWS);
    let plane_col = plane % comptime!(tiling.planes_n) * comptime!(tiling.cols * TILE_COLS);

    #[unroll]
    for step in 0..2usize {
        fetch::<T, N>(lhs, &mut lhs_next, &mut lhs_at, lhs_step, comptime!(step * depth).runtime(), sizes.k, lhs_side);
        fetch::<T, N>(rhs, &mut rhs_next, &mut rhs_at, rhs_step, comptime!(step * depth).runtime(), sizes.k, rhs_side);
        store::<T, N>(&lhs_next, &mut lhs_stages, comptime!(step * lhs_vectors).runtime(), lhs_side);
        store::<T, N>(&rhs_next, &mut rhs_stages, comptime!(step * rhs_vectors).runtime(), rhs_side);
    }
    fetch::<T, N>(lhs, &mut lhs_next, &mut lhs_at, lhs_step, comptime!(2 * depth).runtime(), sizes.k, lhs_side);
    fetch::<T, N>(rhs, &mut rhs_next, &mut rhs_at, rhs_step, comptime!(2 * depth).runtime(), sizes.k, rhs_side);
    sync_cube();
    #[unroll]
    for i in 0..comptime!(tiling.rows) {
        load_lhs::<T, N>(&lhs_stages, &mut lhs_tiles, 0usize.runtime(), plane_row, 0usize, i, tiling, lhs_side, mma);
    }
    load_rhs::<T, N>(&rhs_stages, &mut rhs_tiles, 0usize.runtime(), plane_col, 0usize, tiling, rhs_side, mma);

    let definition = MmaDefinition::<T, T, f32>::new(TILE_ROWS, TILE_COLS, TILE_K);
    let (parts, pairs) = comptime!((depth / TILE_K, tiling.cols / 2));
    let steps = sizes.k.div_ceil(depth);
    let mut stage = 0usize.runtime();
    for step in 0..steps {
        let following = select(stage == comptime!(STAGES - 1), 0, stage + 1);
        let last = select(following == comptime!(STAGES - 1), 0, following + 1);
        #[unroll]
        for turn in 0..comptime!(parts * pairs) {
            let (part, pair) = comptime!((turn / pairs, turn % pairs));
            // The pair of right tiles that comes next, and a share of the left tiles of the next part.
            let then = if comptime!(turn + 1 == parts * pairs) { following } else { stage };
            load_rhs::<T, N>(
                &rhs_stages,
                &mut rhs_tiles,
                then,
                plane_col,
                comptime!((turn + 1) % (parts * pairs)),
                tiling,
                rhs_side,
                mma,
            );
            let then = if comptime!(part + 1 == parts) { following } else { stage };
            #[unroll]
            for i in comptime!(tiling.rows * pair / pairs)..comptime!(tiling.rows * (pair + 1) / pairs) {
                load_lhs::<T, N>(
                    &lhs_stages,
                    &mut lhs_tiles,
                    then,
                    plane_row,
                    comptime!((part + 1) % parts),
                    i,
                    tiling,
                    lhs_side,
                    mma,
                );
            }
            if comptime!(turn == 1) {
                store::<T, N>(&lhs_next, &mut lhs_stages, last * lhs_vectors, lhs_side);
                store::<T, N>(&rhs_next, &mut rhs_stages, last * rhs_vectors, rhs_side);
                let next = (step + comptime!(STAGES)) * depth;
                if next < sizes.k {
                    fetch::<T, N>(lhs, &mut lhs_next, &mut lhs_at, lhs_step, next, sizes.k, lhs_side);
                    fetch::<T, N>(rhs, &mut rhs_next, &mut rhs_at, rhs_step, next, sizes.k, rhs_side);
                }
            }
            #[unroll]
            for side in 0..2usize {
                #[unroll]
                for i in 0..comptime!(tiling.rows) {
                    let tile = sums.index_mut(comptime!(i * tiling.cols + 2 * pair + side));
                    if comptime!(mma == MmaBackend::Instruction) {
                        let (left, right) = comptime!((part % 2 * tiling.rows + i, turn % 2 * 2 + side));
                        definition.execute_inplace(&lhs_tiles[left], &rhs_tiles[right], tile);
                    } else {
                        let row = plane_row + comptime!(i * TILE_ROWS);
                        let col = plane_col + comptime!((2 * pair + side) * TILE_COLS);
                        emulate::<T, N>(&lhs_stages, &rhs_stages, tile, stage, row, col, part, lhs_side, rhs_side);
                    }
                }
            }
        }
        sync_cube();
        stage = following;
    }

    // A unit has two neighbouring columns of two rows of each tile, less than a vector. Each plane transposes its rows through
    // shared memory, a tile high, and stores whole vectors.
    let pitch = comptime!(tiling.pitch());
    let mut epilogue_smem =
        Shared::<[Vector<T, N>]>::new_aligned_slice(comptime!(units / PLANE * TILE_ROWS * pitch / VECTOR), 128usize);
    let plane_start = plane * comptime!(TILE_ROWS * pitch);
    let lane = UNIT_POS as usize % PLANE;
    #[unroll]
    for i in 0..comptime!(tiling.rows) {
        #[unroll]
        for j in 0..comptime!(tiling.cols) {
            let across = comptime!(j * TILE_COLS).runtime() + lane % 4 * 2;
            let mut added = Vector::<f32, Const<2>>::new(0.0f32);
            if comptime!(has_bias) {
                let col = min(first_col + plane_col + across, sizes.cols - 2);
                let start = (batch * sizes.cols + col) * bias_stride;
                added.insert(0usize, f32::cast_from(bias[start]));
                added.insert(1usize, f32::cast_from(bias[start + bias_stride]));
            }
            #[unroll]
            for part in 0..2usize {
                let values = sums[comptime!(i * tiling.cols + j)][part] + added;
                let mut pair = Vector::<T, Const<2>>::new(T::new(0.0));
                pair.insert(0usize, T::cast_from(values.extract(0usize)));
                pair.insert(1usize, T::cast_from(values.extract(1usize)));
                let row = comptime!(part * (TILE_ROWS / 2)).runtime() + lane / 4;
                let pairs = epilogue_smem.with_vector_size_mut::<Const<2>>();
                pairs[(plane_start + row * pitch + across) / 2] = pair;
            }
        }
        sync_units(mma);
        #[unroll]
        for turn in 0..comptime!(TILE_ROWS * tiling.cols / PLANE) {
            let index = lane + comptime!(turn * PLANE);
            let (down, vector) = (index / comptime!(tiling.cols), index % comptime!(tiling.cols));
            let row = first_row + plane_row + comptime!(i * TILE_ROWS) + down;
            let col = first_col + plane_col + vector * VECTOR;
            if row < sizes.rows && col < sizes.cols {
                let start = batch * out_strides.batch + row * out_strides.row + col;
                out[start / VECTOR] = epilogue_smem[(plane_start + down * pitch) / VECTOR + vector];
            }
        }
        sync_units(mma);
    }
}

/// Loads left tile `i` of part `part` of a step into one of the two alternating sets of registers for the matrix instruction.
#[cube]
fn load_lhs<T: Float, N: Size>(
    stages: &Shared<[Vector<T, N>]>,
    tiles: &mut Sequence<Array<Vector<T, Const<2>>>>,
    stage: usize,
    plane_row: usize,
    #[comptime] part: usize,
    #[comptime] i: usize,
    #[comptime] tiling: Tiling,
    #[comptime] side: Side,
    #[comptime] mma: MmaBackend,
) {
    if comptime!(mma == MmaBackend::Instruction) {
        let row = plane_row + comptime!(i * TILE_ROWS);
        let into = tiles.index_mut(comptime!(part % 2 * tiling.rows + i));
        let position = stage * comptime!(side.vectors()) + lhs_position(row, part, side);
        let slice = &stages[position..position + 1];
        let transposed = comptime!(side.contiguous == Contiguous::Across);
        let definition = MmaDefinition::<T, T, f32>::new(TILE_ROWS, TILE_COLS, TILE_K);
        let tile = definition.load_matrix::<_, Const<2>>(slice, MatrixIdent::A, 4usize, transposed);
        #[unroll]
        for register in 0..4usize {
            into[register] = tile[register];
        }
    }
}

/// Loads the right tiles of turn `turn` of a step, two neighbours, into one of the two alternating sets of registers, for the
/// matrix instruction.
#[cube]
fn load_rhs<T: Float, N: Size>(
    stages: &Shared<[Vector<T, N>]>,
    tiles: &mut Sequence<Array<Vector<T, Const<2>>>>,
    stage: usize,
    plane_col: usize,
    #[comptime] turn: usize,
    #[comptime] tiling: Tiling,
    #[comptime] side: Side,
    #[comptime] mma: MmaBackend,
) {
    if comptime!(mma == MmaBackend::Instruction) {
        let (part, pair) = comptime!((turn / (tiling.cols / 2), turn % (tiling.cols / 2)));
        let col = plane_col + comptime!(pair * 2 * TILE_COLS);
        let position = stage * comptime!(side.vectors()) + rhs_position(col, part, side);
        let slice = &stages[position..position + 1];
        let transposed = comptime!(side.contiguous == Contiguous::Across);
        let definition = MmaDefinition::<T, T, f32>::new(TILE_ROWS, TILE_COLS, TILE_K);
        let both = definition.load_matrix::<_, Const<2>>(slice, MatrixIdent::B, 4usize, transposed);
        #[unroll]
        for which in 0..2usize {
            let into = tiles.index_mut(comptime!(turn % 2 * 2 + which));
            into[0] = both[comptime!(2 * which)];
            into[1] = both[comptime!(2 * which + 1)];
        }
    }
}

/// Adds to the sums of a unit what the instruction would, from shared memory.
#[cube]
fn emulate<T: Float, N: Size>(
    lhs_stages: &Shared<[Vector<T, N>]>,
    rhs_stages: &Shared<[Vector<T, N>]>,
    sums: &mut Array<Vector<f32, Const<2>>>,
    stage: usize,
    row: usize,
    col: usize,
    #[comptime] part: usize,
    #[comptime] lhs_side: Side,
    #[comptime] rhs_side: Side,
) {
    let lane = UNIT_POS as usize % PLANE;
    #[unroll]
    for half in 0..2usize {
        let mut both = sums[half];
        #[unroll]
        for which in 0..2usize {
            let mut sum = both.extract(which);
            for step in 0..TILE_K {
                let kk = comptime!(part * TILE_K).runtime() + step;
                let row = row + lane / 4 + comptime!(half * (TILE_ROWS / 2));
                let left = element::<T, N>(lhs_stages, stage, row, kk, lhs_side);
                let right = element::<T, N>(rhs_stages, stage, col + lane % 4 * 2 + which, kk, rhs_side);
                sum += f32::cast_from(left) * f32::cast_from(right);
            }
            both.insert(which, sum);
        }
        sums[half] = both;
    }
}

/// Waits for the other units of a plane.
#[cube]
fn sync_units(#[comptime] mma: MmaBackend) {
    if comptime!(mma == MmaBackend::Instruction) {
        sync_plane();
    } else {
        sync_cube();
    }
}
