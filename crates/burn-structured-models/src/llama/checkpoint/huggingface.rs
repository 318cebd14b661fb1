//! Hugging Face's `config.json`.

use crate::decoder::{DecoderError, read_config, supported};
use crate::llama::{LlamaConfig, RopeScaling};
use burn_structured_nn::Structure;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

/// The part of a Llama's `config.json` that matters here, with the defaults of `transformers`.
#[derive(Deserialize)]
struct HuggingFaceConfig {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    #[serde(default = "default_context")]
    max_position_embeddings: usize,
    #[serde(default = "default_epsilon")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<Rope>,
    /// In newer files, in the place of the two before it.
    rope_parameters: Option<Rope>,
    partial_rotary_factor: Option<f64>,
    rope_interleaved: Option<bool>,
    hidden_act: Option<String>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
}

/// How the angles of the rotary embeddings are computed.
#[derive(Deserialize)]
struct Rope {
    rope_type: Option<String>,
    /// The same in older files.
    #[serde(rename = "type")]
    kind: Option<String>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

impl Rope {
    /// How the frequencies are scaled.
    ///
    /// # Errors
    ///
    /// If the kind is unknown, or a number is missing.
    fn scaling(&self, path: &Path, field: &'static str) -> Result<Option<RopeScaling>, DecoderError> {
        let kind = self.rope_type.as_ref().or(self.kind.as_ref()).map_or("of no type", String::as_str);
        let lacks = |name: &str| {
            let problem = format!("lacks {name}; fetch the model's own file again");
            DecoderError::Setting { name: field, value: kind.into(), problem }.in_file(path)
        };
        let number = |name, value: Option<f64>| value.ok_or_else(|| lacks(name));
        match kind {
            "default" => Ok(None),
            "linear" => Ok(Some(RopeScaling::Linear { factor: number("factor", self.factor)? })),
            "llama3" => Ok(Some(RopeScaling::Llama3 {
                factor: number("factor", self.factor)?,
                low: number("low_freq_factor", self.low_freq_factor)?,
                high: number("high_freq_factor", self.high_freq_factor)?,
                original_context: self
                    .original_max_position_embeddings
                    .ok_or_else(|| lacks("original_max_position_embeddings"))?,
            })),
            other => supported(path, field, Some(other), "default, linear or llama3").map(|()| None),
        }
    }

    /// As [`scaling`](Self::scaling) reads it.
    fn of(scaling: &RopeScaling) -> Value {
        match scaling {
            RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
            RopeScaling::Llama3 { factor, low, high, original_context } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low,
                "high_freq_factor": high,
                "original_max_position_embeddings": original_context,
            }),
        }
    }
}

fn default_context() -> usize {
    2048
}

fn default_epsilon() -> f64 {
    1e-6
}

/// The base of the wavelengths in files that do not say it.
const THETA: f64 = 10_000.0;

