//! Block-diagonal products on Flex.
//!
//! Groups of neighbours are read and written in place: each block is packed into panels and meets its columns of `x`, or, for a
//! handful of tokens, is read once as it lies. Features that are dealt out to the groups one by one are brought together first, and
//! apart again afterwards ([`exchange`]): read where they lie, each would cost a cache line.
//!
//! f32 and f64 are native. f16 and bf16 are converted to f32 and back, which also accumulates in f32.

mod exchange;

use super::{BlockDiagonalBackend, BlockStrategy, Order, Orders, reference, shapes};
use crate::Bias;
use crate::cpu::panel::{Landing, Rows, SharedOutput, filled, over_tokens, side_by_side};
use crate::cpu::{
    Crew, MIN_PANEL_TOKENS, Matrix, Scalar, Slot, contiguous, dense_slice, from_native, in_native, portions, streaming,
    to_native, with_native, with_rows,
};
use crate::operands::check;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::Shape;
use burn_flex::FlexTensor;
use exchange::exchange;

/// Tokens whose features are brought together at a time: they stay in a cache, and blocks need not be packed often.
const PORTION: usize = 256;

impl BlockDiagonalBackend for Flex {
    fn block_diagonal_product(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        bias: Bias<Self>,
        orders: Orders,
        strategy: BlockStrategy,
    ) -> FloatTensor<Self> {
        check(shapes::product, [&x, &w]);
        bias.check(w.shape()[0] * w.shape()[1], x.dtype());
        if strategy == BlockStrategy::Reference {
            return reference::product::<Self>(x, w, bias, orders);
        }
        let dtype = x.dtype();
        let [x, w] = [x, w].map(to_native);
        let bias = bias.into_option().map(|bias| to_native(bias).to_contiguous());
        let y = with_native!(x.dtype(), E => product::<E>(x, &w, bias.as_ref().map(dense_slice), orders));
        from_native(y, dtype)
    }

    fn block_diagonal_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        blocks: usize,
        orders: Orders,
        strategy: BlockStrategy,
    ) -> FloatTensor<Self> {
        check(|shapes| shapes::gradient(shapes, blocks), [&x, &dy]);
        if strategy == BlockStrategy::Reference {
            return reference::gradient::<Self>(x, dy, blocks, orders);
        }
        in_native([x, dy], |[x, dy]| with_native!(x.dtype(), E => gradient::<E>(x, dy, blocks, orders)))
    }
}

fn product<E: Scalar>(x: FlexTensor, w: &FlexTensor, bias: Option<&[E]>, orders: Orders) -> FlexTensor {
    let [tokens, _] = x.layout().shape().dims();
    let [blocks, p, _] = w.layout().shape().dims();
    let m = blocks * p;
    if tokens * m == 0 {
        return contiguous(Vec::<E>::new(), Shape::new([tokens, m]));
    }
    let orders = of_blocks(blocks, orders);
    let x = with_rows::<E>(x);
    let x = Matrix::<E>::of(&x, 0);
    let crew = Crew::default();
    // SAFETY: both ways write every element of the output, a portion of its tokens at a time, and read none.
    let y = unsafe {
        filled(tokens * m, |y| {
            in_portions(tokens, orders, |start, tokens| {
                let (x, y) = (x.rows(start, tokens), y.part(start * m, tokens * m));
                match orders.output {
                    Order::Grouped => of_neighbours(&crew, x, w, bias, orders.input, y),
                    Order::Strided => E::with_buffer(Slot::Product, |buffer| {
                        let [grouped] = portions(buffer, [tokens * m]);
                        of_neighbours(&crew, x, w, None, orders.input, SharedOutput::new(&mut *grouped));
                        exchange(&crew, Matrix::row_major(grouped, tokens, m, m), [blocks, p], bias, y);
                    }),
                }
            });
        })
    };
    contiguous(y, Shape::new([tokens, m]))
}

/// A single block has all features in either order.
fn of_blocks(blocks: usize, orders: Orders) -> Orders {
    if blocks == 1 { Orders::default() } else { orders }
}

/// Calls `some` with the first token and the number of them, [`PORTION`] at a time if features have to be brought together.
fn in_portions(tokens: usize, orders: Orders, mut some: impl FnMut(usize, usize)) {
    let portion = if orders == Orders::default() { tokens } else { PORTION };
    (0..tokens).step_by(portion.max(1)).for_each(|start| some(start, portion.min(tokens - start)));
}

/// The product in groups of neighbours, `y [tokens, b p]`, of rows in any order.
fn of_neighbours<E: Scalar>(
    crew: &Crew,
    x: Matrix<'_, E>,
    w: &FlexTensor,
    bias: Option<&[E]>,
    order: Order,
    y: SharedOutput<'_, E>,
) {
    let [blocks, p, q] = w.layout().shape().dims();
    together(crew, x, blocks, order, Slot::Shared, |x| {
        if x.rows < MIN_PANEL_TOKENS && streaming::reads(w) {
            // SAFETY: the output is this product's alone.
            return unsafe { streaming::side_by_side(crew, x, w, bias, y) };
        }
        let rows = Rows::of(x).expect("contiguous rows");
        let of_block = |k: usize| rows.terms(k * q, q);
        side_by_side(crew, [blocks, x.rows, q, p], of_block, |k| Matrix::of(w, k).transposed(), bias, y);
    });
}

/// Calls `with` with the features of every group as neighbours, in the buffer `slot` if they are not yet.
fn together<E: Scalar, R>(
    crew: &Crew,
    x: Matrix<'_, E>,
    blocks: usize,
    order: Order,
    slot: Slot,
    with: impl FnOnce(Matrix<'_, E>) -> R,
) -> R {
    match order {
        Order::Grouped => with(x),
        Order::Strided => E::with_buffer(slot, |buffer| {
            let [grouped] = portions(buffer, [x.rows * x.cols]);
            // SAFETY: the buffer is this call's alone.
            unsafe { exchange(crew, x, [x.cols / blocks, blocks], None, SharedOutput::new(&mut *grouped)) };
            with(Matrix::row_major(grouped, x.rows, x.cols, x.cols))
        }),
    }
}

/// `dW_k = dy_kᵀ x_k`.
fn gradient<E: Scalar>(x: FlexTensor, dy: FlexTensor, blocks: usize, orders: Orders) -> FlexTensor {
    let [x, dy] = [x, dy].map(with_rows::<E>);
    let (x, dy) = (Matrix::<E>::of(&x, 0), Matrix::<E>::of(&dy, 0));
    let (tokens, p, q) = (x.rows, dy.cols / blocks, x.cols / blocks);
    if tokens == 0 {
        return contiguous(vec![E::ZERO; blocks * p * q], Shape::new([blocks, p, q]));
    }
    let orders = of_blocks(blocks, orders);
    let crew = Crew::default();
    // SAFETY: there are tokens, and the first of them write every element, to which the others add.
    let gradient = unsafe {
        filled(blocks * p * q, |out| {
            in_portions(tokens, orders, |start, tokens| {
                let landing = if start == 0 { Landing::Overwrite } else { Landing::AddTo };
                together(&crew, dy.rows(start, tokens), blocks, orders.output, Slot::Product, |dy| {
                    together(&crew, x.rows(start, tokens), blocks, orders.input, Slot::Shared, |x| {
                        let (left, right) = (|k: usize| dy.cols(k * p, p), |k: usize| x.cols(k * q, q));
                        over_tokens(&crew, [blocks, tokens, p, q], left, right, out, landing);
                    });
                });
            });
        })
    };
    contiguous(gradient, Shape::new([blocks, p, q]))
}
