//! Every structured product, by every strategy on every compiled backend, against f64 references and reference tensors.
//!
//! A [`backends::BackendTest`] is written once, over the backend extension traits, and runs on every backend. CubeCL devices
//! are tested twice: through fusion, and on the backend underneath.

#![allow(clippy::print_stderr, reason = "a skipped test says so")]
#![cfg_attr(feature = "ndarray", allow(deprecated))]

mod attention;
mod backends;
mod blast;
mod block_diagonal;
mod dense;
mod epilogue;
mod int8;
mod launch_limits;
mod monarch;
mod rounding;
mod safety;
mod spd;
mod ss1;
mod tensors;
