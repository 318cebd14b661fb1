//! Whole models on every device of the build.

#![allow(clippy::print_stdout, reason = "a failed test says which case it was at, a skipped one that it was")]

#[allow(dead_code, reason = "the tests of layers use the rest")]
#[path = "../layers/devices.rs"]
mod devices;
mod llama;
