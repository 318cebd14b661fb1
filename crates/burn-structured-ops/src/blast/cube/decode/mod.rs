//! [`BlastStrategy::Decode`](super::BlastStrategy::Decode): up to 8 tokens, as in generation. The product is bound by reading
//! the weights, so each is read once, in one launch or two.

mod couple;
mod expand;
mod launch;
mod plan;
mod single;
mod sizes;

pub(super) use launch::decode;
pub(super) use plan::{most_tokens, needs};
