//! The real all-MiniLM-L6-v2 on the development set of the STS benchmark (Cer et al., 2017), where its published
//! Spearman correlation is 86.72.
//!
//! Runs where `BURN_STRUCTURED_MINILM` names the model folder and `BURN_STRUCTURED_STS` the file `sts-dev.csv`.

#![allow(clippy::print_stderr, reason = "a skipped test says so")]

use burn::tensor::Device;
use burn_structured_models::bert::SentenceEncoder;
use burn_structured_train::similarity::SentencePairs;
use std::time::Instant;

#[test]
fn mini_lm_ranks_sentence_pairs_as_published() {
    let [Ok(folder), Ok(pairs)] = ["BURN_STRUCTURED_MINILM", "BURN_STRUCTURED_STS"].map(std::env::var) else {
        eprintln!("skipped: set BURN_STRUCTURED_MINILM to the model folder and BURN_STRUCTURED_STS to sts-dev.csv");
        return;
    };
    let encoder = SentenceEncoder::from_folder(folder, &Device::flex()).unwrap();
    let pairs = SentencePairs::from_file(pairs).unwrap();
    assert_eq!(pairs.scores.len(), 1500);
    let start = Instant::now();
    let correlation = pairs.spearman(&encoder).unwrap();
    eprintln!("Spearman correlation {correlation:.5}, 3,000 sentences in {:.1} s", start.elapsed().as_secs_f64());
    assert!((correlation - 0.867).abs() < 0.002, "{correlation}");
}
