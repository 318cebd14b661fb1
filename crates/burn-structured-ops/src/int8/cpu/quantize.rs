//! The input of a product as int8, gathered and quantized token by token.

use super::layout::QuantizedRows;
use crate::cpu::{SharedOutput, ThreadTeam, vectorized};
use crate::int8::factor::SMALLEST;

/// Tokens that one task quantizes.
const TASK_TOKENS: usize = 16;

/// 2²³ + 2²²: a float of at most 2²² added to it leaves its nearest integer in the low bits, ties to even.
const ROUNDER: f32 = 12_582_912.0;

/// Where the inputs of a product come from.
///
/// Everything here must be `inline(always)`, to be compiled for the instructions of the processor.
pub(super) trait Gather: Sync {
    /// Floats that [`prepare`](Self::prepare) writes.
    fn prepared_len(&self) -> usize {
        0
    }

    /// Called once a token, before its groups are gathered.
    #[inline(always)]
    fn prepare(&self, _token: usize, _prepared: &mut [f32]) {}

    /// The inputs of one group of a token: as many floats as `buffer` has, which they may be written to.
    fn features<'a>(&'a self, prepared: &'a [f32], token: usize, group: usize, buffer: &'a mut [f32]) -> &'a [f32];
}

/// Quantizes the inputs of all groups of a product for all tokens.
///
/// Rows are padded with zeros. A row with a feature that is not finite has a scale that is not a number.
pub(super) fn quantize(rows: &mut QuantizedRows<'_>, team: &ThreadTeam, gather: impl Gather) {
    let [groups, tokens, depth, stride] = [rows.groups, rows.tokens, rows.depth, rows.stride];
    let values = SharedOutput::new(&mut *rows.values);
    let (scales, sums) = (SharedOutput::new(&mut *rows.scales), SharedOutput::new(&mut *rows.sums));
    team.parallel_for(tokens.div_ceil(TASK_TOKENS), |task| {
        let (mut prepared, mut buffer) = (vec![0.0; gather.prepared_len()], vec![0.0; depth]);
        vectorized(
            #[inline(always)]
            || {
                for token in task * TASK_TOKENS..tokens.min((task + 1) * TASK_TOKENS) {
                    gather.prepare(token, &mut prepared);
                    for group in 0..groups {
                        let row = group * tokens + token;
                        let features = gather.features(&prepared, token, group, &mut buffer);
                        // SAFETY: no other task has this token, and the buffers are initialised.
                        let (out, scale, sum) =
                            unsafe { (values.slice(row * stride, stride), scales.slice(row, 1), sums.slice(row, 1)) };
                        (scale[0], sum[0]) = quantize_row(features, out);
                    }
                }
            },
        );
    });
}

/// Floats that are quantized at a time.
const LANES: usize = 16;

/// The scale of `features` and the sum of their quantized values, which are written to the beginning of `out`; the rest of it is zero.
#[inline(always)]
fn quantize_row(features: &[f32], out: &mut [i8]) -> (f32, i32) {
    let (chunks, rest) = features.as_chunks::<LANES>();
    let mut last = [0.0f32; LANES];
    last[..rest.len()].copy_from_slice(rest);
    let (mut largest, mut finite) = ([0.0f32; LANES], [0.0f32; LANES]);
    for chunk in chunks.iter().chain([&last]) {
        for lane in 0..LANES {
            let size = chunk[lane].abs();
            largest[lane] = if size > largest[lane] { size } else { largest[lane] };
            // 0, or no number if the feature is not finite.
            finite[lane] += chunk[lane] * 0.0;
        }
    }
    let (mut scale, mut not_finite) = (0.0f32, 0.0f32);
    for lane in 0..LANES {
        scale = scale.max(largest[lane]);
        not_finite += finite[lane];
    }
    let quanta = f32::from(crate::int8::MAX);
    let to_quanta = if scale >= SMALLEST { scale.recip() * quanta } else { 0.0 };
    let mut sums = [0i32; LANES];
    let (rows, padding) = out.split_at_mut(features.len());
    let (rows, tail) = rows.as_chunks_mut::<LANES>();
    for (out, chunk) in rows.iter_mut().zip(chunks) {
        *out = quantize_chunk(chunk, to_quanta, &mut sums);
    }
    tail.copy_from_slice(&quantize_chunk(&last, to_quanta, &mut sums)[..rest.len()]);
    padding.fill(0);
    (scale / quanta + not_finite, sums.into_iter().sum())
}

/// The nearest integers, added to `sums`; anything at all if the row has no scale.
#[inline(always)]
fn quantize_chunk(features: &[f32; LANES], to_quanta: f32, sums: &mut [i32; LANES]) -> [i8; LANES] {
    let mut out = [0; LANES];
    for lane in 0..LANES {
        let quanta = (features[lane] * to_quanta + ROUNDER).to_bits() as i8;
        sums[lane] += i32::from(quanta);
        out[lane] = quanta;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(features: &[f32]) -> (Vec<i8>, f32, i32) {
        let mut out = vec![1; features.len().next_multiple_of(64)];
        let (scale, sum) = quantize_row(features, &mut out);
        (out, scale, sum)
    }

    #[test]
    fn quantize_row_rounds_to_nearest_even_quanta() {
        let features: Vec<f32> = (0..40).map(|i| [127.0, -127.0, 0.49, 0.51, -2.5, 3.5, 64.4, -0.0][i % 8]).collect();
        let (values, scale, sum) = quantized(&features);
        assert_eq!(scale, 1.0);
        assert_eq!(values[..8], [127, -127, 0, 1, -2, 4, 64, 0]);
        assert_eq!(values[40..], [0; 24]);
        assert_eq!(sum, values.iter().map(|value| i32::from(*value)).sum::<i32>());
    }

    #[test]
    fn quantize_row_of_tiny_numbers_is_zero() {
        let (values, scale, sum) = quantized(&[1e-37, -2e-38, 0.0]);
        assert_eq!((values, sum), (vec![0; 64], 0));
        assert!(scale < 1e-38);
    }

    #[test]
    fn quantize_row_of_zeros_is_zero() {
        assert_eq!(quantized(&[0.0; 5]), (vec![0; 64], 0.0, 0));
    }

    #[test]
    fn quantize_row_has_no_scale_if_a_feature_is_not_finite() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 17, 19] {
                let mut features = [0.5f32; 20];
                features[at] = bad;
                assert!(quantized(&features).1.is_nan(), "{bad} at {at}");
            }
        }
    }
}
