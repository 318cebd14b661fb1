//! The choice of the next token from the model's logits.

use super::GenerateError;
use burn::config::Config;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::HashSet;

/// Configuration to create a [`Sampler`] using the [init function](SamplingConfig::init).
///
/// The settings apply in the order of the fields, as in Hugging Face's `transformers`.
#[derive(Config, Debug, PartialEq)]
pub struct SamplingConfig {
    /// Divides the positive logits of tokens that the text already holds, and multiplies their negative ones (Keskar et
    /// al., *CTRL*, 2019). 1 changes nothing.
    #[config(default = 1.0)]
    pub repetition_penalty: f64,
    /// Divides the logits: below 1 likely tokens become likelier. 0 always takes the likeliest token.
    #[config(default = 1.0)]
    pub temperature: f64,
    /// Only this many of the likeliest tokens can be drawn (Fan et al., 2018).
    #[config(default = "None")]
    pub top_k: Option<usize>,
    /// Only the fewest likeliest tokens that have this probability together can be drawn (Holtzman et al., 2020).
    #[config(default = "None")]
    pub top_p: Option<f64>,
    /// Seed of the draws. Row `i` of a batch draws as if it were alone with the seed `seed + i`.
    #[config(default = 0)]
    pub seed: u64,
}

/// Draws one token after the other.
///
/// Should be created with [`SamplingConfig`].
#[derive(Debug)]
pub struct Sampler {
    config: SamplingConfig,
    rng: StdRng,
}

impl SamplingConfig {
    /// A sampler with this configuration.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self) -> Sampler {
        self.try_init().unwrap_or_else(|error| panic!("Sampler: {error}"))
    }

    /// A sampler with this configuration.
    ///
    /// # Errors
    ///
    /// If a setting is out of range.
    pub fn try_init(&self) -> Result<Sampler, GenerateError> {
        self.check()?;
        Ok(Sampler { config: self.clone(), rng: StdRng::seed_from_u64(self.seed) })
    }

    /// The sampler of a row of a batch.
    pub(super) fn try_init_row(&self, row: usize) -> Result<Sampler, GenerateError> {
        self.clone().with_seed(self.seed.wrapping_add(row as u64)).try_init()
    }

    /// The tokens that can be drawn after a text of `history`, with their probabilities, which sum to 1.
    ///
    /// With [`top_k`](Self::top_k) or [`top_p`](Self::top_p) the likeliest token is the first one, and of two equally likely
    /// tokens the one with the lower id is; otherwise the tokens are in the order of their ids.
    ///
    /// # Errors
    ///
    /// If a logit is NaN or positive infinity, or no logit is finite.
    pub fn distribution(&self, logits: &[f32], history: &[u32]) -> Result<Vec<(u32, f64)>, GenerateError> {
        let logits = penalized(logits, history, self.repetition_penalty)?;
        if self.temperature == 0.0 {
            return Ok(vec![(likeliest(&logits), 1.0)]);
        }
        let mut candidates: Vec<(u32, f64)> = (0..).zip(logits).collect();
        if let Some(count) = self.top_k {
            keep_likeliest(&mut candidates, count);
        }
        if self.top_k.is_some() || self.top_p.is_some() {
            candidates.sort_unstable_by(likelier_first);
        }
        softmax(&mut candidates, self.temperature);
        if let Some(share) = self.top_p {
            keep_nucleus(&mut candidates, share);
        }
        Ok(candidates)
    }

    pub(super) fn check(&self) -> Result<(), GenerateError> {
        let error = |name, value: String, expected| Err(GenerateError::Setting { name, value, expected });
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            let expected = "give a number above 0, such as 1.2, or 1 for no penalty";
            return error("repetition penalty", self.repetition_penalty.to_string(), expected);
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            let expected = "give a number from 0 up, such as 0.8; 0 always takes the likeliest token";
            return error("temperature", self.temperature.to_string(), expected);
        }
        if self.top_k == Some(0) {
            return error("top-k", "0".into(), "give at least 1 token to draw from, or leave it out");
        }
        match self.top_p {
            Some(share) if !(share > 0.0 && share <= 1.0) => {
                error("top-p", share.to_string(), "give a probability above 0 and at most 1, such as 0.9")
            }
            _ => Ok(()),
        }
    }
}

impl Sampler {
    /// Draws the token after a text of `history` from the model's `logits`, one for each token of the vocabulary.
    ///
    /// # Errors
    ///
    /// As [`SamplingConfig::distribution`].
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> Result<u32, GenerateError> {
        let candidates = self.config.distribution(logits, history)?;
        let drawn: f64 = self.rng.random();
        let mut cumulative = 0.0;
        let found = candidates.iter().find(|(_, probability)| {
            cumulative += probability;
            drawn < cumulative
        });
        // Rounding may leave the sum just below 1.
        let last = || candidates.iter().rev().find(|(_, probability)| *probability > 0.0);
        found.or_else(last).map(|(token, _)| *token).ok_or(GenerateError::NoLogits)
    }
}

