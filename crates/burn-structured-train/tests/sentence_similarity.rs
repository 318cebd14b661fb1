//! The real all-MiniLM-L6-v2 on the development set of the STS benchmark (Cer et al., 2017), where its published
//! Spearman correlation is 86.72.
//!
//! Runs where `BURN_STRUCTURED_MINILM` names the model folder and `BURN_STRUCTURED_STS` the file `sts-dev.csv`.

#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use burn::tensor::Device;
use burn_structured_models::bert::SentenceEncoder;
use std::time::Instant;

#[test]
fn mini_lm_ranks_sentence_pairs_as_published() {
    let [Ok(folder), Ok(pairs)] = ["BURN_STRUCTURED_MINILM", "BURN_STRUCTURED_STS"].map(std::env::var) else {
        eprintln!("skipped: set BURN_STRUCTURED_MINILM to the model folder and BURN_STRUCTURED_STS to sts-dev.csv");
        return;
    };
    let encoder = SentenceEncoder::from_folder(folder, &Device::flex()).unwrap();
    let text = std::fs::read_to_string(pairs).unwrap();
    let (mut scores, mut left, mut right) = (Vec::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        // Genre, file, year, number, score and the two sentences.
        let columns: Vec<&str> = line.split('\t').collect();
        scores.push(columns[4].parse::<f64>().unwrap());
        left.push(columns[5]);
        right.push(columns[6]);
    }
    assert_eq!(scores.len(), 1500);
    let start = Instant::now();
    let cosines = (encoder.embed(&left).unwrap() * encoder.embed(&right).unwrap()).sum_dim(1);
    let cosines: Vec<f64> = cosines.into_data().iter::<f64>().collect();
    let correlation = pearson(&ranks(&cosines), &ranks(&scores));
    eprintln!("Spearman correlation {correlation:.5}, 3,000 sentences in {:.1} s", start.elapsed().as_secs_f64());
    assert!((correlation - 0.867).abs() < 0.002, "{correlation}");
}

#[test]
fn ties_share_the_mean_of_their_ranks() {
    assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [4.0, 1.0, 4.0, 2.0, 4.0]);
    assert_eq!(pearson(&ranks(&[1.0, 5.0, 9.0]), &ranks(&[2.0, 3.0, 100.0])), 1.0);
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

fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let product = |a: &[f64], mean_a: f64, b: &[f64], mean_b: f64| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - mean_a) * (b - mean_b)).sum()
    };
    product(a, mean_a, b, mean_b) / (product(a, mean_a, a, mean_a) * product(b, mean_b, b, mean_b)).sqrt()
}
