//! Hugging Face's `config.json`.

use crate::decoder::{DecoderError, read_config, supported};
use crate::gpt2::Gpt2Config;
use burn_structured_nn::Structure;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

/// The part of a GPT-2's `config.json` that matters here, with the defaults of `transformers`.
#[derive(Deserialize)]
struct HuggingFaceConfig {
    vocab_size: usize,
    n_positions: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_inner: Option<usize>,
    #[serde(default = "default_epsilon")]
    layer_norm_epsilon: f64,
    #[serde(default = "default_dropout")]
    resid_pdrop: f64,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
    activation_function: Option<String>,
    #[serde(default = "yes")]
    scale_attn_weights: bool,
    #[serde(default)]
    scale_attn_by_inverse_layer_idx: bool,
    #[serde(default)]
    add_cross_attention: bool,
}

fn default_epsilon() -> f64 {
    1e-5
}

fn default_dropout() -> f64 {
    0.1
}

fn yes() -> bool {
    true
}

impl Gpt2Config {
    /// Reads a Hugging Face `config.json`. Every linear layer is dense: the structures of a compressed model are in the file of its
    /// weights. The dropout is `resid_pdrop`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no such configuration, or describes a model that is not built like GPT-2.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, DecoderError> {
        let path = path.as_ref();
        let json: HuggingFaceConfig = read_config(path, "gpt2", "a GPT-2")?;
        supported(path, "activation_function", json.activation_function, "gelu_new")?;
        supported(path, "scale_attn_weights", Some(json.scale_attn_weights), "true")?;
        supported(path, "scale_attn_by_inverse_layer_idx", Some(json.scale_attn_by_inverse_layer_idx), "false")?;
        supported(path, "add_cross_attention", Some(json.add_cross_attention), "false")?;
        let config = Self::new(json.vocab_size)
            .with_context(json.n_positions)
            .with_d_model(json.n_embd)
            .with_depth(json.n_layer)
            .with_heads(json.n_head)
            .with_d_hidden(json.n_inner.unwrap_or(0))
            .with_dropout(json.resid_pdrop)
            .with_norm_epsilon(json.layer_norm_epsilon)
            .with_head((!json.tie_word_embeddings).then_some(Structure::Dense));
        config.check().map_err(|error| error.in_file(path))?;
        Ok(config)
    }

    /// The `config.json` of a model, with the token that ends a text.
    pub(super) fn to_hugging_face(&self, end_of_text: Option<u32>) -> Value {
        json!({
            "activation_function": "gelu_new",
            "architectures": ["GPT2LMHeadModel"],
            // The attention weights have no dropout.
            "attn_pdrop": 0.0,
            "bos_token_id": end_of_text,
            "embd_pdrop": self.dropout,
            "eos_token_id": end_of_text,
            "layer_norm_epsilon": self.norm_epsilon,
            "model_type": "gpt2",
            "n_embd": self.d_model,
            "n_head": self.heads,
            "n_inner": (self.mlp_features() != 4 * self.d_model).then_some(self.mlp_features()),
            "n_layer": self.depth,
            "n_positions": self.context,
            "resid_pdrop": self.dropout,
            "tie_word_embeddings": self.head.is_none(),
            "vocab_size": self.vocab_size,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `config.json` of `openai-community/gpt2`, without the settings of its summaries.
    const SMALL: &str = r#"{
        "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
        "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12,
        "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1, "vocab_size": 50257
    }"#;

    fn read(text: &str) -> Result<Gpt2Config, DecoderError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        Gpt2Config::from_file(path)
    }

    #[test]
    fn gpt2_is_the_small_model() {
        assert_eq!(read(SMALL).unwrap(), Gpt2Config::small(50257).with_dropout(0.1));
    }

    #[test]
    fn absent_fields_have_the_defaults_of_transformers() {
        let text = r#"{"vocab_size": 10, "n_positions": 4, "n_embd": 8, "n_layer": 1, "n_head": 2}"#;
        let expected =
            Gpt2Config::new(10).with_context(4).with_d_model(8).with_depth(1).with_heads(2).with_dropout(0.1);
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn configuration_survives_the_file() {
        for config in [
            Gpt2Config::small(50257).with_dropout(0.1),
            Gpt2Config::nano(65).with_d_hidden(96).with_norm_epsilon(1e-6).with_head(Some(Structure::Dense)),
        ] {
            let json = config.to_hugging_face(None);
            assert_eq!(read(&json.to_string()).unwrap(), config, "{json}");
        }
    }

    #[test]
    fn file_says_nothing_of_structures() {
        let config = Gpt2Config::nano(65).with_head(Some(Structure::Dense));
        let compressed = config.clone().with_structure("monarch:b=2,r=3".parse().unwrap());
        let compressed = compressed.with_head(Some("low-rank:r=7".parse().unwrap()));
        let json = compressed.to_hugging_face(Some(64));
        assert_eq!(json["eos_token_id"], json!(64));
        assert_eq!(read(&json.to_string()).unwrap(), config);
    }

    #[test]
    fn broken_files_are_errors_that_name_the_culprit() {
        for (from, to, expected) in [
            ("\"vocab_size\": 50257", "\"vocab\": 1", "missing field `vocab_size`"),
            ("768", "\"many\"", "config.json does not describe a GPT-2: invalid type: string \"many\""),
            ("}", "", "does not describe a GPT-2: EOF"),
            ("\"n_head\": 12", "\"n_head\": 5", "config.json: heads = 5 does not divide d_model = 768; choose"),
            ("768", "0", "config.json: d_model = 0 must be at least 1"),
            ("1e-05", "0", "config.json: norm_epsilon = 0 must be a number above 0"),
            ("\"gpt2\"", "\"llama\"", "model_type is llama, but only gpt2 is implemented; choose another model"),
            ("\"gelu_new\"", "\"relu\"", "activation_function is relu, but only gelu_new is implemented"),
            ("\"n_ctx\": 1024", "\"scale_attn_weights\": false", "scale_attn_weights is false, but only true"),
            (
                "\"n_ctx\": 1024",
                "\"scale_attn_by_inverse_layer_idx\": true",
                "scale_attn_by_inverse_layer_idx is true, but only false",
            ),
            ("\"n_ctx\": 1024", "\"add_cross_attention\": true", "add_cross_attention is true, but only false"),
        ] {
            let message = read(&SMALL.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        // Another model's file lacks the fields of a GPT-2 as well.
        let message = read(r#"{"model_type": "bert", "hidden_size": 8}"#).unwrap_err().to_string();
        assert!(message.contains("model_type is bert, but only gpt2"), "{message}");
        let message = Gpt2Config::from_file("/no/such/config.json").unwrap_err().to_string();
        assert!(message.starts_with("cannot read /no/such/config.json: "), "{message}");
        assert!(message.ends_with("; a model folder holds config.json and model.safetensors"), "{message}");
    }
}
