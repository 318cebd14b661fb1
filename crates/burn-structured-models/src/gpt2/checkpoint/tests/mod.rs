//! The checkpoint that `tests/fixtures/gpt2/generate.py` made, changed in one way or another.

mod broken;
mod files;
mod reference;
mod round_trip;

use crate::decoder::DecoderError;
use crate::decoder::testing::{self, FixtureModel};
use crate::gpt2::Gpt2;
use burn::tensor::{Device, Int, Tensor};
use std::path::Path;

type Checkpoint = testing::Checkpoint<Gpt2>;

impl FixtureModel for Gpt2 {
    const FAMILY: &'static str = "gpt2";

    fn from_folder(folder: &Path, device: &Device) -> Result<Self, DecoderError> {
        Self::from_folder(folder, device)
    }
}

/// The tokens of the fixture, `[2, 10]`.
fn tokens() -> Tensor<2, Int> {
    Tensor::from_data(Checkpoint::expected("tokens"), &Device::flex())
}
