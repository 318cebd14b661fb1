//! Sentences of different lengths in one tensor.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_sentences_are_filled_up() {
        let batch = TokenBatch::new(&[vec![7, 8, 9], vec![5]], 2, &Device::flex());
        assert_eq!(batch.tokens.into_data().iter::<i64>().collect::<Vec<_>>(), [7, 8, 9, 5, 2, 2]);
        let mask: Vec<bool> = batch.mask.into_data().iter::<bool>().collect();
        assert_eq!(mask, [true, true, true, true, false, false]);
    }
}
