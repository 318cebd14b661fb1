//! Products with int8 weights on Flex.
//!
//! ```text
//! gather.rs     where the inputs of a product come from
//! quantize.rs   inputs as int8, token by token
//! product.rs    quantized rows times a factor: in place for a few tokens, out of packed panels for more
//! layout.rs     operands as tasks see them
//! isa/          the instructions of processors
//! ```
//!
//! A layer of two factors is one operation: its threads stay between the products, and what the first one gives is in a workspace.

mod gather;
mod isa;
mod layout;
mod product;
mod quantize;

use super::{Int8Factor, Int8Matrix};
use crate::block_diagonal::{Order, permute_features};
use crate::cpu::gemm::Finish;
use crate::cpu::{
    Matrix, Output, Scalar, ThreadTeam, Workspace, alloc_uninit_with, contiguous, dense_slice, from_native, on_pool,
    split_aligned,
};
use crate::ss1::{Fold, FoldPlan};
use crate::{Epilogue, EpilogueTensors, OptionalTensor};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, ExtensionType, Flex, backend_extension};
use burn::tensor::{DType, FloatDType, Shape, Tensor};
use burn_flex::FlexTensor;
use gather::{Coupled, Folded, Neighbours, Strided};
use layout::{Block, QuantizedRows, Weights};
use quantize::quantize;

/// How a product gathers its inputs, and where its outputs go.
#[derive(Clone, Copy, Debug)]
pub enum Int8Plan {
    /// A block-diagonal factor.
    BlockDiagonal,
    /// A right and a left factor with a permutation between them.
    Monarch(Order),
    /// `Vᵀ` and `U` with couplings between them.
    Blast,
    /// A sketch for each block of rows.
    Ss1(Fold),
}

/// The factor that the input is multiplied by first, if there are two.
#[derive(Clone, Debug, ExtensionType)]
pub enum FirstFactor<B: Backend> {
    /// There is one factor.
    None,
    /// There are two.
    Some {
        /// `[groups, outputs, inputs]`.
        values: IntTensor<B>,
        /// `[groups, outputs]`.
        scales: FloatTensor<B>,
    },
}

/// Products with int8 weights, native on Flex alone.
#[backend_extension(Flex)]
pub trait Int8Backend: Backend {
    /// `y [tokens, m]` of `x [tokens, n]`, and what follows.
    fn int8_product(
        x: FloatTensor<Self>,
        #[extension_type] first: FirstFactor<Self>,
        #[extension_type] coupling: OptionalTensor<Self>,
        values: IntTensor<Self>,
        scales: FloatTensor<Self>,
        #[extension_type] epilogue: EpilogueTensors<Self>,
        plan: Int8Plan,
    ) -> FloatTensor<Self>;
}

/// `y [tokens, m]` of `x [tokens, n]` on Flex; the matrix and the epilogue have been checked.
pub(super) fn product(x: Tensor<2>, matrix: &Int8Matrix, epilogue: Epilogue<2>) -> Tensor<2> {
    let (first, coupling, last, plan) = match matrix.clone() {
        Int8Matrix::BlockDiagonal { w } => (None, None, w, Int8Plan::BlockDiagonal),
        Int8Matrix::Monarch { r, l, output } => (Some(r), None, l, Int8Plan::Monarch(output)),
        Int8Matrix::Blast { u, s, v } => (Some(v), Some(s.cast(DType::F32)), u, Int8Plan::Blast),
        Int8Matrix::Ss1 { z, fold } => (None, None, z, Int8Plan::Ss1(fold)),
    };
    let first = match first {
        None => FirstFactor::None,
        Some(Int8Factor { values, scales }) => {
            FirstFactor::Some { values: values.into_dispatch(), scales: scales.into_dispatch() }
        }
    };
    Tensor::from_dispatch(<Dispatch as Int8Backend>::int8_product(
        x.into_dispatch(),
        first,
        OptionalTensor::of(coupling),
        last.values.into_dispatch(),
        last.scales.into_dispatch(),
        epilogue.into_tensors(),
        plan,
    ))
}