/// The logits with the repetition penalty; every token that occurs is penalized once.
fn penalized(logits: &[f32], history: &[u32], penalty: f64) -> Result<Vec<f64>, GenerateError> {
    if let Some(token) = logits.iter().position(|logit| logit.is_nan() || *logit == f32::INFINITY) {
        return Err(GenerateError::Logit { token, value: logits[token] });
    }
    if logits.iter().all(|logit| *logit == f32::NEG_INFINITY) {
        return Err(GenerateError::NoLogits);
    }
    let mut logits: Vec<f64> = logits.iter().map(|logit| f64::from(*logit)).collect();
    if penalty != 1.0 {
        for token in history.iter().collect::<HashSet<_>>() {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }
    Ok(logits)
}

/// The token with the largest logit; of equal ones, the first.
fn likeliest(logits: &[f64]) -> u32 {
    let better = |best: (u32, f64), next: (u32, f64)| if next.1 > best.1 { next } else { best };
    (0..).zip(logits.iter().copied()).reduce(better).map_or(0, |(token, _)| token)
}

fn likelier_first(a: &(u32, f64), b: &(u32, f64)) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

fn keep_likeliest(candidates: &mut Vec<(u32, f64)>, count: usize) {
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, likelier_first);
        candidates.truncate(count);
    }
}

/// Replaces logits by probabilities, `exp(logit / temperature)` normalized.
fn softmax(candidates: &mut [(u32, f64)], temperature: f64) {
    let largest = candidates.iter().map(|(_, logit)| *logit).fold(f64::NEG_INFINITY, f64::max);
    for (_, logit) in candidates.iter_mut() {
        *logit = ((*logit - largest) / temperature).exp();
    }
    normalize(candidates);
}

fn normalize(candidates: &mut [(u32, f64)]) {
    let sum: f64 = candidates.iter().map(|(_, weight)| weight).sum();
    for (_, weight) in candidates {
        *weight /= sum;
    }
}

