//! Pixelfly: a flat block-butterfly matrix and a low-rank one, added.
//!
//! `W = S + U Vᵀ` (Dao, Chen, Liang, Yang, Song, Rudra, Ré, *Pixelated Butterfly: Simple and Efficient Sparse Training for
//! Neural Network Models*, ICLR 2022). `S` consists of `b × b` blocks, of which block `(i, j)` is kept if `j = i` or
//! `j = i xor 2^l` with `2^l < stride`: the first-order terms of a butterfly of that maximum stride. Every row of blocks
//! keeps `L = 1 + log₂ stride` of them, so `S` costs `L m n / b` multiplications a token.
//!
//! The kept blocks of a row are stored next to each other, and so are the groups of features that they read, gathered from `x`:
//! `S` is then one block-diagonal product ([`crate::block_diagonal`]) of `L` times the width.

use crate::Epilogue;
use crate::block_diagonal::{BlockStrategy, Orders, block_diagonal_linear_with};
use crate::low_rank::low_rank_linear;
use crate::tokens::{empty_product, rows};
use burn::tensor::module::linear;
use burn::tensor::{Int, Tensor};

/// The groups that group `i` reads are `i xor mask` for these masks.
fn masks(levels: usize) -> impl Iterator<Item = usize> {
    std::iter::once(0).chain((1..levels).map(|level| 1 << (level - 1)))
}

/// Multiplies by a Pixelfly matrix: `y = x (S + U Vᵀ)ᵀ + bias`.
///
/// # Shapes
///
/// - x: `[.., n]`, with at least one axis
/// - w: `[b, m / b, L n / b]`: block `l` of row `i` is the one at column `i xor 2^(l-1)`, or `i` for `l = 0`
/// - v: `[n, r]`, ut: `[r, m]`
/// - epilogue: a bias `[m]`, `None`, or an [`Epilogue`]
/// - output: `[.., m]`
///
/// # Panics
///
/// If a shape does not fit the others, or `2^(L-1)` does not divide `b`; the message names the tensor.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_structured_ops::pixelfly::pixelfly_linear;
///
/// let device = Device::flex();
/// let normal = Distribution::Normal(0.0, 1.0);
/// let x = Tensor::<2>::random([5, 16], normal, &device);
/// let w = Tensor::<3>::random([4, 2, 3 * 4], normal, &device); // m = 8, n = 16, three blocks a row
/// let (v, ut) = (Tensor::random([16, 2], normal, &device), Tensor::random([2, 8], normal, &device));
/// assert_eq!(pixelfly_linear(x, w, v, ut, None).dims(), [5, 8]);
/// ```
pub fn pixelfly_linear<const D: usize>(
    x: Tensor<D>,
    w: Tensor<3>,
    v: Tensor<2>,
    ut: Tensor<2>,
    epilogue: impl Into<Epilogue<D>>,
) -> Tensor<D> {
    pixelfly_linear_with(x, w, v, ut, epilogue, BlockStrategy::Auto)
}

/// [`pixelfly_linear`] by a chosen [`BlockStrategy`] for the sparse part, forward and backward; with
/// [`BlockStrategy::Reference`] the low-rank part is Burn's own as well.
///
/// # Panics
///
/// As [`pixelfly_linear`].
pub fn pixelfly_linear_with<const D: usize>(
    x: Tensor<D>,
    w: Tensor<3>,
    v: Tensor<2>,
    ut: Tensor<2>,
    epilogue: impl Into<Epilogue<D>>,
    strategy: BlockStrategy,
) -> Tensor<D> {
    let (mut shape, epilogue) = (x.shape(), epilogue.into());
    let n = shape[D - 1];
    let ([_, r], [rank, m]) = (v.dims(), ut.dims());
    assert_eq!(n, v.dims()[0], "pixelfly: the last axis of `x` must be n as `v` {:?} says, got {n}", v.dims());
    let levels = levels(&w, n);
    assert_eq!(r, rank, "pixelfly: `v` {:?} and `ut` {:?} must have the same rank", v.dims(), ut.dims());
    assert_eq!(m, w.dims()[0] * w.dims()[1], "pixelfly: `ut` {:?} must have as many rows of W as `w`", ut.dims());
    for (name, dtype) in [("w", w.dtype()), ("v", v.dtype()), ("ut", ut.dtype())] {
        assert_eq!(dtype, x.dtype(), "pixelfly: `{name}` and `x` must have the same dtype");
    }
    let empty = shape.num_elements() == 0;
    shape[D - 1] = m;
    epilogue.check("pixelfly", &shape, x.dtype());
    if empty {
        return empty_product(x, m, epilogue);
    }
    let (x, (bias, rest)) = (rows(x), epilogue.split_bias());
    let sparse = sparse_product(x.clone(), w, levels, strategy);
    let y = match strategy {
        BlockStrategy::Reference => sparse + linear(linear(x, v, None), ut, bias),
        _ => low_rank_linear(x, v, ut, Epilogue::new().with_bias(bias).with_residual(sparse)),
    };
    rest.apply(y.reshape(shape))
}

