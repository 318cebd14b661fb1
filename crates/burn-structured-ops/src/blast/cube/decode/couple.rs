//! The first of two launches: `t` for up to 8 tokens, from one reading of `V`.
//!
//! A cube takes a slice of the rank, a sector of memory or two wide, through every row of every `V_j`, in vectors: its
//! units are `lanes` along the slice by `splits` that share the rows out, in groups that work on different `j` at once.
//! What each has of the `z_j` is added up in shared memory, and then coupled.

use super::sizes::DecodeSizes;
use crate::cube::gemm::Strides;
use cubecl::prelude::*;

/// The cube of the first launch: fixed when the kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CoupleCube {
    /// Units along the rank, of a vector each.
    pub(super) lanes: usize,
    /// Elements of a vector.
    pub(super) vector: usize,
    /// Units along the rows.
    pub(super) splits: usize,
    /// Input blocks that are worked on at once; divides `splits`.
    pub(super) groups: usize,
    /// Input blocks.
    pub(super) in_blocks: usize,
    /// Capacity in tokens; the product may have fewer.
    pub(super) tokens: usize,
    /// Rows that a unit loads before it uses the first of them.
    pub(super) in_flight: usize,
}

impl CoupleCube {
    pub(super) fn units(&self) -> usize {
        self.lanes * self.splits
    }

    /// Ranks of a slice.
    pub(super) fn cols(&self) -> usize {
        self.lanes * self.vector
    }

    /// Units of a group along the rows.
    fn rows(&self) -> usize {
        self.splits / self.groups
    }

    /// Parts that the rows of a group are added up to at first, each by a unit of its own.
    fn parts(&self) -> usize {
        (self.units() / (self.groups * self.cols())).clamp(1, self.rows())
    }

    /// Values in shared memory: a vector of each unit for one token, and the slice of every `z_j`.
    pub(super) fn shared(&self) -> usize {
        self.units() * self.vector + self.projections()
    }

    fn projections(&self) -> usize {
        self.in_blocks * self.tokens * self.cols()
    }
}

/// `t_i = Σ_j s_ij ∘ (x_j V_j)` for every `i`. The strides of `v` are in vectors.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn decode_couple_kernel<T: Float, A: Float, N: Size>(
    x: &Tensor<T>,
    v: &Tensor<Vector<T, N>>,
    s: &Tensor<T>,
    t: &mut Tensor<T>,
    x_strides: &Strides,
    v_strides: &Strides,
    s_strides: &Strides,
    sizes: &DecodeSizes,
    #[comptime] cube: CoupleCube,
    #[define(T, A)] _dtypes: [ElemType; 2],
) {
    let (units, lanes, vector, cols) = comptime!((cube.units(), cube.lanes, cube.vector, cube.cols()));
    let (groups, rows, in_blocks) = comptime!((cube.groups, cube.rows(), cube.in_blocks));
    let first_k = CUBE_POS * cols;
    // The same for all units of a cube, which therefore all reach the barriers below or none.
    if first_k >= sizes.rank {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let split = unit / lanes;
    let (group, first_row) = (split / rows, split % rows);
    // Beyond the rank, its last vector again, whose result is not stored.
    let column = min(first_k / vector + unit % lanes, sizes.rank / vector - 1);
    let mut partials = Shared::<[A]>::new_slice(comptime!(units * vector));
    let mut projections = Shared::<[A]>::new_slice(comptime!(cube.projections()));

    for round in 0..comptime!(in_blocks.div_ceil(groups)) {
        let j = round * groups + group;
        let mut sums = Array::<Vector<A, N>>::new(comptime!(cube.tokens));
        #[unroll]
        for token in 0..comptime!(cube.tokens) {
            sums[token] = Vector::new(A::new(0.0));
        }
        if j < in_blocks {
            let start = j * v_strides.batch + column * v_strides.col;
            let mut feature = first_row;
            while feature < sizes.features {
                let mut weights = Array::<Vector<T, N>>::new(comptime!(cube.in_flight));
                #[unroll]
                for step in 0..comptime!(cube.in_flight) {
                    let row = min(feature + step * rows, sizes.features - 1);
                    weights[step] = v[start + row * v_strides.row];
                }
                #[unroll]
                for step in 0..comptime!(cube.in_flight) {
                    let row = feature + step * rows;
                    if row < sizes.features {
                        let position = j * x_strides.batch + row * x_strides.col;
                        let weight = Vector::<A, N>::cast_from(weights[step]);
                        #[unroll]
                        for token in 0..comptime!(cube.tokens) {
                            let value = x[position + min(token, sizes.tokens - 1) * x_strides.row];
                            sums[token] += Vector::new(A::cast_from(value)) * weight;
                        }
                    }
                }
                feature += comptime!(cube.in_flight * rows);
            }
        }
        #[unroll]
        for token in 0..comptime!(cube.tokens) {
            #[unroll]
            for i in 0..vector {
                partials[i * units + unit] = sums[token].extract(i);
            }
            sync_cube();
            add_up::<A>(&mut partials, &mut projections, round * groups, token, cube);
        }
    }

    let mut index = unit;
    while index < sizes.out_blocks * sizes.tokens * cols {
        let (col, token) = (index % cols, index / cols % sizes.tokens);
        let i = index / (cols * sizes.tokens);
        let k = first_k + col;
        if k < sizes.rank {
            let mut sum = A::new(0.0);
            for j in 0..in_blocks {
                let scale = s[i * s_strides.batch + j * s_strides.row + k * s_strides.col];
                sum += A::cast_from(scale) * projections[(j * comptime!(cube.tokens) + token) * cols + col];
            }
            t[(i * sizes.tokens + token) * sizes.rank + k] = T::cast_from(sum);
        }
        index += units;
    }
}

/// Adds up what the units of each group have of its `z_j` for one token, in two steps so that all units take part.
///
/// All units of a cube must call it together.
#[cube]
fn add_up<A: Float>(
    partials: &mut Shared<[A]>,
    projections: &mut Shared<[A]>,
    first_block: usize,
    token: usize,
    #[comptime] cube: CoupleCube,
) {
    let (units, lanes, cols) = comptime!((cube.units(), cube.lanes, cube.cols()));
    let (groups, rows, parts) = comptime!((cube.groups, cube.rows(), cube.parts()));
    let unit = UNIT_POS as usize;
    // Neighbouring units read neighbouring values: (element, group, part, lane).
    let (lane, part) = (unit % lanes, unit / lanes % parts);
    let (group, element) = (unit / comptime!(lanes * parts) % groups, unit / comptime!(lanes * parts * groups));
    let mut sum = A::new(0.0);
    if unit < comptime!(groups * cols * parts) {
        #[unroll]
        for step in 0..comptime!(rows / parts) {
            sum += partials[element * units + (group * rows + step * parts + part) * lanes + lane];
        }
    }
    sync_cube();
    if unit < comptime!(groups * cols * parts) {
        partials[unit] = sum;
    }
    sync_cube();
    // Now one unit for each (element, group, lane).
    let lane = unit % lanes;
    let (group, element) = (unit / lanes % groups, unit / comptime!(lanes * groups));
    if unit < comptime!(groups * cols) && first_block + group < comptime!(cube.in_blocks) {
        let mut sum = A::new(0.0);
        #[unroll]
        for part in 0..parts {
            sum += partials[((element * groups + group) * parts + part) * lanes + lane];
        }
        projections[((first_block + group) * comptime!(cube.tokens) + token) * cols
            + lane * comptime!(cube.vector)
            + element] = sum;
    }
    sync_cube();
}
