//! From text to embeddings.

use super::{Bert, BertConfig, BertError, SentenceTokenizer, TokenBatch};
use crate::weights::WeightsError;
use burn::tensor::{Device, Int, Tensor};
use burn_structured_checkpoint::files;
use serde::Deserialize;
use serde_json::json;
use std::fs;
use std::path::Path;

/// Files of a model folder.
const TOKENIZER: &str = "tokenizer.json";
const SENTENCES: &str = "sentence_bert_config.json";

/// Sentences that go through the model at once.
const BATCH: usize = 32;

/// A [`Bert`] and its tokenizer: sentences in, embeddings out.
///
/// ```no_run
/// use burn::tensor::Device;
/// use burn_structured_models::bert::SentenceEncoder;
///
/// let encoder = SentenceEncoder::from_folder("all-MiniLM-L6-v2", &Device::flex())?;
/// let embeddings = encoder.embed(&["A man is riding a horse.", "Someone rides."])?;
/// let cosines = embeddings.clone().matmul(embeddings.transpose());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SentenceEncoder {
    /// The model.
    pub model: Bert,
    /// Its tokenizer.
    pub tokenizer: SentenceTokenizer,
}

/// The part of `sentence_bert_config.json` that matters here.
#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

impl SentenceEncoder {
    /// The encoder of a Hugging Face model folder with `config.json`, `model.safetensors` and `tokenizer.json`, compressed or not.
    ///
    /// Sentences are cut to the length in `sentence_bert_config.json`, where there is one, or else to that in
    /// `tokenizer.json`; see [`with_max_length`](Self::with_max_length).
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or the files do not belong together; see [`Bert::from_folder`].
    pub fn from_folder(folder: impl AsRef<Path>, device: &Device) -> Result<Self, BertError> {
        let folder = folder.as_ref();
        let config = BertConfig::from_file(folder.join("config.json"))?;
        let path = folder.join(TOKENIZER);
        let tokenizer = SentenceTokenizer::from_file(&path, config.pad_id)?;
        let max_id = tokenizer.max_id()?;
        if max_id >= config.vocab_size {
            let reason = format!("it has a token with the id {max_id}, the model only {} tokens", config.vocab_size);
            return Err(BertError::Tokenizer { path, reason });
        }
        let limit = sentence_limit(&folder.join(SENTENCES))?.unwrap_or(tokenizer.max_length());
        let model = config.try_init(device)?.with_weights(folder)?;
        Self { model, tokenizer }.with_max_length(limit.min(config.max_positions))
    }

    /// Writes the model and its tokenizer to `folder`, which is created if need be: what [`from_folder`](Self::from_folder) reads.
    ///
    /// # Errors
    ///
    /// If a file cannot be written, or a layer has no place in a checkpoint; see [`Bert::save_folder`].
    pub fn save_folder(&self, folder: impl AsRef<Path>) -> Result<(), BertError> {
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(|error| WeightsError::write(folder, error))?;
        self.tokenizer.save(&folder.join(TOKENIZER))?;
        let path = folder.join(SENTENCES);
        let limit = json!({"do_lower_case": false, "max_seq_length": self.tokenizer.max_length()});
        files::replace(&path, format!("{limit:#}\n").as_bytes()).map_err(|error| WeightsError::write(&path, error))?;
        self.model.save_folder(folder)
    }

    /// The same encoder, cutting sentences to `max_length` tokens, the special ones included.
    ///
    /// # Errors
    ///
    /// If the model has no positions for that many tokens, or no token of a sentence would be left.
    pub fn with_max_length(mut self, max_length: usize) -> Result<Self, BertError> {
        let longest = self.model.embeddings.longest();
        if max_length > longest {
            let problem = format!("is more than the model's {longest} positions");
            return Err(BertError::Setting { name: "max_length", value: max_length.to_string(), problem });
        }
        self.tokenizer = self.tokenizer.with_max_length(max_length)?;
        Ok(self)
    }

    /// The embedding of every sentence, `[sentences, d_model]`, each of length 1; see [`Bert::embed`].
    ///
    /// Sentences of similar lengths go through the model together, so that little of a batch is padding.
    ///
    /// # Errors
    ///
    /// If there is no sentence, or one gives no tokens at all.
    pub fn embed<S: AsRef<str>>(&self, sentences: &[S]) -> Result<Tensor<2>, BertError> {
        if sentences.is_empty() {
            return Err(BertError::NoSentences);
        }
        let device = self.model.device();
        let tokens = self.tokenizer.tokens(sentences)?;
        let mut order: Vec<usize> = (0..tokens.len()).collect();
        order.sort_by_key(|index| tokens[*index].len());
        let embed = |indices: &[usize]| {
            let sentences: Vec<&[u32]> = indices.iter().map(|index| tokens[*index].as_slice()).collect();
            let batch = TokenBatch::new(&sentences, self.tokenizer.pad_id(), &device);
            self.model.embed(batch.tokens, batch.mask)
        };
        let embeddings = Tensor::cat(order.chunks(BATCH).map(embed).collect(), 0);
        let mut positions = vec![0i64; order.len()];
        for (position, index) in order.into_iter().enumerate() {
            positions[index] = position as i64;
        }
        Ok(embeddings.select(0, Tensor::<1, Int>::from_data(positions.as_slice(), &device)))
    }
}

