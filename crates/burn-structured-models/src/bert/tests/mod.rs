//! A tiny checkpoint under Hugging Face's names, what the loaded model makes of it, and what becomes of broken ones.

mod blocks;
mod reference;
mod saved;

use super::{Bert, BertConfig, BertError, TokenBatch};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData, Tolerance};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use tempfile::TempDir;

const CONFIG: &str = r#"{
    "model_type": "bert", "hidden_act": "gelu", "vocab_size": 12, "hidden_size": 8, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 10, "layer_norm_eps": 1e-12
}"#;

/// Tensors under Hugging Face's names.
pub(super) struct Checkpoint {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    /// How the values are stored.
    dtype: Dtype,
}

impl Checkpoint {
    /// Two layers of 8 features in 2 heads.
    pub fn random(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut tensors = BTreeMap::new();
        let mut tensor = |name: String, shape: &[usize], mean: f32| {
            let values = (0..shape.iter().product()).map(|_| mean + rng.random_range(-0.6..0.6)).collect();
            tensors.insert(name, (shape.to_vec(), values));
        };
        for (name, rows) in [("word", 12), ("position", 10), ("token_type", 2)] {
            tensor(format!("embeddings.{name}_embeddings.weight"), &[rows, 8], 0.0);
        }
        let mut norms = vec!["embeddings.LayerNorm".to_string()];
        for layer in ["encoder.layer.0", "encoder.layer.1"] {
            for (name, d_output, d_input) in [
                ("attention.self.query", 8, 8),
                ("attention.self.key", 8, 8),
                ("attention.self.value", 8, 8),
                ("attention.output.dense", 8, 8),
                ("intermediate.dense", 16, 8),
                ("output.dense", 8, 16),
            ] {
                tensor(format!("{layer}.{name}.weight"), &[d_output, d_input], 0.0);
                tensor(format!("{layer}.{name}.bias"), &[d_output], 0.0);
            }
            norms.extend(["attention.output", "output"].map(|name| format!("{layer}.{name}.LayerNorm")));
        }
        for norm in norms {
            tensor(format!("{norm}.weight"), &[8], 1.0);
            tensor(format!("{norm}.bias"), &[8], 0.0);
        }
        // What checkpoints hold beside the encoder.
        tensor("pooler.dense.weight".into(), &[8, 8], 0.0);
        tensor("cls.predictions.bias".into(), &[12], 0.0);
        Self { tensors, dtype: Dtype::F32 }
    }

    /// The safetensors file, with `prefix` before every name.
    pub fn bytes(&self, prefix: &str) -> Vec<u8> {
        let bytes = |value: &f32| match self.dtype {
            Dtype::F32 => value.to_le_bytes().to_vec(),
            Dtype::F64 => f64::from(*value).to_le_bytes().to_vec(),
            Dtype::I64 => (*value as i64).to_le_bytes().to_vec(),
            other => panic!("the tests store no {other:?}"),
        };
        let stored = |values: &Vec<f32>| values.iter().flat_map(bytes).collect::<Vec<u8>>();
        let mut data: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, (shape, values))| (format!("{prefix}{name}"), (self.dtype, shape.clone(), stored(values))))
            .collect();
        let positions = (0..10i64).flat_map(i64::to_le_bytes).collect();
        data.insert(format!("{prefix}embeddings.position_ids"), (Dtype::I64, vec![1, 10], positions));
        let views = data
            .iter()
            .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }

    /// A model folder, without a tokenizer.
    pub fn folder(&self, prefix: &str) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), CONFIG).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), self.bytes(prefix)).unwrap();
        folder
    }

    fn load(&self, prefix: &str) -> Result<Bert, BertError> {
        Bert::from_folder(self.folder(prefix).path(), &Device::flex())
    }
}

/// A WordPiece tokenizer of nine tokens that cuts at six.
#[cfg(feature = "tokenizers")]
pub(super) fn tokenizer_json() -> String {
    r###"{
        "version": "1.0",
        "truncation": {"max_length": 6, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 6}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "a": 4,
                "dog": 5, "run": 6, "##s": 7, "cat": 8}}
    }"###
        .into()
}

fn batch(sentences: &[&[u32]]) -> TokenBatch {
    TokenBatch::new(sentences, 0, &Device::flex())
}

