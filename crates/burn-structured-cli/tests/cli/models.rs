//! Tiny models in Hugging Face's layout, written by the tests themselves: random weights, real names.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Words of the encoder's tokenizer and of the texts for it.
const WORDS: [&str; 24] = [
    "a", "the", "one", "dog", "cat", "horse", "man", "woman", "child", "bird", "runs", "sleeps", "eats", "sings",
    "rides", "sees", "in", "on", "near", "house", "garden", "street", "slowly", "today",
];

/// Tensors of a checkpoint by name.
pub struct Tensors {
    rng: StdRng,
    pub values: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Tensors {
    fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), values: BTreeMap::new() }
    }

    fn random(&mut self, name: &str, shape: &[usize], mean: f32, scale: f32) {
        let count = shape.iter().product();
        let values = (0..count).map(|_| mean + scale * self.rng.random_range(-1.0..1.0)).collect();
        self.values.insert(name.to_string(), (shape.to_vec(), values));
    }

    fn norm(&mut self, name: &str, features: usize) {
        self.random(&format!("{name}.weight"), &[features], 1.0, 0.1);
        self.random(&format!("{name}.bias"), &[features], 0.0, 0.1);
    }

    /// Writes `model.safetensors` in f32.
    pub fn write(&self, folder: &Path) {
        self.write_file(&folder.join("model.safetensors"), |_| true);
    }

    /// Writes two shards and their index.
    pub fn write_sharded(&self, folder: &Path) {
        let files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        let shard = |name: &str| usize::from(name.contains(".1."));
        for (index, file) in files.iter().enumerate() {
            self.write_file(&folder.join(file), |name| shard(name) == index);
        }
        let map: BTreeMap<&str, &str> = self.values.keys().map(|name| (name.as_str(), files[shard(name)])).collect();
        let index = serde_json::json!({ "metadata": { "total_size": 0 }, "weight_map": map });
        fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    }

    fn write_file(&self, path: &Path, take: impl Fn(&str) -> bool) {
        let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = self
            .values
            .iter()
            .filter(|(name, _)| take(name))
            .map(|(name, (shape, values))| (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
            .collect();
        let views = bytes
            .iter()
            .map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
        fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }
}

/// The tensors of a BERT of 2 layers of 16 features.
pub fn bert_tensors() -> Tensors {
    let mut tensors = Tensors::new(1);
    for (name, rows) in [("word", 32), ("position", 24), ("token_type", 2)] {
        tensors.random(&format!("embeddings.{name}_embeddings.weight"), &[rows, 16], 0.0, 1.0);
    }
    tensors.norm("embeddings.LayerNorm", 16);
    for layer in ["encoder.layer.0", "encoder.layer.1"] {
        for (name, d_output, d_input) in [
            ("attention.self.query", 16, 16),
            ("attention.self.key", 16, 16),
            ("attention.self.value", 16, 16),
            ("attention.output.dense", 16, 16),
            ("intermediate.dense", 32, 16),
            ("output.dense", 16, 32),
        ] {
            tensors.random(&format!("{layer}.{name}.weight"), &[d_output, d_input], 0.0, 0.4);
            tensors.random(&format!("{layer}.{name}.bias"), &[d_output], 0.0, 0.1);
        }
        tensors.norm(&format!("{layer}.attention.output.LayerNorm"), 16);
        tensors.norm(&format!("{layer}.output.LayerNorm"), 16);
    }
    // Beside the encoder, as in real checkpoints.
    tensors.random("pooler.dense.weight", &[16, 16], 0.0, 0.4);
    tensors.random("pooler.dense.bias", &[16], 0.0, 0.1);
    tensors
}

/// A sentence encoder: a BERT of 2 layers of 16 features, its configuration and its tokenizer.
pub fn write_bert(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    bert_tensors().write(folder);
    write_bert_files(folder);
}

/// The configuration and the tokenizer of [`write_bert`].
pub fn write_bert_files(folder: &Path) {
    let config = serde_json::json!({
        "model_type": "bert", "hidden_act": "gelu", "vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 24, "layer_norm_eps": 1e-12
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];
    let vocab: BTreeMap<&str, usize> =
        special.into_iter().chain(WORDS).enumerate().map(|(id, word)| (word, id)).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": { "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": "[CLS]", "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
                { "SpecialToken": { "id": "[SEP]", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } }],
            "special_tokens": { "[CLS]": { "id": "[CLS]", "ids": [2], "tokens": ["[CLS]"] },
                "[SEP]": { "id": "[SEP]", "ids": [3], "tokens": ["[SEP]"] } } },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab }
    });
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

