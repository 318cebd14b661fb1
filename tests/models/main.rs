//! Whole models on every device of the build.

#[allow(dead_code, reason = "the tests of layers use the rest")]
#[path = "../layers/devices.rs"]
mod devices;
mod llama;
