//! all-MiniLM-L6-v2: from sentences to embeddings.

use crate::harness::measure::{Random, Work};
use crate::workload::{Model, Options, Pass};
use burn::module::Module;
use burn::tensor::Device;
use burn_structured::models::bert::{BertConfig, SentenceEncoder, SentenceTokenizer};
use burn_structured::nn::{Cost, Structure, StructureError};
use serde_json::{Map, Value, json};
use std::path::Path;

/// Sentences of one turn.
const SENTENCES: usize = 128;
/// Tokens of all-MiniLM-L6-v2.
const VOCABULARY: usize = 30_522;
const SPECIAL: [&str; 4] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];

/// A sentence encoder and its sentences, short ones first.
pub struct Sentences {
    encoder: SentenceEncoder,
    sentences: Vec<String>,
}

impl Sentences {
    /// The encoder of the folder that has the cost of this structure, or with random weights if there is none.
    ///
    /// # Errors
    ///
    /// If the structure does not fit, or a file cannot be read; the message says which.
    pub fn try_new(structure: Structure, options: &Options, device: &Device) -> Result<Self, String> {
        Self::of(encoder(structure, options, device)?, options)
    }

    /// The encoder of a folder.
    ///
    /// # Errors
    ///
    /// If a file cannot be read; the message says which.
    pub fn from_folder(folder: &Path, options: &Options, device: &Device) -> Result<Self, String> {
        Self::of(read(folder, device)?, options)
    }

    fn of(encoder: SentenceEncoder, options: &Options) -> Result<Self, String> {
        let text = |path: &Path| std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
        let sentences = match &options.sentences {
            Some(path) => from_text(&text(path)?),
            None => random_sentences(if options.tiny { 9 } else { SENTENCES }),
        };
        if sentences.is_empty() {
            return Err("no sentences".into());
        }
        // Sentences of similar lengths share a batch, as in `SentenceEncoder::embed`.
        let tokens = encoder.tokenizer.tokens(&sentences).map_err(|error| error.to_string())?;
        let mut sentences: Vec<(usize, String)> = tokens.iter().map(Vec::len).zip(sentences).collect();
        sentences.sort_by_key(|(tokens, _)| *tokens);
        Ok(Self { encoder, sentences: sentences.into_iter().map(|(_, sentence)| sentence).collect() })
    }
}

fn read(folder: &Path, device: &Device) -> Result<SentenceEncoder, String> {
    SentenceEncoder::from_folder(folder, device).map_err(|error| format!("{}: {error}", folder.display()))
}

fn encoder(structure: Structure, options: &Options, device: &Device) -> Result<SentenceEncoder, String> {
    let Some(folder) = &options.minilm else {
        let config = match options.tiny {
            true => BertConfig::new(64).with_d_model(16).with_depth(1).with_heads(2).with_d_hidden(32),
            false => BertConfig::new(VOCABULARY),
        };
        let tokenizer = tokenizer(config.vocab_size)?;
        let model = config.with_structure(structure).try_init(device).map_err(|error| error.to_string())?;
        return Ok(SentenceEncoder { model, tokenizer });
    };
    let dense = read(folder, device)?;
    if structure == Structure::Dense {
        return Ok(dense);
    }
    let config = BertConfig::from_file(folder.join("config.json")).map_err(|error| error.to_string())?;
    let model = config.with_structure(structure).try_init(device).map_err(|error| error.to_string())?;
    for folder in &options.compressed {
        let compressed = read(folder, device)?;
        if compressed.model.cost() == model.cost() {
            return Ok(compressed);
        }
    }
    Ok(SentenceEncoder { model, ..dense })
}

/// Sentences of a file, evenly spaced in it: one a line, or columns six and seven of tab-separated ones, as STS-Benchmark has them.
fn from_text(text: &str) -> Vec<String> {
    let columns = |line: &str| {
        let columns: Vec<String> = line.split('\t').map(str::to_string).collect();
        if columns.len() >= 7 { columns[5..7].to_vec() } else { vec![line.to_string()] }
    };
    let all: Vec<String> = text.lines().flat_map(columns).filter(|sentence| !sentence.trim().is_empty()).collect();
    let count = SENTENCES.min(all.len());
    (0..count).map(|index| all[index * all.len() / count].clone()).collect()
}

/// Sentences of 4 to 20 words that the tokenizer below has.
fn random_sentences(count: usize) -> Vec<String> {
    let mut random = Random::default();
    let mut sentence = || {
        let words: Vec<String> = (0..4 + random.below(17)).map(|_| word(random.below(50))).collect();
        words.join(" ")
    };
    (0..count).map(|_| sentence()).collect()
}

/// Four letters for each number below 20⁴.
fn word(index: usize) -> String {
    let letter = |place: u32| char::from(b"bcdfghjklmnpqrstvwxz"[index / 20usize.pow(place) % 20]);
    (0..4).map(letter).collect()
}

/// A tokenizer like the model's, whose words are made up.
fn tokenizer(vocabulary: usize) -> Result<SentenceTokenizer, String> {
    let words = SPECIAL.map(str::to_string).into_iter().chain((0..vocabulary - SPECIAL.len()).map(word));
    let vocabulary: Map<String, Value> = words.enumerate().map(|(id, word)| (word, json!(id))).collect();
    let special = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    let sequence = |id: &str, type_id: usize| json!({"Sequence": {"id": id, "type_id": type_id}});
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [special("[CLS]"), sequence("A", 0), special("[SEP]")],
            "pair": [sequence("A", 0), sequence("B", 1)],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary},
    });
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, json.to_string()).map_err(|error| error.to_string())?;
    SentenceTokenizer::from_file(&path, 0).map_err(|error| error.to_string())
}

impl Model for Sentences {
    fn params(&self) -> usize {
        self.encoder.model.num_params()
    }

    fn cost(&self) -> Cost {
        self.encoder.model.cost()
    }

    fn quantized(&self) -> Result<Box<dyn Model>, StructureError> {
        let mut encoder = self.encoder.clone();
        encoder.model = encoder.model.quantize()?;
        Ok(Box::new(Self { encoder, sentences: self.sentences.clone() }))
    }

    fn items(&self, _: Pass) -> usize {
        self.sentences.len()
    }

    fn work(&self, pass: Pass) -> Result<Work<'static>, String> {
        let batch = match pass {
            Pass::Batch1 => 1,
            Pass::Batch8 => 8,
            _ => 32,
        };
        let (encoder, sentences) = (self.encoder.clone(), self.sentences.clone());
        Ok(Work::new(move || {
            for batch in sentences.chunks(batch) {
                let embeddings = encoder.embed(batch).expect("the sentences have tokens");
                drop(std::hint::black_box(embeddings.into_data()));
            }
        }))
    }
}