impl Int8Backend for Flex {
    fn int8_product(
        x: FloatTensor<Self>,
        first: FirstFactor<Self>,
        coupling: OptionalTensor<Self>,
        values: IntTensor<Self>,
        scales: FloatTensor<Self>,
        epilogue: EpilogueTensors<Self>,
        plan: Int8Plan,
    ) -> FloatTensor<Self> {
        let (dtype, [tokens, _]) = (x.dtype(), x.layout().shape().dims::<2>());
        let first = match first {
            FirstFactor::None => None,
            FirstFactor::Some { values, scales } => Some(Factor::new(&values, &scales)),
        };
        let (last, coupling) = (Factor::new(&values, &scales), coupling.into_option().map(in_f32));
        let m = last.groups * last.outputs;
        let (x, epilogue) = (in_f32(x), epilogue_in_f32(epilogue));
        epilogue.check([tokens, m], DType::F32);
        let operands = Operands {
            x: dense_slice(&x),
            tokens,
            first: first.as_ref(),
            coupling: coupling.as_ref().map(dense_slice),
            last: &last,
            plan,
        };
        let write = |mut y: Output<'_, f32>| on_pool(tokens, || operands.product(&mut y, epilogue.finish()));
        // SAFETY: every row of the last factor writes its output feature of every token, and the blocks have all of its rows.
        let y = contiguous(unsafe { alloc_uninit_with(tokens * m, write) }, Shape::new([tokens, m]));
        match dtype {
            DType::F64 => Self::float_cast(y, FloatDType::F64),
            _ => from_native(y, dtype),
        }
    }
}

/// In f32, row by row.
fn in_f32(tensor: FlexTensor) -> FlexTensor {
    match tensor.dtype() {
        DType::F32 => tensor.to_contiguous(),
        _ => Flex::float_cast(tensor, FloatDType::F32).to_contiguous(),
    }
}

fn epilogue_in_f32(epilogue: EpilogueTensors<Flex>) -> EpilogueTensors<Flex> {
    let cast = |tensor: OptionalTensor<Flex>| match tensor {
        OptionalTensor::None => OptionalTensor::None,
        OptionalTensor::Some(tensor) => OptionalTensor::Some(in_f32(tensor)),
    };
    let EpilogueTensors { bias, activation, gate, residual } = epilogue;
    EpilogueTensors { bias: cast(bias), activation, gate: cast(gate), residual: cast(residual) }
}

/// A factor, laid out row by row.
struct Factor {
    values: FlexTensor,
    scales: FlexTensor,
    groups: usize,
    outputs: usize,
    inputs: usize,
}

impl Factor {
    fn new(values: &FlexTensor, scales: &FlexTensor) -> Self {
        assert_eq!(values.dtype(), DType::I8, "int8: on Flex, the values of a factor must be I8");
        let [groups, outputs, inputs] = values.layout().shape().dims();
        assert_eq!(scales.layout().shape()[..], [groups, outputs], "int8: a scale for each output");
        Self { values: values.to_contiguous(), scales: in_f32(scales.clone()), groups, outputs, inputs }
    }

    fn weights(&self) -> Weights<'_> {
        let start = self.values.layout().start_offset();
        let values = &self.values.storage::<i8>()[start..][..self.groups * self.outputs * self.inputs];
        Weights { values, scales: dense_slice(&self.scales), depth: self.inputs }
    }

    /// One block of rows for each group.
    fn blocks(&self) -> Vec<Block> {
        let rows = self.outputs;
        (0..self.groups).map(|group| Block { group, first: group * rows, rows, output: group * rows }).collect()
    }
}

/// What a product takes.
struct Operands<'a> {
    /// `[tokens, n]`.
    x: &'a [f32],
    tokens: usize,
    first: Option<&'a Factor>,
    /// `[b1, b2, r]`.
    coupling: Option<&'a [f32]>,
    last: &'a Factor,
    plan: Int8Plan,
}