impl LlamaConfig {
    /// Reads a Hugging Face `config.json`. Every linear layer is dense: the structures of a compressed model are in the file of its
    /// weights.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no such configuration, or describes a model that is not built like Llama: another activation,
    /// biases, or rotary embeddings scaled in another way than [`RopeScaling`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, DecoderError> {
        let path = path.as_ref();
        let json: HuggingFaceConfig = read_config(path, "llama", "a Llama")?;
        let rope = json.rope_parameters.as_ref();
        let rotated = json.partial_rotary_factor.or(rope.and_then(|rope| rope.partial_rotary_factor));
        supported(path, "hidden_act", json.hidden_act, "silu")?;
        supported(path, "attention_bias", Some(json.attention_bias), "false")?;
        supported(path, "mlp_bias", Some(json.mlp_bias), "false")?;
        let older = json.rope_scaling.as_ref().map(|rope| rope.scaling(path, "rope_scaling")).transpose()?;
        let newer = rope.map(|rope| rope.scaling(path, "rope_parameters")).transpose()?;
        supported(path, "rope_interleaved", json.rope_interleaved, "false")?;
        supported(path, "partial_rotary_factor", rotated, "1")?;
        let (heads, d_head) = (json.num_attention_heads, json.head_dim.unwrap_or(0));
        let is_usual = d_head.checked_mul(heads) == Some(json.hidden_size);
        let config = Self::new(json.vocab_size)
            .with_context(json.max_position_embeddings)
            .with_d_model(json.hidden_size)
            .with_depth(json.num_hidden_layers)
            .with_heads(heads)
            .with_kv_heads(json.num_key_value_heads.unwrap_or(heads))
            .with_d_head(if is_usual { 0 } else { d_head })
            .with_d_hidden(json.intermediate_size)
            .with_norm_epsilon(json.rms_norm_eps)
            .with_rope_theta(rope.and_then(|rope| rope.rope_theta).or(json.rope_theta).unwrap_or(THETA))
            .with_rope_scaling(newer.flatten().or(older.flatten()))
            .with_head((!json.tie_word_embeddings).then_some(Structure::Dense));
        config.check().map_err(|error| error.in_file(path))?;
        Ok(config)
    }

    /// The `config.json` of a model, with the token that ends a text.
    pub(super) fn to_hugging_face(&self, end_of_text: Option<u32>) -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": false,
            "attention_dropout": 0.0,
            "eos_token_id": end_of_text,
            "head_dim": self.head_features(),
            "hidden_act": "silu",
            "hidden_size": self.d_model,
            "intermediate_size": self.d_hidden,
            "max_position_embeddings": self.context,
            "mlp_bias": false,
            "model_type": "llama",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.depth,
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": self.norm_epsilon,
            "rope_scaling": self.rope_scaling.as_ref().map(Rope::of),
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.head.is_none(),
            "vocab_size": self.vocab_size,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `config.json` of TinyLlama 1.1B.
    const TINYLLAMA: &str = r#"{
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 5632,
        "max_position_embeddings": 2048, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 22,
        "num_key_value_heads": 4, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": null,
        "rope_theta": 10000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "use_cache": true,
        "vocab_size": 32000
    }"#;

    fn llama3() -> RopeScaling {
        RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 8192 }
    }

    fn read(text: &str) -> Result<LlamaConfig, DecoderError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        LlamaConfig::from_file(path)
    }

    #[test]
    fn tinyllama_is_its_preset() {
        assert_eq!(read(TINYLLAMA).unwrap(), LlamaConfig::tinyllama(32000));
    }

    #[test]
    fn absent_fields_have_the_defaults_of_transformers() {
        let text = r#"{"vocab_size": 10, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1,
            "num_attention_heads": 2}"#;
        let expected =
            LlamaConfig::new(10).with_d_model(8).with_d_hidden(12).with_depth(1).with_heads(2).with_kv_heads(2);
        assert_eq!(read(text).unwrap(), expected.with_norm_epsilon(1e-6));
    }

    #[test]
    fn rope_is_read_from_either_field() {
        for (from, to, theta, d_head) in [
            ("\"rope_theta\": 10000.0", "\"rope_theta\": 500000.0, \"head_dim\": 64", 500_000.0, 0),
            (
                "\"rope_theta\": 10000.0",
                "\"rope_parameters\": {\"rope_theta\": 5e5, \"rope_type\": \"default\"}",
                5e5,
                0,
            ),
            ("\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"default\"}, \"head_dim\": 128", 1e4, 128),
        ] {
            let expected = LlamaConfig::tinyllama(32000).with_rope_theta(theta).with_d_head(d_head);
            assert_eq!(read(&TINYLLAMA.replacen(from, to, 1)).unwrap(), expected, "{to}");
        }
    }

    #[test]
    fn scaling_is_read_from_either_field() {
        let numbers = r#""factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3""#;
        let expected = LlamaConfig::tinyllama(32000).with_rope_scaling(Some(llama3()));
        for field in ["rope_scaling", "rope_parameters"] {
            let text = TINYLLAMA.replacen("\"rope_scaling\": null", &format!("\"{field}\": {{{numbers}}}"), 1);
            assert_eq!(read(&text).unwrap(), expected, "{field}");
        }
    }

    #[test]
    fn configuration_survives_the_file() {
        for config in [
            LlamaConfig::tinyllama(32000),
            LlamaConfig::tiny(65).with_d_head(20).with_norm_epsilon(1e-6).with_rope_theta(5e5).with_head(None),
            LlamaConfig::tiny(65).with_rope_scaling(Some(RopeScaling::Linear { factor: 2.5 })),
            LlamaConfig::tiny(65).with_rope_scaling(Some(llama3())),
        ] {
            let json = config.to_hugging_face(None);
            assert_eq!(read(&json.to_string()).unwrap(), config, "{json}");
        }
    }

    #[test]
    fn file_says_nothing_of_structures() {
        let config = LlamaConfig::tiny(65);
        let compressed = config.clone().with_structure("monarch:b=2,r=3".parse().unwrap());
        let json = compressed.with_head(Some("low-rank:r=7".parse().unwrap())).to_hugging_face(Some(64));
        assert_eq!(json["eos_token_id"], json!(64));
        assert_eq!(read(&json.to_string()).unwrap(), config);
    }

    #[test]
    fn broken_files_are_errors_that_name_the_culprit() {
        let scaled = r#""rope_scaling": {"factor": 8.0, "rope_type": "llama3"}"#;
        let endless = r#""rope_scaling": {"factor": 0, "type": "linear"}"#;
        let newer = r#""rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}"#;
        let nameless = r#""rope_scaling": {"factor": 2.0}"#;
        for (from, to, expected) in [
            ("\"vocab_size\": 32000", "\"vocab\": 1", "missing field `vocab_size`"),
            ("5632", "\"many\"", "config.json does not describe a Llama: invalid type: string \"many\""),
            ("}", "", "does not describe a Llama: EOF"),
            (
                "\"num_attention_heads\": 32",
                "\"num_attention_heads\": 3",
                "heads = 3 does not divide d_model = 2048; choose",
            ),
            (
                "\"num_key_value_heads\": 4",
                "\"num_key_value_heads\": 5",
                "kv_heads = 5 does not divide heads = 32; choose",
            ),
            (
                "\"num_key_value_heads\": 4",
                "\"num_key_value_heads\": 0",
                "config.json: kv_heads = 0 must be at least 1",
            ),
            ("\"bos_token_id\": 1", "\"head_dim\": 7", "config.json: d_head = 7 must be even"),
            ("\"bos_token_id\": 1", "\"head_dim\": 18446744073709551614", "d_head = 18446744073709551614 must be even"),
            ("1e-05", "0", "config.json: norm_epsilon = 0 must be a number above 0"),
            ("10000.0", "-1", "config.json: rope_theta = -1 must be a number above 0"),
            ("\"llama\"", "\"mistral\"", "model_type is mistral, but only llama is implemented; choose another model"),
            ("\"silu\"", "\"gelu\"", "hidden_act is gelu, but only silu is implemented"),
            ("\"attention_bias\": false", "\"attention_bias\": true", "attention_bias is true, but only false"),
            ("\"bos_token_id\": 1", "\"mlp_bias\": true", "mlp_bias is true, but only false"),
            ("\"rope_scaling\": null", scaled, "rope_scaling = llama3 lacks low_freq_factor"),
            ("\"rope_scaling\": null", endless, "Linear { factor: 0.0 } must have a factor above 0"),
            (
                "\"rope_scaling\": null",
                nameless,
                "rope_scaling is of no type, but only default, linear or llama3 is implemented",
            ),
            (
                "\"rope_scaling\": null",
                newer,
                "rope_parameters is yarn, but only default, linear or llama3 is implemented",
            ),
            ("\"bos_token_id\": 1", "\"partial_rotary_factor\": 0.5", "partial_rotary_factor is 0.5, but only 1"),
            ("\"bos_token_id\": 1", "\"rope_interleaved\": true", "rope_interleaved is true, but only false"),
        ] {
            let message = read(&TINYLLAMA.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        // Another model's file lacks the fields of a Llama as well.
        let message = read(r#"{"model_type": "bert", "hidden_size": 8}"#).unwrap_err().to_string();
        assert!(message.contains("model_type is bert, but only llama"), "{message}");
        let message = LlamaConfig::from_file("/no/such/config.json").unwrap_err().to_string();
        assert!(message.starts_with("cannot read /no/such/config.json: "), "{message}");
    }
}
