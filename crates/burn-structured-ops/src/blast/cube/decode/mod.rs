//! Products of a few tokens, as in generation: bound by reading the weights, so each is read once and launches are few.

mod couple;
mod expand;
mod kernel;
mod launch;

pub(super) use couple::CoupleCube;
pub(super) use expand::ExpandCube;
pub(super) use kernel::DecodeCube;
pub(super) use launch::decode;