impl Operands<'_> {
    fn product(&self, y: &mut Output<'_, f32>, finish: Finish<'_, f32>) {
        let (tokens, last, team) = (self.tokens, self.last, ThreadTeam::default());
        let m = last.groups * last.outputs;
        let Some(first) = self.first else {
            return self.only_product(y, finish, &team);
        };
        let between = first.groups * first.outputs;
        f32::with_buffer(Workspace::Product, |buffer| {
            let [z] = split_aligned(buffer, [tokens * between]);
            quantized([first.groups, tokens, first.inputs], |rows| {
                quantize(rows, &team, Neighbours { x: self.x, n: first.groups * first.inputs });
                let blocks = first.blocks();
                let mut z = Output::of_slice(&mut *z);
                product::product(rows, first.weights(), &blocks, &mut z, between, Finish::bias(None), &team);
            });
            let z = &*z;
            quantized([last.groups, tokens, last.inputs], |rows| {
                match self.coupling {
                    Some(s) => quantize(rows, &team, Coupled { z, s, between }),
                    None if last.groups == 1 => quantize(rows, &team, Neighbours { x: z, n: between }),
                    None => quantize(rows, &team, Strided { x: z, n: between, groups: last.groups }),
                }
                match self.plan {
                    Int8Plan::Monarch(Order::Strided) if last.groups > 1 => {
                        strided_product(rows, last, y, finish, &team);
                    }
                    _ => product::product(rows, last.weights(), &last.blocks(), y, m, finish, &team),
                }
            });
        });
    }

    /// The product with a single factor.
    fn only_product(&self, y: &mut Output<'_, f32>, finish: Finish<'_, f32>, team: &ThreadTeam) {
        let (tokens, last) = (self.tokens, self.last);
        let m = last.groups * last.outputs;
        let Int8Plan::Ss1(fold) = self.plan else {
            return quantized([last.groups, tokens, last.inputs], |rows| {
                quantize(rows, team, Neighbours { x: self.x, n: last.groups * last.inputs });
                product::product(rows, last.weights(), &last.blocks(), y, m, finish, team);
            });
        };
        let count = fold.output_blocks(m);
        let plans: Vec<FoldPlan> = (0..count).map(|block| FoldPlan::new(fold, block)).collect();
        let blocks: Vec<Block> = (0..count)
            .map(|group| {
                let rows = fold.output_rows(m, group);
                Block { group, first: rows.start, rows: rows.len(), output: rows.start }
            })
            .collect();
        quantized([count, tokens, last.inputs], |rows| {
            quantize(rows, team, Folded { x: self.x, fold, plans: &plans });
            product::product(rows, last.weights(), &blocks, y, m, finish, team);
        });
    }
}

/// The product of a factor whose outputs are in strided order: in grouped order first.
fn strided_product(
    x: &QuantizedRows<'_>,
    w: &Factor,
    y: &mut Output<'_, f32>,
    finish: Finish<'_, f32>,
    team: &ThreadTeam,
) {
    let m = w.groups * w.outputs;
    // Not a workspace: those of a product and of a task are taken.
    let write = |mut grouped: Output<'_, f32>| {
        product::product(x, w.weights(), &w.blocks(), &mut grouped, m, Finish::bias(None), team);
    };
    // SAFETY: every row of the factor writes its output feature of every token.
    let grouped = unsafe { alloc_uninit_with(x.tokens * m, write) };
    let grouped = Matrix::row_major(&grouped, x.tokens, m, m);
    permute_features(team, grouped, [w.groups, w.outputs], finish, y.part(0, x.tokens * m));
}

/// Runs `body` with quantized rows, whose contents are whatever was left there.
fn quantized(shape: [usize; 3], body: impl FnOnce(&mut QuantizedRows<'_>)) {
    f32::with_buffer(Workspace::Shared, |buffer| {
        let buffers = split_aligned(buffer, QuantizedRows::lengths(shape));
        body(&mut QuantizedRows::new(shape, buffers));
    });
}

/// Runs `body` with room for a panel of `len` floats as it is stored, and packed.
fn with_panels(len: usize, body: impl FnOnce([&mut [f32]; 2])) {
    f32::with_buffer(Workspace::Task, |buffer| body(split_aligned(buffer, [len; 2])));
}