/// A GPT-2 on bytes: 2 blocks of 16 features, a context of 32.
pub fn write_gpt2(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let mut tensors = Tensors::new(2);
    tensors.random("transformer.wte.weight", &[256, 16], 0.0, 0.5);
    tensors.random("transformer.wpe.weight", &[32, 16], 0.0, 0.2);
    for block in ["transformer.h.0", "transformer.h.1"] {
        tensors.norm(&format!("{block}.ln_1"), 16);
        tensors.norm(&format!("{block}.ln_2"), 16);
        // Conv1D: [in, out].
        for (name, d_input, d_output) in
            [("attn.c_attn", 16, 48), ("attn.c_proj", 16, 16), ("mlp.c_fc", 16, 64), ("mlp.c_proj", 64, 16)]
        {
            tensors.random(&format!("{block}.{name}.weight"), &[d_input, d_output], 0.0, 0.4);
            tensors.random(&format!("{block}.{name}.bias"), &[d_output], 0.0, 0.1);
        }
    }
    tensors.norm("transformer.ln_f", 16);
    tensors.write(folder);
    let config = serde_json::json!({
        "model_type": "gpt2", "activation_function": "gelu_new", "vocab_size": 256, "n_positions": 32, "n_ctx": 32,
        "n_embd": 16, "n_layer": 2, "n_head": 2, "n_inner": null, "layer_norm_epsilon": 1e-5, "resid_pdrop": 0.0,
        "embd_pdrop": 0.0, "attn_pdrop": 0.0, "tie_word_embeddings": true
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("text.json"), "{\"kind\":\"bytes\"}\n").unwrap();
}

/// A Llama on bytes in two shards: 2 blocks of 16 features, 4 heads of which 2 share keys and values, a context of 32.
pub fn write_llama(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let mut tensors = Tensors::new(6);
    tensors.random("model.embed_tokens.weight", &[256, 16], 0.0, 0.5);
    for block in ["model.layers.0", "model.layers.1"] {
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            tensors.random(&format!("{block}.{norm}.weight"), &[16], 1.0, 0.1);
        }
        for (name, d_output, d_input) in [
            ("self_attn.q_proj", 16, 16),
            ("self_attn.k_proj", 8, 16),
            ("self_attn.v_proj", 8, 16),
            ("self_attn.o_proj", 16, 16),
            ("mlp.gate_proj", 32, 16),
            ("mlp.up_proj", 32, 16),
            ("mlp.down_proj", 16, 32),
        ] {
            tensors.random(&format!("{block}.{name}.weight"), &[d_output, d_input], 0.0, 0.4);
        }
    }
    tensors.random("model.norm.weight", &[16], 1.0, 0.1);
    tensors.random("lm_head.weight", &[256, 16], 0.0, 0.5);
    tensors.write_sharded(folder);
    let config = serde_json::json!({
        "model_type": "llama", "hidden_act": "silu", "vocab_size": 256, "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": null, "attention_bias": false,
        "tie_word_embeddings": false
    });
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    fs::write(folder.join("text.json"), "{\"kind\":\"bytes\"}\n").unwrap();
}

/// A checkpoint that no code runs: two matrices and an embedding.
pub fn write_other(path: &Path) {
    let mut tensors = Tensors::new(3);
    tensors.random("encoder.embedding.weight", &[40, 24], 0.0, 1.0);
    tensors.random("mlp.up.weight", &[48, 24], 0.0, 0.4);
    tensors.random("mlp.up.bias", &[48], 0.0, 0.1);
    tensors.random("mlp.down.weight", &[24, 48], 0.0, 0.4);
    tensors.write_file(path, |_| true);
}

/// A BLAST layer of 18 → 10 features as the authors of the paper save it.
pub fn write_authors_blast(path: &Path) {
    let mut tensors = Tensors::new(5);
    tensors.random("fc.B", &[2, 5, 4], 0.0, 1.0);
    tensors.random("fc.C", &[3, 4, 6], 0.0, 1.0);
    tensors.random("fc.D", &[2, 3, 4], 0.0, 1.0);
    tensors.random("fc.bias", &[10], 0.0, 1.0);
    tensors.write_file(path, |_| true);
}

/// So many sentences of the tokenizer's words.
pub fn sentences(count: usize) -> Vec<String> {
    let mut rng = StdRng::seed_from_u64(4);
    let mut sentence = |_| {
        let words = rng.random_range(3..9);
        let words: Vec<&str> = (0..words).map(|_| WORDS[rng.random_range(0..WORDS.len())]).collect();
        words.join(" ")
    };
    (0..count).map(&mut sentence).collect()
}

/// A file of sentences, a line each.
pub fn write_text(path: &Path, count: usize) {
    fs::write(path, sentences(count).join("\n") + "\n").unwrap();
}

/// Sentence pairs in the layout of the STS benchmark.
pub fn write_pairs(path: &Path, count: usize) {
    let sentences = sentences(2 * count);
    let line = |(index, pair): (usize, &[String])| {
        format!("main\tfile\t2012\t{index}\t{:.2}\t{}\t{}\n", (index * 7 % 25) as f64 / 5.0, pair[0], pair[1])
    };
    let lines: String = sentences.chunks(2).enumerate().map(line).collect();
    fs::write(path, lines).unwrap();
}
