//! `t` straight from `x`: the projection and the coupling in one pass, with `z` in registers.

mod kernel;
mod launch;

pub(super) use launch::project_couple;
