//! Sentence pairs as tokens.

#[cfg(feature = "tokenizers")]
use crate::similarity::SentencePairs;
use crate::similarity::spearman;
use crate::training::TrainingError;
use burn::tensor::{Device, Tensor, TensorData};
use burn_structured_models::bert::{Bert, TokenBatch};
#[cfg(feature = "tokenizers")]
use burn_structured_models::bert::{BertError, SentenceTokenizer};

/// Pairs that are scored at once.
const AT_ONCE: usize = 32;

/// The tokens of sentence pairs, and people's scores of their similarity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenPairs {
    /// The token ids of both sentences of every pair.
    pub sentences: Vec<[Vec<u32>; 2]>,
    /// The score of every pair, from 0 to 5.
    pub scores: Vec<f64>,
    /// The token that fills up short sentences.
    pub pad_id: usize,
}

/// Some pairs in tensors.
pub(super) struct PairBatch {
    /// The first sentences, then the second ones, `[2 · pairs, length]`.
    sentences: TokenBatch,
    /// A fifth of the scores, `[pairs]`: the cosines that are aimed at.
    pub targets: Tensor<1>,
}

impl TokenPairs {
    /// The tokens of `pairs`.
    ///
    /// # Errors
    ///
    /// If a sentence gives no tokens.
    #[cfg(feature = "tokenizers")]
    pub fn try_new(pairs: &SentencePairs, tokenizer: &SentenceTokenizer) -> Result<Self, BertError> {
        let second = tokenizer.tokens(&pairs.second)?;
        let sentences = tokenizer.tokens(&pairs.first)?.into_iter().zip(second).map(|(first, second)| [first, second]);
        Ok(Self { sentences: sentences.collect(), scores: pairs.scores.clone(), pad_id: tokenizer.pad_id() })
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.sentences.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.sentences.is_empty()
    }

    /// Tokens of the longer sentence of a pair.
    pub(super) fn length(&self, pair: usize) -> usize {
        self.sentences[pair].iter().map(Vec::len).max().unwrap_or(0)
    }

    /// `Err` unless every pair has a score from 0 to 5 and tokens.
    pub(super) fn check(&self) -> Result<(), TrainingError> {
        let error = |reason: String| Err(TrainingError::Sentences { reason });
        let (pairs, scores) = (self.len(), self.scores.len());
        if pairs != scores {
            return error(format!("there are {pairs} sentence pairs and {scores} scores; give one for each"));
        }
        if let Some(pair) = self.scores.iter().position(|score| !(0.0..=5.0).contains(score)) {
            return error(format!("the score of pair {pair} is {}; give one from 0 to 5", self.scores[pair]));
        }
        match self.sentences.iter().position(|sentences| sentences.iter().any(Vec::is_empty)) {
            Some(pair) => error(format!("a sentence of pair {pair} has no tokens; leave the pair out")),
            None => Ok(()),
        }
    }

    /// These pairs in tensors.
    pub(super) fn batch(&self, pairs: &[usize], device: &Device) -> PairBatch {
        let side = |side: usize| pairs.iter().map(move |pair| self.sentences[*pair][side].as_slice());
        let sentences: Vec<&[u32]> = side(0).chain(side(1)).collect();
        let targets: Vec<f64> = pairs.iter().map(|pair| self.scores[*pair] / 5.0).collect();
        PairBatch {
            sentences: TokenBatch::new(&sentences, self.pad_id, device),
            targets: Tensor::from_data(TensorData::new(targets, [pairs.len()]).convert::<f32>(), device),
        }
    }

    /// Spearman's correlation of the cosines of the pairs' embeddings with the scores.
    ///
    /// # Errors
    ///
    /// If the pairs have no order: there are less than two, all scores or all cosines are equal, or one is not finite.
    pub fn spearman(&self, model: &Bert) -> Result<f64, TrainingError> {
        self.check()?;
        let device = model.device();
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|pair| self.length(*pair));
        let mut cosines = vec![0.0; order.len()];
        for pairs in order.chunks(AT_ONCE) {
            let found = self.batch(pairs, &device).cosines(model).into_data();
            pairs.iter().zip(found.iter::<f64>()).for_each(|(pair, cosine)| cosines[*pair] = cosine);
        }
        let correlation = spearman(&cosines, &self.scores);
        if cosines.iter().any(|cosine| !cosine.is_finite()) || !correlation.is_finite() {
            let reason = format!(
                "{} sentence pairs cannot be ranked: all scores or all cosines are equal, or one is not finite; give more pairs",
                self.len()
            );
            return Err(TrainingError::Sentences { reason });
        }
        Ok(correlation)
    }
}

impl PairBatch {
    /// The cosine of the two embeddings of every pair, `[pairs]`.
    pub fn cosines(&self, model: &Bert) -> Tensor<1> {
        let TokenBatch { tokens, mask } = self.sentences.clone();
        let embeddings = model.embed(tokens, mask);
        let pairs = embeddings.dims()[0] / 2;
        let [first, second] = [0, pairs].map(|start| embeddings.clone().narrow(0, start, pairs));
        (first * second).sum_dim(1).squeeze_dim(1)
    }

    /// The mean of `(cos(e₁, e₂) − s / 5)²`.
    pub fn loss(&self, model: &Bert) -> Tensor<1> {
        (self.cosines(model) - self.targets.clone()).square().mean()
    }
}
