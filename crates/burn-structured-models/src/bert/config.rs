//! The sizes of a BERT encoder, and where they are read from.

use super::{Bert, BertError, Embeddings, Layer};
use burn::config::Config;
use burn::tensor::Device;
use burn_structured_nn::Structure;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

/// Configuration to create a [`Bert`] using the [init function](BertConfig::init).
///
/// The defaults are those of MiniLM-L6-H384.
#[derive(Config, Debug, PartialEq)]
pub struct BertConfig {
    /// Number of different tokens.
    pub vocab_size: usize,
    /// Features of a token.
    #[config(default = 384)]
    pub d_model: usize,
    /// Number of layers.
    #[config(default = 6)]
    pub depth: usize,
    /// Attention heads; divides `d_model`.
    #[config(default = 12)]
    pub heads: usize,
    /// Features between `intermediate` and `output`.
    #[config(default = 1536)]
    pub d_hidden: usize,
    /// The longest sequence of tokens.
    #[config(default = 512)]
    pub max_positions: usize,
    /// Number of token types. Sentences use the first; the others are kept for the checkpoint's sake.
    #[config(default = 2)]
    pub token_types: usize,
    /// What is added to the variance in every layer norm.
    #[config(default = 1e-12)]
    pub norm_epsilon: f64,
    /// The token that fills up short sentences.
    #[config(default = 0)]
    pub pad_id: usize,
    /// Structure of the query projection.
    #[config(default = "Structure::Dense")]
    pub query: Structure,
    /// Structure of the key projection.
    #[config(default = "Structure::Dense")]
    pub key: Structure,
    /// Structure of the value projection.
    #[config(default = "Structure::Dense")]
    pub value: Structure,
    /// Structure of the attention's output projection.
    #[config(default = "Structure::Dense")]
    pub attention_output: Structure,
    /// Structure of the first layer after the attention.
    #[config(default = "Structure::Dense")]
    pub intermediate: Structure,
    /// Structure of the second layer after the attention.
    #[config(default = "Structure::Dense")]
    pub output: Structure,
}

/// The part of a Hugging Face `config.json` that matters here, with the defaults of `transformers`.
#[derive(Deserialize)]
struct HuggingFaceConfig {
    vocab_size: usize,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "two")]
    type_vocab_size: usize,
    #[serde(default = "tiny")]
    layer_norm_eps: f64,
    pad_token_id: Option<usize>,
    model_type: Option<String>,
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
}

fn two() -> usize {
    2
}

fn tiny() -> f64 {
    1e-12
}

