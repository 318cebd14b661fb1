//! Single elements of an SS1 sketch, or of a matrix with tied weights, read from the stored tensor.
//!
//! The formulas are those of `ss1::Fold`. The hash is evaluated in place: a few integer operations are cheaper than a table in
//! memory. Neighbours in a sketch are not neighbours in memory, so tensors are read in vectors of one.

use cubecl::prelude::*;

/// A fold as kernels see it; what is not a size is fixed when they are compiled.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct FoldSizes {
    pub(crate) d_input: usize,
    pub(crate) reduction: usize,
    pub(crate) block_k: usize,
    pub(crate) block_n: usize,
    /// The step of arithmetic rotations modulo `block_k`, or the seed of drawn ones.
    pub(crate) key: u32,
}

/// Where rotations and signs come from, without the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RotationKind {
    Arithmetic,
    Drawn { signs: bool },
}

#[cube]
fn finalise(hash: u32) -> u32 {
    let hash = (hash ^ (hash >> 16)) * 0x85eb_ca6bu32;
    let hash = (hash ^ (hash >> 13)) * 0xc2b2_ae35u32;
    hash ^ (hash >> 16)
}

/// The drawn number of input block `block` for `output_block`; see `Fold::rotation`, which this repeats.
#[cube]
pub(crate) fn draw(key: u32, output_block: usize, block: usize) -> u32 {
    let inner = finalise(u32::cast_from(block) + 1u32 + u32::cast_from(output_block) * 0x9e37_79b9u32);
    finalise(inner ^ key)
}

/// The rotation in a draw, of which the highest bit is the sign.
#[cube]
pub(crate) fn shift_of(drawn: u32, sizes: &FoldSizes, j: usize, #[comptime] kind: RotationKind) -> usize {
    if comptime!(kind == RotationKind::Arithmetic) {
        (j * usize::cast_from(sizes.key)) % sizes.block_k
    } else {
        usize::cast_from(drawn & 0x7fff_ffffu32) % sizes.block_k
    }
}

/// The sign in a draw, as a factor.
#[cube]
pub(crate) fn sign_of<A: Float>(drawn: u32, #[comptime] kind: RotationKind) -> A {
    if comptime!(kind == RotationKind::Drawn { signs: true }) {
        A::new(1.0) - A::new(2.0) * A::cast_from(drawn >> 31)
    } else {
        A::new(1.0)
    }
}

/// Element `stored` of the sketch of the row of `x` that starts at `offset`.
#[cube]
pub(crate) fn folded<T: Float, A: Float, N: Size>(
    x: &Tensor<Vector<T, N>>,
    offset: usize,
    feature_stride: usize,
    stored: usize,
    output_block: usize,
    sizes: &FoldSizes,
    #[comptime] kind: RotationKind,
) -> A {
    let group = stored / sizes.block_k;
    let q = stored % sizes.block_k;
    let mut sum = A::new(0.0);
    for j in 0..sizes.reduction {
        let block = group * sizes.reduction + j;
        let drawn = draw(sizes.key, output_block, block);
        let feature = block * sizes.block_k + (q + shift_of(drawn, sizes, j, kind)) % sizes.block_k;
        if feature < sizes.d_input {
            sum += sign_of::<A>(drawn, kind) * A::cast_from(x[offset + feature * feature_stride].extract(0usize));
        }
    }
    sum
}

/// The stored weight behind input feature `feature`, with its sign: `stored[offset + q · stored_stride]`.
#[cube]
pub(crate) fn unfolded<T: Float, A: Float, N: Size>(
    stored: &Tensor<Vector<T, N>>,
    offset: usize,
    stored_stride: usize,
    feature: usize,
    output_block: usize,
    sizes: &FoldSizes,
    #[comptime] kind: RotationKind,
) -> A {
    let block = feature / sizes.block_k;
    let group = block / sizes.reduction;
    let drawn = draw(sizes.key, output_block, block);
    let shift = shift_of(drawn, sizes, block % sizes.reduction, kind);
    let q = (feature % sizes.block_k + sizes.block_k - shift) % sizes.block_k;
    sign_of::<A>(drawn, kind)
        * A::cast_from(stored[offset + (group * sizes.block_k + q) * stored_stride].extract(0usize))
}