#[test]
fn loaded_checkpoint_matches_the_reference() {
    let checkpoint = Checkpoint::random(7);
    let model = checkpoint.load("").unwrap();
    let sentences: [&[u32]; 3] = [&[2, 11, 4, 9, 3], &[2, 3], &[5]];
    let TokenBatch { tokens, mask } = batch(&sentences);
    let features = model.forward(tokens.clone(), mask.clone());
    let embeddings = model.embed(tokens, mask);
    for (index, sentence) in sentences.into_iter().enumerate() {
        let expected = reference::forward(&checkpoint.tensors, sentence, 2, 2);
        let found = features.clone().slice([index..index + 1, 0..sentence.len(), 0..8]);
        let flat = TensorData::new(expected.concat(), [1, sentence.len(), 8]);
        found.into_data().assert_approx_eq::<f32>(&flat.convert::<f32>(), Tolerance::absolute(1e-5));
        let expected = TensorData::new(reference::embed(&expected), [1, 8]).convert::<f32>();
        let found = embeddings.clone().narrow(0, index, 1).into_data();
        found.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
    }
}

#[test]
fn padding_changes_nothing() {
    let model = Checkpoint::random(3).load("").unwrap();
    let embed = |batch: TokenBatch| model.embed(batch.tokens, batch.mask);
    let alone = embed(batch(&[&[2, 7, 3]])).into_data();
    for pad_id in [0, 9] {
        let filled = TokenBatch::new(&[&[2u32, 7, 3] as &[u32], &[2, 4, 5, 6, 8, 3]], pad_id, &Device::flex());
        embed(filled).narrow(0, 0, 1).into_data().assert_approx_eq::<f32>(&alone, Tolerance::absolute(1e-6));
    }
}

#[test]
fn embeddings_have_length_one() {
    let model = Checkpoint::random(4).load("").unwrap();
    let TokenBatch { tokens, mask } = batch(&[&[2, 7, 3], &[2, 4, 4, 3]]);
    let lengths: Tensor<2> = model.embed(tokens, mask).square().sum_dim(1);
    lengths.into_data().assert_approx_eq::<f32>(&TensorData::from([[1.0f32], [1.0]]), Tolerance::absolute(1e-6));
}

#[test]
fn names_may_have_a_prefix_and_norms_old_names() {
    let mut checkpoint = Checkpoint::random(5);
    let plain = checkpoint.load("").unwrap();
    let prefixed = checkpoint.load("bert.").unwrap();
    let renamed = |name: String| match name.split_once("LayerNorm.") {
        Some((module, "weight")) => format!("{module}LayerNorm.gamma"),
        Some((module, _)) => format!("{module}LayerNorm.beta"),
        None => name,
    };
    checkpoint.tensors = checkpoint.tensors.into_iter().map(|(name, tensor)| (renamed(name), tensor)).collect();
    let old = checkpoint.load("").unwrap();
    let features = |model: &Bert| {
        let TokenBatch { tokens, mask } = batch(&[&[2, 7, 3]]);
        model.forward(tokens, mask).into_data()
    };
    assert_eq!(features(&prefixed), features(&plain));
    assert_eq!(features(&old), features(&plain));
}

