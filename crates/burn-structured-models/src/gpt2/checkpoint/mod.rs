//! Checkpoints in Hugging Face's layout: a folder with `config.json` and `model.safetensors`.
//!
//! A dense layer of a block is a `Conv1D`, whose weight is `[d_input, d_output]` as in Burn; the head is a `Linear`, whose weight
//! is its transpose. A layer of another structure has its factors under its own name, `h.0.mlp.c_fc.u`, and the file of the weights
//! says which structure that is; see [`burn_structured_checkpoint`].

mod huggingface;
mod load;
mod names;
mod save;
#[cfg(test)]
mod tests;

const CONFIG: &str = "config.json";
