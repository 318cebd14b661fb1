mod files;
mod loader;
mod texts;

use super::*;
use crate::data::DataError;
use burn::tensor::{Device, Int, Tensor};

/// The rows of a tensor of tokens.
fn rows(tokens: Tensor<2, Int>) -> Vec<Vec<u32>> {
    let [_, columns] = tokens.dims();
    let tokens: Vec<u32> = tokens.into_data().iter::<u32>().collect();
    tokens.chunks(columns).map(<[u32]>::to_vec).collect()
}

fn counted(count: u32) -> TokenSource {
    TokenSource::memory((0..count).collect())
}

fn message<T: std::fmt::Debug>(result: Result<T, DataError>) -> String {
    result.unwrap_err().to_string()
}