/// The dense matrix `W [m, n]` of the factors.
///
/// # Panics
///
/// As [`pixelfly_linear`].
pub fn pixelfly_to_dense(w: Tensor<3>, v: Tensor<2>, ut: Tensor<2>) -> Tensor<2> {
    let n = v.dims()[0];
    let levels = levels(&w, n);
    let identity = Tensor::<2>::eye(n, &w.device()).cast(w.dtype());
    (sparse_product(identity, w, levels, BlockStrategy::Reference) + v.matmul(ut)).transpose()
}

/// The kept blocks `w [b, m / b, L n / b]` of a dense `weight [m, n]`.
///
/// # Panics
///
/// If `2^(levels-1)` does not divide `blocks`, or `blocks` a side of `weight`.
pub fn pixelfly_blocks(weight: Tensor<2>, blocks: usize, levels: usize) -> Tensor<3> {
    let [m, n] = weight.dims();
    assert!(
        blocks > 0 && m.is_multiple_of(blocks) && n.is_multiple_of(blocks),
        "pixelfly: blocks must divide the sides"
    );
    let (p, q) = (m / blocks, n / blocks);
    let rows = (0..blocks).map(|row| {
        let kept = masks(levels).map(|mask| {
            let column = row ^ mask;
            weight.clone().slice([row * p..(row + 1) * p, column * q..(column + 1) * q])
        });
        Tensor::cat(kept.collect(), 1)
    });
    Tensor::stack(rows.collect(), 0)
}

/// Whether a butterfly of so many levels stays among the blocks.
fn connects(levels: usize, blocks: usize) -> bool {
    let stride = levels.checked_sub(1).and_then(|level| 1usize.checked_shl(u32::try_from(level).ok()?));
    stride.is_some_and(|stride| blocks.is_multiple_of(stride))
}

fn levels(w: &Tensor<3>, n: usize) -> usize {
    let [blocks, _, width] = w.dims();
    let q = n / blocks.max(1);
    let fits = blocks > 0 && q > 0 && n == blocks * q && width.is_multiple_of(q) && width > 0;
    let levels = if fits { width / q } else { 0 };
    assert!(
        connects(levels, blocks),
        "pixelfly: `w` {:?} must be [b, m/b, L · n/b] for n = {n}, with b divisible by 2^(L-1)",
        w.dims()
    );
    levels
}

fn sparse_product(x: Tensor<2>, w: Tensor<3>, levels: usize, strategy: BlockStrategy) -> Tensor<2> {
    let ([tokens, n], [blocks, _, _]) = (x.dims(), w.dims());
    let q = n / blocks;
    let read: Vec<i64> = (0..blocks).flat_map(|block| masks(levels).map(move |mask| (block ^ mask) as i64)).collect();
    let read = Tensor::<1, Int>::from_data(read.as_slice(), &x.device());
    let gathered = x.reshape([tokens, blocks, q]).select(1, read).reshape([tokens, levels * n]);
    block_diagonal_linear_with(gathered, w, None, Orders::default(), strategy)
}