#[test]
fn weights_of_another_precision_are_converted() {
    let mut checkpoint = Checkpoint::random(5);
    let single = checkpoint.load("").unwrap();
    checkpoint.dtype = Dtype::F64;
    let double = checkpoint.load("").unwrap();
    let embed = |model: &Bert| {
        let TokenBatch { tokens, mask } = batch(&[&[2, 7, 3]]);
        model.embed(tokens, mask).into_data()
    };
    assert_eq!(embed(&double), embed(&single));
    checkpoint.dtype = Dtype::I64;
    let message = checkpoint.load("").unwrap_err().to_string();
    let expected = "model.safetensors: embeddings.word_embeddings.weight cannot be used: it holds I64 instead of F32";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn misfitting_checkpoints_are_errors_that_name_the_tensor() {
    let message = |name: &str, change: &dyn Fn(&mut Checkpoint, &str)| {
        let mut checkpoint = Checkpoint::random(6);
        assert!(checkpoint.tensors.contains_key(name), "{name}");
        change(&mut checkpoint, name);
        checkpoint.load("bert.").unwrap_err().to_string()
    };
    let remove = |checkpoint: &mut Checkpoint, name: &str| drop(checkpoint.tensors.remove(name));
    let reshape = |checkpoint: &mut Checkpoint, name: &str| {
        let (shape, values) = checkpoint.tensors.get_mut(name).unwrap();
        shape[0] += 1;
        values.resize(shape.iter().product(), 0.0);
    };
    for name in ["encoder.layer.1.attention.self.key.weight", "embeddings.LayerNorm.bias"] {
        let message = message(name, &remove);
        assert!(message.contains(&format!("model.safetensors lacks {name}; do config.json")), "{message}");
    }
    for (name, shapes) in [
        ("encoder.layer.0.intermediate.dense.weight", "[17, 8] instead of [16, 8]"),
        ("encoder.layer.1.output.LayerNorm.weight", "[9] instead of [8]"),
        ("embeddings.word_embeddings.weight", "[13, 8] instead of [12, 8]"),
    ] {
        let message = message(name, &reshape);
        assert!(message.contains(&format!("model.safetensors: {name} has shape {shapes}; do")), "{message}");
    }
    let other = |checkpoint: &mut Checkpoint, _: &str| checkpoint.tensors.retain(|name, _| name.starts_with("cls"));
    let message = message("embeddings.word_embeddings.weight", &other);
    assert!(message.contains("lacks embeddings.LayerNorm.bias and 36 more tensors; "), "{message}");
}

#[test]
fn layers_that_the_model_lacks_are_named() {
    let mut checkpoint = Checkpoint::random(6);
    let norm = checkpoint.tensors["encoder.layer.1.output.LayerNorm.weight"].clone();
    let mut message = |name: &str| {
        checkpoint.tensors.insert(name.into(), norm.clone());
        let message = checkpoint.load("bert.").unwrap_err().to_string();
        checkpoint.tensors.remove(name);
        message
    };
    for name in ["encoder.layer.2.output.LayerNorm.weight", "encoder.layer.1.crossattention.self.query.bias"] {
        let message = message(name);
        assert!(
            message.contains(&format!("model.safetensors: {name} belongs to no layer of the model; ")),
            "{message}"
        );
    }
}

#[test]
fn damaged_and_missing_files_are_errors_that_name_the_file() {
    let checkpoint = Checkpoint::random(6);
    let bytes = checkpoint.bytes("");
    let folder = checkpoint.folder("");
    let path = folder.path().join("model.safetensors");
    for damaged in [&bytes[..bytes.len() - 1], &bytes[..5], &[], b"<html>404 not found</html>"] {
        std::fs::write(&path, damaged).unwrap();
        let message = Bert::from_folder(folder.path(), &Device::flex()).unwrap_err().to_string();
        assert!(message.starts_with(&path.display().to_string()), "{message}");
    }
    std::fs::remove_file(&path).unwrap();
    let message = Bert::from_folder(folder.path(), &Device::flex()).unwrap_err().to_string();
    assert!(message.starts_with(&format!("{} holds neither model.safetensors", folder.path().display())), "{message}");
}

#[test]
fn every_linear_layer_can_be_replaced() {
    let mut model = Checkpoint::random(8).load("").unwrap();
    assert_eq!(model.cost().params, model.cost().dense_params);
    assert!(model.factors().is_empty());
    let config = BertConfig::new(12).with_d_model(8).with_depth(2).with_heads(2).with_d_hidden(16);
    let structured = config.with_max_positions(10).with_structure("low-rank:r=2".parse().unwrap());
    let mut structured = structured.try_init(&Device::flex()).unwrap();
    assert_eq!(structured.linears().count(), 12);
    for ((name, layer), (_, other)) in model.linears_mut().zip(structured.linears_mut()) {
        assert_eq!(layer.to_dense().dims(), other.to_dense().dims(), "{name}");
        *layer = other.clone();
    }
    assert_eq!(model.cost(), structured.cost());
    assert_eq!(model.num_params(), structured.num_params());
    assert_eq!(model.factors().len(), structured.factors().len());
    let TokenBatch { tokens, mask } = batch(&[&[2, 7, 3]]);
    assert_eq!(model.forward(tokens, mask).dims(), [1, 3, 8]);
}

#[test]
fn other_flops_count_the_attention_products() {
    let model = Checkpoint::random(8).load("").unwrap();
    // Two layers, Q·Kᵀ and its product with V, 5·5·8 multiplications each.
    assert_eq!(model.other_flops(5), 2 * 2 * 2 * 5 * 5 * 8);
}
