//! What happens to a block of scores.

use super::exp::{Exponential, exp_of};
use crate::cpu::{load, store};
use pulp::Simd;

/// Elements of the widest register.
const MAX_LANES: usize = 16;

/// The index of each lane.
#[inline(always)]
fn lane_indices<S: Simd, E: Exponential>() -> E::Vector<S> {
    let (mut indices, mut index) = ([E::ZERO; MAX_LANES], E::ZERO);
    for lane in &mut indices {
        *lane = index;
        index += E::ONE;
    }
    load::<S, E>(&indices)
}

/// Of each query of a tile, the largest score so far and the sum of the exponentials of its distance to all scores so far.
pub(super) struct Sums<'a, E> {
    pub largest: &'a mut [E],
    pub sum: &'a mut [E],
}

/// Turns the scores of some queries with a block of keys into exponentials (the online softmax).
pub(super) struct SoftmaxRows<'a, E, F> {
    /// A row for each query, in rows of `stride` elements.
    pub scores: &'a mut [E],
    pub stride: usize,
    /// Columns that are written: 0 where a key is not seen.
    pub cols: usize,
    pub scale: E,
    /// How many keys of the block, from its first, a row sees.
    pub seen: F,
    /// Of each key of the block, −1 if it is padding; empty if none is.
    pub hidden: &'a [E],
    /// An element for each row.
    pub sums: Sums<'a, E>,
    /// What the sums of earlier blocks have to be multiplied by.
    pub factors: &'a mut [E],
}

impl<E: Exponential, F: Fn(usize) -> usize> pulp::WithSimd for SoftmaxRows<'_, E, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if self.hidden.is_empty() { self.rows::<S, false>(simd) } else { self.rows::<S, true>(simd) }
    }
}

impl<E: Exponential, F: Fn(usize) -> usize> SoftmaxRows<'_, E, F> {
    #[inline(always)]
    fn rows<S: Simd, const HIDDEN: bool>(self, simd: S) {
        let Self { scores, stride, cols, scale, seen, hidden, sums, factors } = self;
        let lanes = E::lanes::<S>();
        assert!(!HIDDEN || hidden.len() >= cols, "every key hidden or not");
        let (unseen, zero) = (E::splat(simd, E::NEG_INFINITY), E::splat(simd, E::ZERO));
        let (scale_lanes, indices) = (E::splat(simd, scale), lane_indices::<S, E>());
        let states = sums.largest.iter_mut().zip(sums.sum).zip(factors);
        for (row, (scores, ((largest, sum), factor))) in scores.chunks_mut(stride).zip(states).enumerate() {
            let scores = &mut scores[..cols];
            let seen = seen(row).min(cols);
            let (full, tail) = (seen - seen % lanes, seen % lanes);
            let mut most = E::splat(simd, *largest);
            for (index, scores) in scores[..full].chunks_exact(lanes).enumerate() {
                most = E::larger(simd, seen_scores::<S, E, HIDDEN>(simd, scores, hidden, index * lanes), most);
            }
            let mut last = unseen;
            if tail > 0 {
                last = seen_scores::<S, E, HIDDEN>(simd, &scores[full..], hidden, full);
                last = E::select_less(simd, indices, E::splat(simd, E::from_elem(tail as f32)), last, unseen);
                most = E::larger(simd, last, most);
            }
            let most = E::largest(simd, most);
            let shift = E::splat(simd, E::ZERO - most * scale);
            let (written, rest) = scores.split_at_mut(seen.next_multiple_of(lanes));
            let (written, partial) = written.split_at_mut(full);
            let mut total = zero;
            for (index, scores) in written.chunks_exact_mut(lanes).enumerate() {
                let score = seen_scores::<S, E, HIDDEN>(simd, scores, hidden, index * lanes);
                let exp = E::exp(simd, E::fused(simd, score, scale_lanes, shift));
                store::<S, E>(scores, exp);
                total = E::plus(simd, total, exp);
            }
            if tail > 0 {
                let exp = E::exp(simd, E::fused(simd, last, scale_lanes, shift));
                store::<S, E>(partial, exp);
                total = E::plus(simd, total, exp);
            }
            rest.fill(E::ZERO);
            *factor = exp_of(simd, (*largest - most) * scale);
            *sum = sum.mul_add(*factor, E::sum(simd, total));
            *largest = most;
        }
    }
}

