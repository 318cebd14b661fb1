//! Every structured product, by every path on every backend that is compiled in, against f64 oracles and reference tensors.
//!
//! The promises are written once, over the backend extension trait, and run for each backend in [`subjects`]: what the
//! public function adds (dispatch by device) is tested where layers are. CubeCL devices are tested twice, through
//! fusion and on the backend underneath.

#![allow(clippy::print_stderr, reason = "a skipped test says so")]
#![cfg_attr(feature = "ndarray", allow(deprecated))]

mod blast;
mod block_diagonal;
mod dense;
mod groups;
mod monarch;
mod rounding;
mod spd;
mod ss1;
mod subjects;
mod tensors;
