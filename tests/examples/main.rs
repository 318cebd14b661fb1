//! The example programs as a user runs them.

mod compress_encoder;
mod dit_cifar;
mod dlrm_clicks;
mod fine_tune_encoder;
mod generate;
mod gpt2_text;
mod inner_products;
#[allow(dead_code, reason = "the program's tests use the rest")]
#[path = "../../crates/burn-structured-cli/tests/cli/models.rs"]
mod models;
mod process;
mod short;
mod vit_cifar;
