//! Every structure through the public modules: one table of layers, and what all of them guarantee, on every device
//! of the build, dispatch, autodiff and fusion included.

#![allow(clippy::print_stdout, reason = "a failed test says which case it was at, a skipped one that it was")]

mod approximation;
mod devices;

mod factorization;
mod gradients;
mod operators;
mod parameters;
mod properties;
mod saving;
mod table;
mod training;