/// A register of scores; −∞ where `HIDDEN` and the key is padding.
#[inline(always)]
fn seen_scores<S: Simd, E: Exponential, const HIDDEN: bool>(
    simd: S,
    scores: &[E],
    hidden: &[E],
    at: usize,
) -> E::Vector<S> {
    let scores = load::<S, E>(scores);
    if !HIDDEN {
        return scores;
    }
    let unseen = E::splat(simd, E::NEG_INFINITY);
    E::select_less(simd, load::<S, E>(&hidden[at..]), E::splat(simd, E::ZERO), unseen, scores)
}

/// Turns transposed scores into probabilities, and the gradients of the probabilities into those of the scores.
pub(super) struct GradientRows<'a, E, F> {
    /// A row for each key and a column for each query, in rows of `stride` elements: scores, then probabilities.
    pub scores: &'a mut [E],
    /// The same: gradients of the probabilities, then of the scores.
    pub gradients: &'a mut [E],
    pub stride: usize,
    /// Rows, and columns that are written.
    pub rows: usize,
    pub cols: usize,
    pub scale: E,
    /// The first query that sees the key of a row, if there is one.
    pub first_query: F,
    /// Of each query, its log-sum-exp, and the sum over the elements of its output times their gradients.
    pub log_sum_exp: &'a [E],
    pub shift: &'a [E],
}

impl<E: Exponential, F: Fn(usize) -> Option<usize>> pulp::WithSimd for GradientRows<'_, E, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { scores, gradients, stride, rows, cols, scale, first_query, log_sum_exp, shift } = self;
        let lanes = E::lanes::<S>();
        let (minus, zero) = (E::splat(simd, E::ZERO - E::ONE), E::splat(simd, E::ZERO));
        let (scale, indices) = (E::splat(simd, scale), lane_indices::<S, E>());
        let (log_sum_exp, shift) = (&log_sum_exp[..cols], &shift[..cols]);
        let matrices = scores.chunks_mut(stride).zip(gradients.chunks_mut(stride)).take(rows);
        for (row, (scores, gradients)) in matrices.enumerate() {
            let (scores, gradients) = (&mut scores[..cols], &mut gradients[..cols]);
            let first = first_query(row).unwrap_or(cols).min(cols);
            let start = first - first % lanes;
            scores[..start].fill(E::ZERO);
            gradients[..start].fill(E::ZERO);
            let blocks = scores[start..].chunks_exact_mut(lanes).zip(gradients[start..].chunks_exact_mut(lanes));
            let queries = log_sum_exp[start..].chunks_exact(lanes).zip(shift[start..].chunks_exact(lanes));
            let mut hidden = first - start;
            for ((scores, gradients), (log_sum_exp, shift)) in blocks.zip(queries) {
                let distance = E::times(simd, load::<S, E>(log_sum_exp), minus);
                let mut probability = E::exp(simd, E::fused(simd, load::<S, E>(scores), scale, distance));
                let shift = load::<S, E>(shift);
                let difference = E::fused(simd, shift, minus, load::<S, E>(gradients));
                let mut gradient = E::times(simd, E::times(simd, probability, difference), scale);
                if hidden > 0 {
                    let first = E::splat(simd, E::from_elem(hidden as f32));
                    probability = E::select_less(simd, indices, first, zero, probability);
                    gradient = E::select_less(simd, indices, first, zero, gradient);
                    hidden = 0;
                }
                store::<S, E>(scores, probability);
                store::<S, E>(gradients, gradient);
            }
        }
    }
}