/// Keeps the first candidates whose probabilities sum to `share`, the one that reaches it included.
fn keep_nucleus(candidates: &mut Vec<(u32, f64)>, share: f64) {
    let mut cumulative = 0.0;
    let reached = candidates.iter().position(|(_, probability)| {
        cumulative += probability;
        cumulative >= share
    });
    if let Some(last) = reached {
        candidates.truncate(last + 1);
        normalize(candidates);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits of these probabilities.
    fn logits<const N: usize>(probabilities: [f32; N]) -> [f32; N] {
        probabilities.map(f32::ln)
    }

    fn assert_distribution(found: &[(u32, f64)], expected: &[(u32, f64)]) {
        let close = |(a, b): (&(u32, f64), &(u32, f64))| a.0 == b.0 && (a.1 - b.1).abs() < 1e-6;
        assert!(found.len() == expected.len() && found.iter().zip(expected).all(close), "{found:?}");
    }

    #[test]
    fn default_is_the_models_own_distribution() {
        let found = SamplingConfig::new().distribution(&logits([0.1, 0.2, 0.7]), &[2]).unwrap();
        assert_distribution(&found, &[(0, 0.1), (1, 0.2), (2, 0.7)]);
    }

    #[test]
    fn temperature_sharpens_and_flattens() {
        let at = |temperature| {
            SamplingConfig::new().with_temperature(temperature).distribution(&logits([0.2, 0.8]), &[]).unwrap()
        };
        // Probabilities to the power of 1 / temperature, normalized.
        assert_distribution(&at(0.5), &[(0, 0.04 / 0.68), (1, 0.64 / 0.68)]);
        assert_distribution(&at(2.0), &[(0, 1.0 / 3.0), (1, 2.0 / 3.0)]);
        assert_distribution(&at(0.0), &[(1, 1.0)]);
        // Both the exponential and the quotient would overflow without the largest logit subtracted.
        let tiny = SamplingConfig::new().with_temperature(f64::MIN_POSITIVE).distribution(&[1.0, 2.0], &[]).unwrap();
        assert_distribution(&tiny, &[(0, 0.0), (1, 1.0)]);
    }

    #[test]
    fn zero_temperature_takes_the_first_of_equals() {
        let config = SamplingConfig::new().with_temperature(0.0);
        assert_distribution(&config.distribution(&[1.0, 3.0, 3.0], &[]).unwrap(), &[(1, 1.0)]);
    }

    #[test]
    fn top_k_keeps_the_likeliest() {
        let top = |k| SamplingConfig::new().with_top_k(Some(k)).distribution(&logits([0.1, 0.6, 0.3]), &[]).unwrap();
        assert_distribution(&top(1), &[(1, 1.0)]);
        assert_distribution(&top(2), &[(1, 2.0 / 3.0), (2, 1.0 / 3.0)]);
        assert_distribution(&top(99), &[(1, 0.6), (2, 0.3), (0, 0.1)]);
        let equal = SamplingConfig::new().with_top_k(Some(2)).distribution(&[0.0; 5], &[]).unwrap();
        assert_distribution(&equal, &[(0, 0.5), (1, 0.5)]);
    }

    #[test]
    fn top_p_keeps_the_token_that_reaches_it() {
        let top = |p| {
            let config = SamplingConfig::new().with_top_p(Some(p));
            config.distribution(&logits([0.1, 0.5, 0.15, 0.25]), &[]).unwrap()
        };
        assert_distribution(&top(1e-9), &[(1, 1.0)]);
        assert_distribution(&top(0.51), &[(1, 2.0 / 3.0), (3, 1.0 / 3.0)]);
        assert_eq!(top(1.0).len(), 4);
    }

    #[test]
    fn top_p_counts_what_top_k_and_temperature_left() {
        // Squared and cut to two: 0.36 and 0.09 of 0.45.
        let config = SamplingConfig::new().with_temperature(0.5).with_top_k(Some(2)).with_top_p(Some(0.79));
        assert_distribution(&config.distribution(&logits([0.1, 0.6, 0.3]), &[]).unwrap(), &[(1, 1.0)]);
        let config = config.with_top_p(Some(0.81));
        assert_distribution(&config.distribution(&logits([0.1, 0.6, 0.3]), &[]).unwrap(), &[(1, 0.8), (2, 0.2)]);
    }

    #[test]
    fn repetition_penalty_applies_once_to_a_token() {
        let found = penalized(&[2.0, -2.0, 2.0, -2.0], &[0, 1, 0, 1, 0], 4.0).unwrap();
        assert_eq!(found, [0.5, -8.0, 2.0, -2.0]);
        // Ids beyond the logits belong to no candidate.
        assert_eq!(penalized(&[1.0], &[7], 2.0).unwrap(), [1.0]);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let mut sampler = SamplingConfig::new().with_seed(3).init();
        let mut counts = [0; 3];
        for _ in 0..4000 {
            counts[sampler.sample(&logits([0.1, 0.2, 0.7]), &[]).unwrap() as usize] += 1;
        }
        // Five standard deviations of the binomial distribution.
        for (count, expected) in counts.into_iter().zip([400.0, 800.0, 2800.0f64]) {
            let deviation = (expected * (1.0 - expected / 4000.0)).sqrt();
            assert!((f64::from(count) - expected).abs() < 5.0 * deviation, "{counts:?}");
        }
    }

    #[test]
    fn impossible_tokens_are_never_drawn() {
        let mut sampler = SamplingConfig::new().init();
        let logits = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
        assert!((0..100).all(|_| sampler.sample(&logits, &[]).unwrap() == 1));
    }

    #[test]
    fn seed_decides_the_draws() {
        let draw = |mut sampler: Sampler| (0..20).map(|_| sampler.sample(&[0.0; 50], &[]).unwrap()).collect::<Vec<_>>();
        let config = SamplingConfig::new().with_seed(7);
        assert_eq!(draw(config.init()), draw(config.init()));
        assert_ne!(draw(config.init()), draw(config.clone().with_seed(8).init()));
        assert_eq!(draw(config.try_init_row(2).unwrap()), draw(config.clone().with_seed(9).init()));
    }

    #[test]
    fn unusable_logits_are_errors() {
        let message = |logits: &[f32]| SamplingConfig::new().distribution(logits, &[]).unwrap_err().to_string();
        assert!(message(&[0.0, f32::NAN]).starts_with("the model gave token 1 the logit NaN"));
        assert!(message(&[f32::INFINITY]).starts_with("the model gave token 0 the logit inf"));
        assert!(message(&[]).contains("no token"));
        assert!(message(&[f32::NEG_INFINITY; 3]).contains("no token"));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let message = |config: SamplingConfig| config.try_init().unwrap_err().to_string();
        let config = SamplingConfig::new();
        assert!(message(config.clone().with_temperature(-1.0)).starts_with("temperature = -1 "));
        assert!(message(config.clone().with_temperature(f64::NAN)).starts_with("temperature = NaN "));
        assert!(message(config.clone().with_top_k(Some(0))).starts_with("top-k = 0 "));
        assert!(message(config.clone().with_top_p(Some(0.0))).starts_with("top-p = 0 "));
        assert!(message(config.clone().with_top_p(Some(1.5))).starts_with("top-p = 1.5 "));
        assert!(message(config.with_repetition_penalty(0.0)).starts_with("repetition penalty = 0 "));
    }
}
