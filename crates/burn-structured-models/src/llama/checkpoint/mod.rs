//! Checkpoints in Hugging Face's layout: a folder with `config.json` and `model.safetensors`, or its shards.
//!
//! Every dense layer is a `Linear`, whose weight is the transpose of Burn's. A layer of another structure has its factors under its own
//! name, `layers.0.mlp.up_proj.u`, and the file of the weights says which structure that is; see [`burn_structured_checkpoint`].

mod huggingface;
mod load;
mod names;
mod save;
#[cfg(test)]
mod tests;

const CONFIG: &str = "config.json";
