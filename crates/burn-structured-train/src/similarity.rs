//! How well a sentence encoder ranks sentence pairs: the STS benchmark (Cer et al., 2017) and Spearman's correlation.

#[cfg(feature = "tokenizers")]
use burn_structured_models::bert::{BertError, SentenceEncoder};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Sentence pairs with people's scores of their similarity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SentencePairs {
    /// The first sentence of every pair.
    pub first: Vec<String>,
    /// The second sentence of every pair.
    pub second: Vec<String>,
    /// The score of every pair, from 0 to 5.
    pub scores: Vec<f64>,
}

/// Why a file of sentence pairs cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PairsError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A line is not of the benchmark's layout.
    #[error("{}, line {line}: no score and two sentences in columns 5 to 7", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl SentencePairs {
    /// Reads a file in the layout of the STS benchmark: genre, file, year, number, score and the two sentences, separated by
    /// tabs.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or a line has another layout.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, PairsError> {
        let path = path.as_ref();
        let text =
            std::fs::read_to_string(path).map_err(|source| PairsError::Read { path: path.to_owned(), source })?;
        let mut pairs = Self::default();
        for (index, line) in text.lines().enumerate() {
            let wrong = || PairsError::Line { path: path.to_owned(), line: index + 1 };
            let fields: Vec<&str> = line.split('\t').collect();
            let [_, _, _, _, score, first, second, ..] = fields[..] else { return Err(wrong()) };
            pairs.scores.push(score.parse().map_err(|_| wrong())?);
            pairs.first.push(first.to_string());
            pairs.second.push(second.to_string());
        }
        Ok(pairs)
    }

    /// Spearman's correlation of the cosines of the embeddings with people's scores.
    ///
    /// # Errors
    ///
    /// If there is no pair, or a sentence gives no tokens.
    #[cfg(feature = "tokenizers")]
    pub fn spearman(&self, encoder: &SentenceEncoder) -> Result<f64, BertError> {
        let cosines = (encoder.embed(&self.first)? * encoder.embed(&self.second)?).sum_dim(1);
        let cosines: Vec<f64> = cosines.into_data().iter::<f64>().collect();
        Ok(spearman(&cosines, &self.scores))
    }
}

/// Spearman's rank correlation: Pearson's correlation of the ranks, from -1 to 1. NaN if all values of a side are equal.
///
/// # Panics
///
/// If the two sides are not equally long.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len(), "every value needs a partner");
    let (a, b) = (ranks(a), ranks(b));
    // Ties keep the sum of the ranks, so both sides have this mean.
    let mean = (a.len() as f64 + 1.0) / 2.0;
    let covariance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    covariance(&a, &b) / (covariance(&a, &a) * covariance(&b, &b)).sqrt()
}

/// The rank of every value, from 1; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for tie in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let mean = start as f64 + (tie.len() + 1) as f64 / 2.0;
        tie.iter().for_each(|index| ranks[*index] = mean);
        start += tie.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_the_mean_of_their_ranks() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [4.0, 1.0, 4.0, 2.0, 4.0]);
    }

    #[test]
    fn spearman_depends_on_the_order_only() {
        assert_eq!(spearman(&[1.0, 5.0, 9.0], &[2.0, 3.0, 100.0]), 1.0);
        assert_eq!(spearman(&[1.0, 5.0, 9.0], &[2.0, 1.0, 0.0]), -1.0);
    }

    #[test]
    fn wrong_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sts.csv");
        std::fs::write(&path, "g\tf\ty\tn\t2.5\tA dog.\tA cat.\ng\tf\ty\tn\tmuch\tA.\tB.\n").unwrap();
        let message = SentencePairs::from_file(&path).unwrap_err().to_string();
        assert!(message.contains("sts.csv, line 2: no score"), "{message}");
    }
}
