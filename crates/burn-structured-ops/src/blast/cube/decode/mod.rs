//! Products of a few tokens, as in generation: bound by reading the weights, so each is read once and launches are few.

mod couple;
mod expand;
mod launch;
mod plan;
mod single;
mod sizes;

pub(super) use launch::decode;
pub(super) use plan::{most_tokens, needs};
