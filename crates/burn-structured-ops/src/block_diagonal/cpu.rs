//! Block-diagonal products on Flex: one small GEMM a block and tile of tokens, read and written in place through strides.

use super::{BlockDiagonalBackend, BlockStrategy, Order, Orders, reference};
use crate::Bias;
use crate::cpu::{
    Matrix, Output, Scalar, Split, contiguous, dense_slice, fill_bias, from_native, in_native, multiply_strided,
    to_native, with_native,
};
use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use burn_flex::FlexTensor;
use rayon::prelude::*;

impl BlockDiagonalBackend for Flex {
    fn block_diagonal_product(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        bias: Bias<Self>,
        orders: Orders,
        strategy: BlockStrategy,
    ) -> FloatTensor<Self> {
        if strategy == BlockStrategy::Reference {
            return reference::product::<Self>(x, w, bias, orders);
        }
        let dtype = x.dtype();
        let [x, w] = [x, w].map(to_native);
        let bias = match bias {
            Bias::Absent => None,
            Bias::Added(bias) => Some(to_native(bias).to_contiguous()),
        };
        let y = with_native!(x.dtype(), E => product::<E>(&x, &w, bias.as_ref().map(dense_slice), orders));
        from_native(y, dtype)
    }

    fn block_diagonal_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        blocks: usize,
        orders: Orders,
        strategy: BlockStrategy,
    ) -> FloatTensor<Self> {
        if strategy == BlockStrategy::Reference {
            return reference::gradient::<Self>(x, dy, blocks, orders);
        }
        in_native([x, dy], |[x, dy]| with_native!(x.dtype(), E => gradient::<E>(&x, &dy, blocks, orders)))
    }
}

/// The features of group `k` as columns.
fn group<E: Scalar>(x: Matrix<'_, E>, blocks: usize, order: Order, k: usize) -> Matrix<'_, E> {
    let size = x.cols / blocks;
    match order {
        Order::Grouped => x.cols(k * size, size),
        Order::Strided => x.every_col(k, blocks),
    }
}

fn product<E: Scalar>(x: &FlexTensor, w: &FlexTensor, bias: Option<&[E]>, orders: Orders) -> FlexTensor {
    let [tokens, _] = x.layout().shape().dims();
    let [blocks, p, _] = w.layout().shape().dims();
    let m = blocks * p;
    let x = Matrix::<E>::of(x, 0);
    let mut y = vec![E::ZERO; tokens * m];
    if m == 0 {
        return contiguous(y, Shape::new([tokens, m]));
    }
    let all = |y: &mut [E], x: Matrix<'_, E>, orders: Orders, mode, parallelism| {
        for k in 0..blocks {
            let (first, step) = match orders.output {
                Order::Grouped => (k * p, 1),
                Order::Strided => (k, blocks),
            };
            let x = group(x, blocks, orders.input, k);
            multiply_strided(&mut y[first..], [m, step], mode, x, Matrix::of(w, k).transposed(), parallelism);
        }
    };
    match Split::of(tokens) {
        Split::Tokens { tile } => y.par_chunks_mut(tile * m).enumerate().for_each(|(index, y)| {
            let mode = fill_bias(y, bias);
            all(y, x.rows(index * tile, y.len() / m), orders, mode, gemm::Parallelism::None);
        }),
        Split::WithinBlocks => few_tokens(&mut y, x, blocks, bias, orders, |y, x| {
            all(y, x, Orders::default(), Output::Overwrite, gemm::Parallelism::Rayon(0));
        }),
    }
    contiguous(y, Shape::new([tokens, m]))
}

/// Runs `product` between groups of neighbours. A GEMM of many rows packs its operands anyway, and takes strided ones as
/// they are; one of few rows is several times slower with them.
fn few_tokens<E: Scalar>(
    y: &mut [E],
    x: Matrix<'_, E>,
    blocks: usize,
    bias: Option<&[E]>,
    orders: Orders,
    product: impl Fn(&mut [E], Matrix<'_, E>),
) {
    let (n, m) = (x.cols, y.len() / x.rows);
    let mut gathered = Vec::new();
    let x = match orders.input {
        Order::Grouped => x,
        Order::Strided => {
            let size = n / blocks;
            x.gather(&mut gathered, |column| column % size * blocks + column / size);
            Matrix::row_major(&gathered, x.rows, n, n)
        }
    };
    match orders.output {
        Order::Grouped => product(y, x),
        Order::Strided => {
            let (mut grouped, p) = (vec![E::ZERO; y.len()], m / blocks);
            product(&mut grouped, x);
            for (grouped, y) in grouped.chunks_exact(m).zip(y.chunks_exact_mut(m)) {
                y.iter_mut().enumerate().for_each(|(column, y)| *y = grouped[column % blocks * p + column / blocks]);
            }
        }
    }
    for row in y.chunks_exact_mut(m) {
        row.iter_mut().zip(bias.unwrap_or_default()).for_each(|(y, bias)| *y += *bias);
    }
}

fn gradient<E: Scalar>(x: &FlexTensor, dy: &FlexTensor, blocks: usize, orders: Orders) -> FlexTensor {
    let (x, dy) = (Matrix::<E>::of(x, 0), Matrix::<E>::of(dy, 0));
    let (p, q) = (dy.cols / blocks, x.cols / blocks);
    let mut gradient = vec![E::ZERO; blocks * p * q];
    let block = |out: &mut [E], k: usize, parallelism| {
        let dy = group(dy, blocks, orders.output, k).transposed();
        multiply_strided(out, [q, 1], Output::Overwrite, dy, group(x, blocks, orders.input, k), parallelism);
    };
    if blocks >= rayon::current_num_threads() {
        let chunks = gradient.par_chunks_mut((p * q).max(1)).enumerate();
        chunks.for_each(|(k, out)| block(out, k, gemm::Parallelism::None));
    } else {
        let chunks = gradient.chunks_mut((p * q).max(1)).enumerate();
        chunks.for_each(|(k, out)| block(out, k, gemm::Parallelism::Rayon(0)));
    }
    contiguous(gradient, Shape::new([blocks, p, q]))
}
