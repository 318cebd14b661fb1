//! How well a sentence encoder ranks sentence pairs: the STS benchmark (Cer et al., 2017) and Spearman's correlation.

#[cfg(feature = "tokenizers")]
use burn_structured_models::bert::{BertError, SentenceEncoder};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::collections::{BTreeMap, HashMap};
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
    #[error("{}, line {line}: no score from 0 to 5 and two sentences in columns 5 to 7", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The pairs cannot be split.
    #[error(
        "{pairs} sentence pairs cannot be split into some to train on and two or more to rank, with every sentence on one side \
         only; give more pairs, or another share"
    )]
    Split {
        /// How many there are.
        pairs: usize,
    },
    /// The share of the pairs to train on is out of range.
    #[error("a share of {share} of the pairs cannot be trained on; use one above 0 and below 1, such as 0.67")]
    Share {
        /// The share.
        share: f64,
    },
}

impl SentencePairs {
    /// Reads a file in the layout of the STS benchmark: genre, file, year, number, score and the two sentences, separated by
    /// tabs.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, a line has another layout, or a score is not from 0 to 5.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, PairsError> {
        let path = path.as_ref();
        let text =
            std::fs::read_to_string(path).map_err(|source| PairsError::Read { path: path.to_owned(), source })?;
        let mut pairs = Self::default();
        for (index, line) in text.lines().enumerate() {
            let wrong = || PairsError::Line { path: path.to_owned(), line: index + 1 };
            let fields: Vec<&str> = line.split('\t').collect();
            let [_, _, _, _, score, first, second, ..] = fields[..] else { return Err(wrong()) };
            let score = score.parse::<f64>().ok().filter(|score| (0.0..=5.0).contains(score));
            pairs.scores.push(score.ok_or_else(wrong)?);
            pairs.first.push(first.to_string());
            pairs.second.push(second.to_string());
        }
        Ok(pairs)
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.scores.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    /// Two parts, to train on and to score on: about `share` of the pairs, chosen by the seed, and the others. Pairs that have a
    /// sentence in common are in the same part, and each part is in the order of the file.
    ///
    /// # Errors
    ///
    /// If the share is not between 0 and 1, or there would be nothing to train on or less than two pairs to rank.
    pub fn split(&self, share: f64, seed: u64) -> Result<[Self; 2], PairsError> {
        if !(share > 0.0 && share < 1.0) {
            return Err(PairsError::Share { share });
        }
        let pairs = self.len();
        let mut groups = self.groups();
        groups.shuffle(&mut StdRng::seed_from_u64(seed));
        let wanted = ((share * pairs as f64).round() as usize).clamp(1, pairs.saturating_sub(2).max(1));
        let mut parts = [Vec::new(), Vec::new()];
        for group in groups {
            let [train, _] = &parts;
            let part = usize::from(train.len() + group.len() > wanted);
            parts[part].extend(group);
        }
        if parts[0].is_empty() || parts[1].len() < 2 {
            return Err(PairsError::Split { pairs });
        }
        Ok(parts.map(|mut part| {
            part.sort_unstable();
            self.chosen(&part)
        }))
    }

    /// Groups of pairs such that no sentence is in two of them.
    fn groups(&self) -> Vec<Vec<usize>> {
        fn root(parents: &[usize], mut pair: usize) -> usize {
            while parents[pair] != pair {
                pair = parents[pair];
            }
            pair
        }
        let mut parents: Vec<usize> = (0..self.len()).collect();
        let mut with_sentence = HashMap::new();
        for (pair, sentences) in self.first.iter().zip(&self.second).enumerate() {
            for sentence in [sentences.0, sentences.1] {
                let other = *with_sentence.entry(sentence.as_str()).or_insert(pair);
                let (a, b) = (root(&parents, pair), root(&parents, other));
                parents[a.max(b)] = a.min(b);
            }
        }
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        (0..self.len()).for_each(|pair| groups.entry(root(&parents, pair)).or_default().push(pair));
        groups.into_values().collect()
    }

    fn chosen(&self, pairs: &[usize]) -> Self {
        let texts = |texts: &[String]| pairs.iter().map(|pair| texts[*pair].clone()).collect();
        Self {
            first: texts(&self.first),
            second: texts(&self.second),
            scores: pairs.iter().map(|pair| self.scores[*pair]).collect(),
        }
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

    /// Pairs of numbered sentences; some share one with the pair before.
    fn pairs(count: usize) -> SentencePairs {
        let first = (0..count).map(|pair| format!("first {}", pair - usize::from(pair % 5 == 4))).collect();
        let second = (0..count).map(|pair| format!("second {pair}")).collect();
        SentencePairs { first, second, scores: (0..count).map(|pair| (pair % 6) as f64).collect() }
    }

    #[test]
    fn split_takes_every_pair_once_and_follows_the_seed() {
        let all = pairs(60);
        let [train, test] = all.split(2.0 / 3.0, 7).unwrap();
        assert_eq!((train.len(), test.len()), (40, 20));
        let mut seconds = [train.second.clone(), test.second.clone()].concat();
        seconds.sort();
        let mut expected = all.second.clone();
        expected.sort();
        assert_eq!(seconds, expected);
        // Scores and sentences stay together.
        for part in [&train, &test] {
            for (second, score) in part.second.iter().zip(&part.scores) {
                assert_eq!(all.scores[all.second.iter().position(|other| other == second).unwrap()], *score);
            }
        }
        assert_eq!(all.split(2.0 / 3.0, 7).unwrap(), [train.clone(), test]);
        assert_ne!(all.split(2.0 / 3.0, 8).unwrap()[0], train);
    }

    #[test]
    fn split_leaves_no_sentence_in_both_parts() {
        let all = pairs(60);
        assert_eq!(all.groups().iter().filter(|group| group.len() == 2).count(), 12);
        for seed in 0..20 {
            let [train, test] = all.split(0.5, seed).unwrap();
            assert!(train.first.iter().all(|sentence| !test.first.contains(sentence)), "seed {seed}");
        }
    }

    #[test]
    fn pairs_that_cannot_be_split_are_an_error() {
        let error = |pairs: &SentencePairs, share| pairs.split(share, 0).unwrap_err().to_string();
        for count in [0, 1, 2] {
            assert!(error(&pairs(count), 0.5).starts_with(&format!("{count} sentence pairs cannot be split")));
        }
        assert!(pairs(3).split(0.5, 0).is_ok());
        let mut alike = pairs(9);
        alike.first.fill("the same".into());
        assert!(error(&alike, 0.5).starts_with("9 sentence pairs cannot be split"));
        for share in [0.0, 1.0, f64::NAN] {
            assert!(error(&pairs(9), share).starts_with("a share of "));
        }
    }

    #[test]
    fn wrong_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sts.csv");
        std::fs::write(&path, "g\tf\ty\tn\t2.5\tA dog.\tA cat.\ng\tf\ty\tn\tmuch\tA.\tB.\n").unwrap();
        let message = SentencePairs::from_file(&path).unwrap_err().to_string();
        assert!(message.contains("sts.csv, line 2: no score"), "{message}");
        for score in ["5.1", "-1", "NaN"] {
            std::fs::write(&path, format!("g\tf\ty\tn\t{score}\tA dog.\tA cat.\n")).unwrap();
            assert!(SentencePairs::from_file(&path).unwrap_err().to_string().contains("line 1: no score"), "{score}");
        }
    }
}
