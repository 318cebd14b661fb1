//! The coupling, its gradient, and both gradients that pass through it at once.
//!
//! As tensor operations they would each write a product of size `[b1, b2, tokens, r]`, or copy `z` and `t` into another
//! order. They are bound by memory, so each reads its operands as few times as registers allow.

mod kernel;
mod launch;
mod tiles;

pub(super) use launch::{couple, couple_simt, coupling_backward, coupling_gradient};
