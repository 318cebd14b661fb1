//! What products run on: a thread team, workspace, matrix views and SIMD.

pub(crate) mod math;
mod matrix;
mod output;
pub(crate) mod prefetch;
mod scalar;
mod simd;
mod team;
mod tensor;
mod workspace;

pub(crate) use matrix::Matrix;
pub(crate) use output::{Output, SharedOutput, alloc_uninit_with};
pub(crate) use scalar::Scalar;
#[cfg(test)]
pub(crate) use simd::on_every_instruction_set;
pub(crate) use simd::{load, load_at, store, store_at, vectorized};
pub(crate) use team::{ThreadTeam, on_pool};
pub(crate) use tensor::{contiguous, dense_slice, from_native, in_native, to_native, with_native, with_rows};
pub(crate) use workspace::{LINE, Workspace, split_aligned};
