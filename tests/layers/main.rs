//! Every structure through the public modules: one table of layers, and the promises that all of them keep, on every device
//! of the build, dispatch, autodiff and fusion included.

#![allow(clippy::print_stdout, reason = "a failed test says which case it was at, a skipped one that it was")]

mod approximation;
mod devices;
mod drawn;
mod factorization;
mod gradients;
mod parameters;
mod products;
mod saving;
mod table;
mod training;
