//! The example programs as a user runs them.

mod gpt2_generate;
mod gpt2_text;
mod process;
mod vit_cifar;