/// The longest sentence according to a `sentence_bert_config.json`; `None` where there is no such file.
fn sentence_limit(path: &Path) -> Result<Option<usize>, BertError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(|source| BertError::read(path, source))?,
    };
    let config: SentenceConfig =
        serde_json::from_str(&text).map_err(|source| BertError::Json { path: path.to_owned(), source })?;
    Ok(config.max_seq_length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bert::tests::{Checkpoint, tokenizer_json};
    use burn::tensor::Tolerance;

    #[test]
    fn embeddings_keep_the_order_of_sentences() {
        let folder = Checkpoint::random(1).folder("");
        fs::write(folder.path().join("tokenizer.json"), tokenizer_json()).unwrap();
        let encoder = SentenceEncoder::from_folder(folder.path(), &Device::flex()).unwrap();
        assert_eq!(encoder.tokenizer.max_length(), 6);
        let sentences: Vec<String> = (0..70).map(|index| "dog runs a ".repeat(index % 3 + 1)).collect();
        let all = encoder.embed(&sentences).unwrap();
        assert_eq!(all.dims(), [70, 8]);
        for index in [0, 1, 2, 69] {
            let one = encoder.embed(&sentences[index..=index]).unwrap().into_data();
            all.clone().narrow(0, index, 1).into_data().assert_approx_eq::<f32>(&one, Tolerance::absolute(1e-6));
        }
    }

    #[test]
    fn sentence_limit_comes_from_folder_or_user() {
        let folder = Checkpoint::random(1).folder("");
        fs::write(folder.path().join("tokenizer.json"), tokenizer_json()).unwrap();
        let load = |json: &str| {
            fs::write(folder.path().join("sentence_bert_config.json"), json).unwrap();
            SentenceEncoder::from_folder(folder.path(), &Device::flex())
        };
        let encoder = load(r#"{"max_seq_length": 5, "do_lower_case": false}"#).unwrap();
        assert_eq!(encoder.tokenizer.max_length(), 5);
        assert_eq!(load(r#"{"max_seq_length": 256}"#).unwrap().tokenizer.max_length(), 10);
        let message = encoder.with_max_length(11).unwrap_err().to_string();
        assert_eq!(message, "max_length = 11 is more than the model's 10 positions");
        let message = load("").unwrap_err().to_string();
        assert!(message.contains("sentence_bert_config.json is no BERT configuration"), "{message}");
    }

    #[test]
    fn tokenizer_with_too_many_tokens_is_an_error() {
        let folder = Checkpoint::random(1).folder("");
        let json = tokenizer_json().replace("\"##s\": 7", "\"##s\": 7, \"x\": 9, \"y\": 10, \"z\": 11, \"w\": 12");
        fs::write(folder.path().join("tokenizer.json"), json).unwrap();
        let message = SentenceEncoder::from_folder(folder.path(), &Device::flex()).unwrap_err().to_string();
        assert!(message.contains("it has a token with the id 12, the model only 12 tokens"), "{message}");
    }

    #[test]
    fn token_id_beyond_the_vocabulary_is_an_error() {
        let folder = Checkpoint::random(1).folder("");
        let load = |json: String| {
            fs::write(folder.path().join("tokenizer.json"), json).unwrap();
            SentenceEncoder::from_folder(folder.path(), &Device::flex())
        };
        // Few tokens, but one of them far away; and a special token whose id is not in the vocabulary.
        for (id, json) in [
            (40_000, tokenizer_json().replace("\"##s\": 7", "\"##s\": 40000")),
            (99, tokenizer_json().replace("\"ids\": [2]", "\"ids\": [99]")),
        ] {
            let message = load(json).unwrap_err().to_string();
            assert!(message.contains(&format!("it has a token with the id {id}, the model only 12")), "{message}");
        }
    }

    #[test]
    fn encoder_survives_saving_and_loading() {
        let folder = Checkpoint::random(1).folder("");
        fs::write(folder.path().join("tokenizer.json"), tokenizer_json()).unwrap();
        let encoder = SentenceEncoder::from_folder(folder.path(), &Device::flex()).unwrap().with_max_length(5).unwrap();
        let saved = folder.path().join("saved/here");
        encoder.save_folder(&saved).unwrap();
        let loaded = SentenceEncoder::from_folder(&saved, &Device::flex()).unwrap();
        assert_eq!(loaded.tokenizer.max_length(), 5);
        let sentences = ["a dog runs runs", "cats", ""];
        let embed = |encoder: &SentenceEncoder| encoder.embed(&sentences).unwrap().into_data();
        assert_eq!(embed(&loaded), embed(&encoder));
    }
}