impl BertConfig {
    /// Reads a Hugging Face `config.json`. Every projection is dense: the structures of a compressed model are in the file of its
    /// weights.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no such configuration, or describes a model that is not built like BERT.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, BertError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| BertError::read(path, source))?;
        let json: HuggingFaceConfig =
            serde_json::from_str(&text).map_err(|source| BertError::Json { path: path.to_owned(), source })?;
        for (field, value, supported) in [
            ("model_type", &json.model_type, "bert"),
            ("hidden_act", &json.hidden_act, "gelu"),
            ("position_embedding_type", &json.position_embedding_type, "absolute"),
        ] {
            if let Some(value) = value.as_ref().filter(|value| *value != supported) {
                return Err(BertError::Unsupported { path: path.to_owned(), field, value: value.clone(), supported });
            }
        }
        let config = Self::new(json.vocab_size)
            .with_d_model(json.hidden_size)
            .with_depth(json.num_hidden_layers)
            .with_heads(json.num_attention_heads)
            .with_d_hidden(json.intermediate_size)
            .with_max_positions(json.max_position_embeddings)
            .with_token_types(json.type_vocab_size)
            .with_norm_epsilon(json.layer_norm_eps)
            .with_pad_id(json.pad_token_id.unwrap_or(0));
        config.check().map_err(|source| BertError::Config { path: path.to_owned(), source: Box::new(source) })?;
        Ok(config)
    }

    /// The `config.json` of a model of these sizes.
    pub(super) fn to_hugging_face(&self) -> Value {
        json!({
            "architectures": ["BertModel"],
            "hidden_act": "gelu",
            "hidden_size": self.d_model,
            "intermediate_size": self.d_hidden,
            "layer_norm_eps": self.norm_epsilon,
            "max_position_embeddings": self.max_positions,
            "model_type": "bert",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.depth,
            "pad_token_id": self.pad_id,
            "position_embedding_type": "absolute",
            "type_vocab_size": self.token_types,
            "vocab_size": self.vocab_size,
        })
    }

    /// The same model with all six linear layers of every layer of one structure.
    pub fn with_structure(self, structure: Structure) -> Self {
        self.with_query(structure)
            .with_key(structure)
            .with_value(structure)
            .with_attention_output(structure)
            .with_intermediate(structure)
            .with_output(structure)
    }

    /// Initialize a new [`Bert`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> Bert {
        self.try_init(device).unwrap_or_else(|error| panic!("Bert: {error}"))
    }

    /// Initialize a new [`Bert`] module.
    ///
    /// # Errors
    ///
    /// If a size is zero, the heads do not divide the features, the padding token is not in the vocabulary, or a structure
    /// does not fit its layer.
    pub fn try_init(&self, device: &Device) -> Result<Bert, BertError> {
        self.check()?;
        Ok(Bert {
            embeddings: Embeddings::new(self, device),
            layers: (0..self.depth).map(|_| Layer::try_new(self, device)).collect::<Result<_, _>>()?,
            norm_epsilon: self.norm_epsilon,
            pad_id: self.pad_id,
        })
    }

    fn check(&self) -> Result<(), BertError> {
        let error = |name, value: &dyn ToString, problem: String| {
            Err(BertError::Setting { name, value: value.to_string(), problem })
        };
        for (name, value) in [
            ("vocab_size", self.vocab_size),
            ("d_model", self.d_model),
            ("depth", self.depth),
            ("heads", self.heads),
            ("d_hidden", self.d_hidden),
            ("max_positions", self.max_positions),
            ("token_types", self.token_types),
        ] {
            if value == 0 {
                return error(name, &value, "must be at least 1".into());
            }
        }
        if !self.d_model.is_multiple_of(self.heads) {
            let problem = format!("does not divide d_model = {}; choose a divisor of it", self.d_model);
            return error("heads", &self.heads, problem);
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon.is_finite()) {
            return error("norm_epsilon", &self.norm_epsilon, "is no small positive number".into());
        }
        if self.pad_id >= self.vocab_size {
            let problem = format!("is not below vocab_size = {}", self.vocab_size);
            return error("pad_id", &self.pad_id, problem);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINI_LM: &str = r#"{
        "hidden_act": "gelu", "hidden_size": 384, "intermediate_size": 1536, "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512, "model_type": "bert", "num_attention_heads": 12, "num_hidden_layers": 6,
        "pad_token_id": 0, "position_embedding_type": "absolute", "type_vocab_size": 2, "vocab_size": 30522
    }"#;

    fn read(text: &str) -> Result<BertConfig, BertError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        BertConfig::from_file(path)
    }

    #[test]
    fn defaults_are_mini_lm() {
        assert_eq!(read(MINI_LM).unwrap(), BertConfig::new(30522));
    }

    #[test]
    fn fields_that_older_files_lack_have_their_defaults() {
        let text = r#"{"hidden_size": 8, "intermediate_size": 16, "max_position_embeddings": 4,
            "num_attention_heads": 2, "num_hidden_layers": 1, "vocab_size": 10}"#;
        let expected =
            BertConfig::new(10).with_d_model(8).with_depth(1).with_heads(2).with_d_hidden(16).with_max_positions(4);
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn configuration_survives_the_file() {
        let other = BertConfig::new(40).with_d_model(16).with_depth(3).with_heads(2).with_d_hidden(24);
        let other = other.with_max_positions(9).with_token_types(1).with_norm_epsilon(1e-5).with_pad_id(7);
        for config in [BertConfig::new(30522), other] {
            assert_eq!(read(&config.to_hugging_face().to_string()).unwrap(), config);
        }
    }

    #[test]
    fn broken_files_are_errors_that_name_the_culprit() {
        for (from, to, expected) in [
            ("\"vocab_size\": 30522", "\"vocab\": 1", "missing field `vocab_size`"),
            ("384", "\"many\"", "invalid type: string \"many\""),
            ("}", "", "is no BERT configuration: EOF"),
            (
                "heads\": 12",
                "heads\": 5",
                "config.json: heads = 5 does not divide d_model = 384; choose a divisor of it",
            ),
            ("384", "0", "d_model = 0 must be at least 1"),
            ("\"pad_token_id\": 0", "\"pad_token_id\": 30522", "pad_id = 30522 is not below vocab_size = 30522"),
            ("\"gelu\"", "\"relu\"", "hidden_act is \"relu\", but only \"gelu\" is implemented"),
            ("\"bert\"", "\"roberta\"", "model_type is \"roberta\", but only \"bert\""),
            ("\"absolute\"", "\"relative_key\"", "position_embedding_type is \"relative_key\""),
        ] {
            let message = read(&MINI_LM.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let message = BertConfig::from_file("/no/such/config.json").unwrap_err().to_string();
        assert!(message.starts_with("cannot read /no/such/config.json: "), "{message}");
    }

    #[test]
    fn error_names_the_projection_that_does_not_fit() {
        let config = BertConfig::new(10).with_d_model(8).with_heads(2).with_d_hidden(16);
        let config = config.with_intermediate("blast:b=3,r=2".parse().unwrap());
        let message = config.try_init(&Device::flex()).unwrap_err().to_string();
        assert!(message.starts_with("intermediate (8 → 16, blast:b=3,r=2): "), "{message}");
    }
}
