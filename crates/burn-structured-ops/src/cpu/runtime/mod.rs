//! What products run on: a thread team, workspace, matrix views and SIMD.

mod matrix;
pub(crate) mod prefetch;
mod scalar;
mod simd;
mod team;
mod tensor;

pub(crate) use matrix::{Matrix, Output, multiply};
pub(crate) use scalar::{LINE, Scalar, Workspace, split_aligned};
#[cfg(test)]
pub(crate) use simd::on_every_processor;
pub(crate) use simd::{load, load_at, store, store_at, vectorized};
pub(crate) use team::ThreadTeam;
pub(crate) use tensor::{contiguous, dense_slice, from_native, in_native, to_native, with_native, with_rows};
