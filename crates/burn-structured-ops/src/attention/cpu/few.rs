//! A few queries, as in decoding: keys and values are read once, in place, without packing.

use super::exp::Exponential;
use super::forward::{Results, hide};
use super::heads::{Head, Heads};
use super::softmax::{SoftmaxRows, Sums};
use crate::cpu::gemm;
use crate::cpu::{Matrix, Workspace, load, load_at, split_aligned, store};
use pulp::Simd;
use std::ops::Range;

/// Queries for which this is faster than packing.
pub(super) const MAX_QUERIES: usize = 4;
/// Keys that are multiplied by a query at a time.
const KEYS: usize = 4;

/// The results of some queries of a head.
pub(super) fn attend<E: Exponential>(
    heads: &Heads<'_, E>,
    head: Head<'_, E>,
    range: Range<usize>,
    results: Results<'_, E>,
) {
    let keys = head.seen_by(range.end - 1);
    let stride = keys.max(1).next_multiple_of(gemm::shape::<E>().0);
    let queries = range.len();
    E::with_buffer(Workspace::Task, |buffer| {
        let [scores, hidden, largest, sum, factors] =
            split_aligned(buffer, [queries * stride, stride, queries, queries, queries]);
        largest.fill(E::MIN);
        sum.fill(E::ZERO);
        let (query, key) = (head.query.rows(range.start, queries), head.key.rows(0, keys));
        pulp::Arch::new().dispatch(Scores { query, key, scores: &mut *scores, stride });
        let softmax = SoftmaxRows {
            scores: &mut *scores,
            stride,
            cols: stride,
            scale: heads.scale,
            seen: |row| head.seen_by(range.start + row),
            hidden: hide(&head, 0, keys, hidden),
            sums: Sums { largest: &mut *largest, sum: &mut *sum },
            factors,
        };
        pulp::Arch::new().dispatch(softmax);
        for (row, query) in range.clone().enumerate() {
            let probabilities = &scores[row * stride..][..keys];
            // SAFETY: no other task has this query, and zeros are written first.
            let out = unsafe {
                results.clear(&head, query);
                results.row(&head, query)
            };
            pulp::Arch::new().dispatch(Mix { probabilities, value: head.value.rows(0, keys), out });
        }
        // SAFETY: no other task has these queries, and all have been written.
        unsafe { results.finish(&head, range.start, &Sums { largest, sum }, heads.scale) };
    });
}

/// The products of each query with each key, in rows of `stride` elements.
struct Scores<'a, 'b, E> {
    query: Matrix<'a, E>,
    key: Matrix<'a, E>,
    scores: &'b mut [E],
    stride: usize,
}

impl<E: Exponential> pulp::WithSimd for Scores<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { query, key, scores, stride } = self;
        for first in (0..key.rows).step_by(KEYS) {
            let count = KEYS.min(key.rows - first);
            let mut keys = [key.row_slice(first); KEYS];
            for (index, row) in keys[..count].iter_mut().enumerate() {
                *row = key.row_slice(first + index);
            }
            for row in 0..query.rows {
                let products = dots::<S, E>(simd, query.row_slice(row), keys);
                for (score, product) in scores[row * stride + first..][..count].iter_mut().zip(products) {
                    *score = product;
                }
            }
        }
    }
}

/// The products of a query with some keys.
#[inline(always)]
fn dots<S: Simd, E: Exponential>(simd: S, query: &[E], keys: [&[E]; KEYS]) -> [E; KEYS] {
    let (lanes, len) = (E::lanes::<S>(), query.len());
    assert!(keys.iter().all(|key| key.len() == len), "as many features");
    let full = len - len % lanes;
    let mut sums = [E::splat(simd, E::ZERO); KEYS];
    for at in (0..full).step_by(lanes) {
        // SAFETY: `at + lanes` is at most `full`, and that is at most the length of every row, as asserted.
        let query = unsafe { load_at::<S, E>(query.as_ptr().add(at)) };
        for (sum, key) in sums.iter_mut().zip(keys) {
            // SAFETY: as above.
            *sum = E::fused(simd, query, unsafe { load_at::<S, E>(key.as_ptr().add(at)) }, *sum);
        }
    }
    // Loops instead of closures, which need not be compiled for this processor.
    let mut products = [E::ZERO; KEYS];
    for ((product, sum), key) in products.iter_mut().zip(sums).zip(keys) {
        *product = E::sum(simd, sum);
        for at in full..len {
            *product = query[at].mul_add(key[at], *product);
        }
    }
    products
}

/// Adds the values, each multiplied by its probability, to `out`.
struct Mix<'a, 'b, E> {
    probabilities: &'a [E],
    value: Matrix<'a, E>,
    out: &'b mut [E],
}

impl<E: Exponential> pulp::WithSimd for Mix<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { probabilities, value, out } = self;
        assert!(probabilities.len() == value.rows && out.len() == value.cols, "sizes of a product");
        let lanes = E::lanes::<S>();
        let mut first = 0;
        while out.len() - first >= 4 * lanes {
            columns::<S, E, 4>(simd, probabilities, value, first, &mut out[first..]);
            first += 4 * lanes;
        }
        while out.len() - first >= lanes {
            columns::<S, E, 1>(simd, probabilities, value, first, &mut out[first..]);
            first += lanes;
        }
        for (key, probability) in probabilities.iter().enumerate() {
            for (out, value) in out[first..].iter_mut().zip(&value.row_slice(key)[first..]) {
                *out = probability.mul_add(*value, *out);
            }
        }
    }
}

/// `V` registers of columns from `first` on, of even and odd keys apart, so that an addition need not wait for the one before.
#[inline(always)]
fn columns<S: Simd, E: Exponential, const V: usize>(
    simd: S,
    probabilities: &[E],
    value: Matrix<'_, E>,
    first: usize,
    out: &mut [E],
) {
    let lanes = E::lanes::<S>();
    let mut sums = [[E::splat(simd, E::ZERO); V]; 2];
    let pairs = probabilities.chunks_exact(2);
    if let [probability] = pairs.remainder() {
        let row = value.row_slice(value.rows - 1);
        add_row::<S, E, V>(simd, *probability, &row[first..first + V * lanes], &mut sums[0]);
    }
    for (pair, probabilities) in pairs.enumerate() {
        for (i, sums) in sums.iter_mut().enumerate() {
            let row = value.row_slice(2 * pair + i);
            add_row::<S, E, V>(simd, probabilities[i], &row[first..first + V * lanes], sums);
        }
    }
    let [even, odd] = sums;
    for ((even, odd), out) in even.into_iter().zip(odd).zip(out.chunks_exact_mut(lanes)) {
        store::<S, E>(out, E::plus(simd, even, odd));
    }
}

/// Adds the registers of a row, multiplied by a probability, to `sums`.
#[inline(always)]
fn add_row<S: Simd, E: Exponential, const V: usize>(simd: S, probability: E, row: &[E], sums: &mut [E::Vector<S>; V]) {
    let probability = E::splat(simd, probability);
    for (sum, values) in sums.iter_mut().zip(row.chunks_exact(E::lanes::<S>())) {
        *sum = E::fused(simd, probability, load::<S, E>(values), *sum);
    }
}
