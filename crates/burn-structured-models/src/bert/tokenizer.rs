//! From sentences to token ids.

use super::{BertError, TokenBatch};
use crate::weights::WeightsError;
use burn::tensor::Device;
use burn_structured_checkpoint::files;
use std::path::{Path, PathBuf};
use tokenizers::{PostProcessor, Tokenizer, TruncationParams};

/// What a sentence is cut to where neither the file nor the user says otherwise.
const MAX_LENGTH: usize = 128;

/// Cuts sentences into a checkpoint's tokens, with the special tokens that BERT expects around them.
#[derive(Clone, Debug)]
pub struct SentenceTokenizer {
    tokenizer: Tokenizer,
    path: PathBuf,
    pad_id: usize,
    max_length: usize,
}

impl SentenceTokenizer {
    /// Reads a `tokenizer.json`; `pad_id` is the model's padding token.
    ///
    /// Sentences are cut to the length in the file, or else to 128 tokens; see [`with_max_length`](Self::with_max_length).
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is no tokenizer.
    pub fn from_file(path: impl AsRef<Path>, pad_id: usize) -> Result<Self, BertError> {
        let path = path.as_ref().to_owned();
        let bytes = std::fs::read(&path).map_err(|source| BertError::read(&path, source))?;
        let mut tokenizer = Tokenizer::from_bytes(bytes)
            .map_err(|error| BertError::Tokenizer { path: path.clone(), reason: error.to_string() })?;
        let max_length = tokenizer.get_truncation().map_or(MAX_LENGTH, |truncation| truncation.max_length);
        // Batches are filled up by `TokenBatch`, to the longest sentence instead of a fixed length.
        tokenizer.with_padding(None);
        Self { tokenizer, path, pad_id, max_length }.with_max_length(max_length)
    }

    /// The same tokenizer, cutting sentences to `max_length` tokens, the special ones included.
    ///
    /// # Errors
    ///
    /// If no token of a sentence would be left.
    pub fn with_max_length(mut self, max_length: usize) -> Result<Self, BertError> {
        let special = self.tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        if max_length <= special {
            let problem = format!("leaves no room beside {special} special tokens; choose at least {}", special + 1);
            return Err(BertError::Setting { name: "max_length", value: max_length.to_string(), problem });
        }
        let truncation = TruncationParams { max_length, ..Default::default() };
        self.tokenizer
            .with_truncation(Some(truncation))
            .map_err(|error| BertError::Tokenizer { path: self.path.clone(), reason: error.to_string() })?;
        self.max_length = max_length;
        Ok(self)
    }

    /// What sentences are cut to, in tokens.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The model's padding token.
    pub fn pad_id(&self) -> usize {
        self.pad_id
    }

    /// Number of different tokens; their ids need not be consecutive, see [`max_id`](Self::max_id).
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The largest id that a sentence can contain; 0 for an empty vocabulary.
    ///
    /// # Errors
    ///
    /// If the empty sentence cannot be tokenized.
    pub fn max_id(&self) -> Result<usize, BertError> {
        // The ids of the special tokens around a sentence are written in the file a second time.
        let special = self
            .tokenizer
            .encode_fast("", true)
            .map_err(|error| BertError::Tokenizer { path: self.path.clone(), reason: error.to_string() })?;
        let ids = self.tokenizer.get_vocab(true).into_values().chain(special.get_ids().iter().copied());
        Ok(ids.max().unwrap_or(0) as usize)
    }

    /// Writes the tokenizer as a `tokenizer.json`, with the length that sentences are cut to.
    pub(super) fn save(&self, path: &Path) -> Result<(), BertError> {
        let error =
            |error: tokenizers::Error| BertError::Tokenizer { path: self.path.clone(), reason: error.to_string() };
        let json = self.tokenizer.to_string(true).map_err(error)?;
        Ok(files::replace(path, json.as_bytes()).map_err(|error| WeightsError::write(path, error))?)
    }

    /// The token ids of each sentence.
    ///
    /// # Errors
    ///
    /// If a sentence gives no tokens at all.
    pub fn tokens<S: AsRef<str>>(&self, sentences: &[S]) -> Result<Vec<Vec<u32>>, BertError> {
        let ids = |(index, sentence): (usize, &S)| {
            let encoding = self
                .tokenizer
                .encode_fast(sentence.as_ref(), true)
                .map_err(|error| BertError::Sentence { index, problem: format!("cannot be tokenized: {error}") })?;
            match encoding.get_ids() {
                [] => Err(BertError::Sentence { index, problem: "has no tokens; leave it out".into() }),
                ids => Ok(ids.to_vec()),
            }
        };
        sentences.iter().enumerate().map(ids).collect()
    }

    /// The sentences as one batch, filled up to the longest of them.
    ///
    /// # Errors
    ///
    /// If there is no sentence, or one gives no tokens at all.
    pub fn encode<S: AsRef<str>>(&self, sentences: &[S], device: &Device) -> Result<TokenBatch, BertError> {
        if sentences.is_empty() {
            return Err(BertError::NoSentences);
        }
        Ok(TokenBatch::new(&self.tokens(sentences)?, self.pad_id, device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bert::tests::tokenizer_json;

    fn tokenizer(text: &str) -> Result<SentenceTokenizer, BertError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, text).unwrap();
        SentenceTokenizer::from_file(path, 0)
    }

    #[test]
    fn batch_is_padded_to_the_longest_sentence() {
        let tokenizer = tokenizer(&tokenizer_json()).unwrap();
        assert_eq!((tokenizer.max_length(), tokenizer.vocab_size()), (6, 9));
        let batch = tokenizer.encode(&["A dog runs", "dog"], &Device::flex()).unwrap();
        // [CLS] a dog run ##s [SEP] and [CLS] dog [SEP].
        assert_eq!(batch.tokens.into_data().iter::<i64>().collect::<Vec<_>>(), [2, 4, 5, 6, 7, 3, 2, 5, 3, 0, 0, 0]);
        let mask: Vec<bool> = batch.mask.into_data().iter::<bool>().collect();
        assert_eq!(mask, [[true; 6], [true, true, true, false, false, false]].concat());
    }

    #[test]
    fn truncated_sentences_keep_special_tokens() {
        let tokenizer = tokenizer(&tokenizer_json()).unwrap().with_max_length(4).unwrap();
        assert_eq!(tokenizer.tokens(&["a dog runs runs runs", ""]).unwrap(), [vec![2, 4, 5, 3], vec![2, 3]]);
        let message = tokenizer.with_max_length(2).unwrap_err().to_string();
        assert_eq!(message, "max_length = 2 leaves no room beside 2 special tokens; choose at least 3");
    }

    #[test]
    fn errors_name_the_file_or_the_sentence() {
        let message = tokenizer("{}").unwrap_err().to_string();
        assert!(message.contains("tokenizer.json cannot be used as a tokenizer: "), "{message}");
        let message = SentenceTokenizer::from_file("/no/tokenizer.json", 0).unwrap_err().to_string();
        assert!(message.starts_with("cannot read /no/tokenizer.json: "), "{message}");
        let sentences: [&str; 0] = [];
        let error = tokenizer(&tokenizer_json()).unwrap().encode(&sentences, &Device::flex()).unwrap_err();
        assert!(matches!(error, BertError::NoSentences), "{error}");
    }
}
