//! How long inference takes.

use crate::harness::measure::{Effort, Work, measure};
use burn_structured::models::bert::{Bert, TokenBatch};
use burn_structured::train::comparison::Latency;

/// Different batches of a size.
const BATCHES: usize = 32;

/// The times of every model for batches of every size of the `sentences`, from tokens to embeddings. The models take turns, on the same
/// batches.
pub fn latencies(
    models: &[Bert],
    sentences: &[Vec<u32>],
    pad_id: usize,
    sizes: &[usize],
    seconds: f64,
) -> Vec<Vec<Latency>> {
    let mut found = vec![Vec::new(); models.len()];
    let Some(device) = models.first().map(Bert::device) else { return found };
    for size in sizes {
        // Sentences from all over the test part; where there are not as many, some are used again.
        let sentence = |index: usize| sentences[index * sentences.len() / (BATCHES * size)].as_slice();
        let batch = |batch: usize| {
            let chosen: Vec<&[u32]> = (batch * size..(batch + 1) * size).map(sentence).collect();
            TokenBatch::new(&chosen, pad_id, &device)
        };
        let batches: Vec<TokenBatch> = (0..BATCHES).map(batch).collect();
        let turn = |model| {
            let (batches, mut next) = (&batches, 0);
            let model: &Bert = model;
            Work::new(move || {
                let TokenBatch { tokens, mask } = batches[next % BATCHES].clone();
                next += 1;
                drop(model.embed(tokens, mask).into_data());
            })
        };
        let mut candidates: Vec<Work<'_>> = models.iter().map(turn).collect();
        let effort = Effort { seconds, fewest: 5, most: 200, calls: 1 };
        for (times, time) in found.iter_mut().zip(measure(&mut candidates, effort)) {
            times.push(Latency {
                sentences: *size,
                median_ms: time.median_ms,
                lower_quartile_ms: time.lower_quartile_ms,
                upper_quartile_ms: time.upper_quartile_ms,
                rounds: time.rounds,
            });
        }
    }
    found
}
