//! Block-diagonal products on Flex.
//!
//! Features in grouped order are read and written in place: each block is packed and multiplies its columns of `x`, or, for up to 5
//! tokens, is read once. Features in strided order are permuted first, and permuted back afterwards ([`permute_features`]): read in
//! place, each would cost a cache line.
//!
//! f32 and f64 are native. f16 and bf16 are converted to f32 and back, which also accumulates in f32.

mod permute;

use super::{BlockDiagonalBackend, BlockStrategy, Order, Orders, reference, shapes};
use crate::EpilogueTensors;
use crate::cpu::gemm::{Finish, Rows, gemm_tn, grouped_gemm};
use crate::cpu::{
    MIN_GEMM_TOKENS, Matrix, Output, Scalar, ThreadTeam, Workspace, alloc_uninit_with, contiguous, from_native, gemv,
    in_native, on_pool, split_aligned, to_native, with_native, with_rows,
};
use crate::operands::check;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::Shape;
use burn_flex::FlexTensor;
pub(crate) use permute::permute_features;

/// Tokens whose features are permuted at a time: they stay in a cache, and blocks need not be packed often.
const TOKEN_CHUNK: usize = 256;

impl BlockDiagonalBackend for Flex {
    fn block_diagonal_product(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        epilogue: EpilogueTensors<Self>,
        orders: Orders,
        strategy: BlockStrategy,
    ) -> FloatTensor<Self> {
        check(shapes::product, [&x, &w]);
        epilogue.check([x.shape()[0], w.shape()[0] * w.shape()[1]], x.dtype());
        if strategy == BlockStrategy::Reference {
            return reference::product::<Self>(x, w, epilogue, orders);
        }
        let (dtype, tokens) = (x.dtype(), x.layout().shape()[0]);
        let [x, w] = [x, w].map(to_native);
        let epilogue = epilogue.into_native();
        let product = || with_native!(x.dtype(), E => product::<E>(x, &w, epilogue.finish(), orders));
        from_native(on_pool(tokens, product), dtype)
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

fn product<E: Scalar>(x: FlexTensor, w: &FlexTensor, finish: Finish<'_, E>, orders: Orders) -> FlexTensor {
    let [tokens, _] = x.layout().shape().dims();
    let [blocks, p, _] = w.layout().shape().dims();
    let m = blocks * p;
    if tokens * m == 0 {
        return contiguous(Vec::<E>::new(), Shape::new([tokens, m]));
    }
    let orders = effective_orders(blocks, orders);
    let x = with_rows::<E>(x);
    let x = Matrix::<E>::of(&x, 0);
    let team = ThreadTeam::default();
    // SAFETY: every element is written, some tokens at a time, and none is read.
    let y = unsafe {
        alloc_uninit_with(tokens * m, |mut y| {
            in_token_chunks(tokens, orders, |start, tokens| {
                let (x, y) = (x.rows(start, tokens), y.part(start * m, tokens * m));
                let finish = finish.rows_from(start, m);
                match orders.output {
                    Order::Grouped => grouped(&team, x, w, finish, orders.input, y),
                    Order::Strided => E::with_buffer(Workspace::Product, |buffer| {
                        let [out] = split_aligned(buffer, [tokens * m]);
                        let nothing = Finish::bias(None);
                        grouped(&team, x, w, nothing, orders.input, Output::of_slice(&mut *out));
                        permute_features(&team, Matrix::row_major(out, tokens, m, m), [blocks, p], finish, y);
                    }),
                }
            });
        })
    };
    contiguous(y, Shape::new([tokens, m]))
}

/// A single block has all features in either order.
fn effective_orders(blocks: usize, orders: Orders) -> Orders {
    if blocks == 1 { Orders::default() } else { orders }
}

/// Calls `body` with the first token and the number of them, [`TOKEN_CHUNK`] at a time if features have to be permuted.
fn in_token_chunks(tokens: usize, orders: Orders, mut body: impl FnMut(usize, usize)) {
    let chunk = if orders == Orders::default() { tokens } else { TOKEN_CHUNK };
    (0..tokens).step_by(chunk.max(1)).for_each(|start| body(start, chunk.min(tokens - start)));
}

/// The product in grouped order, `y [tokens, b p]`, of rows in any order.
fn grouped<E: Scalar>(
    team: &ThreadTeam,
    x: Matrix<'_, E>,
    w: &FlexTensor,
    finish: Finish<'_, E>,
    order: Order,
    y: Output<'_, E>,
) {
    let [blocks, p, q] = w.layout().shape().dims();
    with_grouped(team, x, blocks, order, Workspace::Shared, |x| {
        if x.rows < MIN_GEMM_TOKENS && gemv::reads(w) {
            return gemv::block_diagonal_gemv(team, x, w, finish, y);
        }
        let rows = Rows::of(x).expect("contiguous rows");
        let (rows, factor) = (|k: usize| rows.depths(k * q, q), |k: usize| Matrix::of(w, k).transposed());
        grouped_gemm(team, [blocks, x.rows, q, p], rows, factor, finish, y);
    });
}

/// Calls `body` with the features in grouped order, copied to `workspace` if they are not yet.
fn with_grouped<E: Scalar, R>(
    team: &ThreadTeam,
    x: Matrix<'_, E>,
    blocks: usize,
    order: Order,
    workspace: Workspace,
    body: impl FnOnce(Matrix<'_, E>) -> R,
) -> R {
    match order {
        Order::Grouped => body(x),
        Order::Strided => E::with_buffer(workspace, |buffer| {
            let [grouped] = split_aligned(buffer, [x.rows * x.cols]);
            permute_features(team, x, [x.cols / blocks, blocks], Finish::bias(None), Output::of_slice(&mut *grouped));
            body(Matrix::row_major(grouped, x.rows, x.cols, x.cols))
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
    let orders = effective_orders(blocks, orders);
    let team = ThreadTeam::default();
    // SAFETY: the first tokens, which there are, write every element, and others are added.
    let gradient = unsafe {
        alloc_uninit_with(blocks * p * q, |mut out| {
            in_token_chunks(tokens, orders, |start, tokens| {
                with_grouped(&team, dy.rows(start, tokens), blocks, orders.output, Workspace::Product, |dy| {
                    with_grouped(&team, x.rows(start, tokens), blocks, orders.input, Workspace::Shared, |x| {
                        let (left, right) = (|k: usize| dy.cols(k * p, p), |k: usize| x.cols(k * q, q));
                        gemm_tn(&team, [blocks, tokens, p, q], left, right, out.part(0, blocks * p * q), start > 0);
                    });
                });
            });
        })
    };
    contiguous(gradient, Shape::new([blocks, p, q]))
}
