//! Sentences in tensors: of different lengths, filled up, or of one length.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use std::collections::BTreeMap;

/// Token ids of several sentences, filled up to the longest.
#[derive(Clone, Debug)]
pub struct TokenBatch {
    /// Token ids `[batch, length]`.
    pub tokens: Tensor<2, Int>,
    /// Which tokens belong to a sentence, `[batch, length]`; the others are padding.
    pub mask: Tensor<2, Bool>,
}

impl TokenBatch {
    /// Fills up `sentences`, each a list of token ids, with `pad_id`.
    ///
    /// # Panics
    ///
    /// If there is no sentence, or none has a token.
    pub fn new<S: AsRef<[u32]>>(sentences: &[S], pad_id: usize, device: &Device) -> Self {
        let length = sentences.iter().map(|sentence| sentence.as_ref().len()).max().unwrap_or(0);
        assert!(length > 0, "a batch needs a sentence with at least one token");
        let shape = [sentences.len(), length];
        let (mut tokens, mut mask) = (Vec::new(), Vec::new());
        for sentence in sentences {
            let sentence = sentence.as_ref();
            let padding = length - sentence.len();
            tokens.extend(sentence.iter().map(|id| i64::from(*id)).chain(vec![pad_id as i64; padding]));
            mask.extend(sentence.iter().map(|_| true).chain(vec![false; padding]));
        }
        Self {
            tokens: Tensor::from_data(TensorData::new(tokens, shape), device),
            mask: Tensor::from_data(TensorData::new(mask, shape), device),
        }
    }
}

/// Batches of up to `batch_size` sentences of one length, without padding: what calibration and training on raw text need, where
/// every token counts.
///
/// Short sentences come first, sentences of one length in their order; sentences without tokens are left out.
///
/// # Panics
///
/// If `batch_size` is 0.
pub fn batches_of_one_length(sentences: Vec<Vec<u32>>, batch_size: usize, device: &Device) -> Vec<TokenBatch> {
    assert!(batch_size > 0, "a batch holds at least one sentence");
    let mut lengths: BTreeMap<usize, Vec<Vec<u32>>> = BTreeMap::new();
    for sentence in sentences.into_iter().filter(|sentence| !sentence.is_empty()) {
        lengths.entry(sentence.len()).or_default().push(sentence);
    }
    let batches = lengths.values().flat_map(|sentences| sentences.chunks(batch_size));
    batches.map(|sentences| TokenBatch::new(sentences, 0, device)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_one_length_hold_every_sentence_without_padding() {
        let sentences: [&[u32]; 7] = [&[1, 2, 3], &[4], &[5, 6, 7], &[], &[8], &[9, 10, 11], &[12]];
        let sentences = sentences.map(<[u32]>::to_vec).to_vec();
        let batches = batches_of_one_length(sentences, 2, &Device::flex());
        let tokens = |batch: &TokenBatch| batch.tokens.to_data().iter::<i64>().collect::<Vec<_>>();
        let found: Vec<_> = batches.iter().map(|batch| (batch.tokens.dims(), tokens(batch))).collect();
        let expected =
            [([2, 1], vec![4, 8]), ([1, 1], vec![12]), ([2, 3], vec![1, 2, 3, 5, 6, 7]), ([1, 3], vec![9, 10, 11])];
        assert_eq!(found, expected);
        for batch in batches {
            assert!(batch.mask.into_data().iter::<bool>().all(|inside| inside));
        }
        assert!(batches_of_one_length(vec![vec![]], 2, &Device::flex()).is_empty());
    }

    #[test]
    fn short_sentences_are_filled_up() {
        let batch = TokenBatch::new(&[vec![7, 8, 9], vec![5]], 2, &Device::flex());
        assert_eq!(batch.tokens.into_data().iter::<i64>().collect::<Vec<_>>(), [7, 8, 9, 5, 2, 2]);
        let mask: Vec<bool> = batch.mask.into_data().iter::<bool>().collect();
        assert_eq!(mask, [true, true, true, true, false, false]);
    }
}
