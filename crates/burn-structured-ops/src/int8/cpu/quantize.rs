//! The input of a product as int8, gathered and quantized token by token.

use super::layout::QuantizedRows;
use crate::cpu::{SharedOutput, ThreadTeam, vectorized};

/// Tokens that one task quantizes.
const TASK_TOKENS: usize = 16;

/// 2²³ + 2²²: a float of at most 2²² added to it leaves its nearest integer in the low bits, ties to even.
const ROUNDER: f32 = 12_582_912.0;

/// Quantizes the inputs of all `groups` of a product, `depth` features each, for all tokens. `gather(token, group, features)` writes
/// them.
///
/// Rows are padded with zeros. A row with a feature that is not finite has a scale that is not a number.
pub(super) fn quantize(
    rows: &mut QuantizedRows<'_>,
    team: &ThreadTeam,
    gather: impl Fn(usize, usize, &mut [f32]) + Sync,
) {
    quantize_with(rows, team, 0, |_, _| {}, |_, token, group, features| gather(token, group, features));
}

/// [`quantize`] with `width` floats that `prepare(token, floats)` writes once a token, for its groups to be gathered from.
pub(super) fn quantize_with(
    rows: &mut QuantizedRows<'_>,
    team: &ThreadTeam,
    width: usize,
    prepare: impl Fn(usize, &mut [f32]) + Sync,
    gather: impl Fn(&[f32], usize, usize, &mut [f32]) + Sync,
) {
    let [groups, tokens, depth, stride] = [rows.groups, rows.tokens, rows.depth, rows.stride];
    let values = SharedOutput::new(&mut *rows.values);
    let (scales, sums) = (SharedOutput::new(&mut *rows.scales), SharedOutput::new(&mut *rows.sums));
    team.parallel_for(tokens.div_ceil(TASK_TOKENS), |task| {
        let (mut prepared, mut features) = (vec![0.0; width], vec![0.0; depth]);
        for token in task * TASK_TOKENS..tokens.min((task + 1) * TASK_TOKENS) {
            prepare(token, &mut prepared);
            for group in 0..groups {
                let row = group * tokens + token;
                gather(&prepared, token, group, &mut features);
                // SAFETY: no other task has this token, and the buffers are initialised.
                let (out, scale, sum) =
                    unsafe { (values.slice(row * stride, stride), scales.slice(row, 1), sums.slice(row, 1)) };
                vectorized(
                    #[inline(always)]
                    || (scale[0], sum[0]) = quantize_row(&features, out),
                );
            }
        }
    });
}

/// The scale of `features` and the sum of their quantized values, which are written to the beginning of `out`; the rest of it is zero.
#[inline(always)]
fn quantize_row(features: &[f32], out: &mut [i8]) -> (f32, i32) {
    const LANES: usize = 16;
    let mut largest = [0.0f32; LANES];
    let mut finite = [0.0f32; LANES];
    let (chunks, rest) = features.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let value = chunk[lane];
            largest[lane] = if value.abs() > largest[lane] { value.abs() } else { largest[lane] };
            finite[lane] += value - value;
        }
    }
    for (lane, value) in rest.iter().enumerate() {
        largest[lane] = if value.abs() > largest[lane] { value.abs() } else { largest[lane] };
        finite[lane] += value - value;
    }
    let largest = largest.into_iter().fold(0.0f32, f32::max);
    let finite: f32 = finite.into_iter().sum();
    let quanta = f32::from(crate::int8::MAX);
    let to_quanta = if largest > 0.0 { largest.recip() * quanta } else { 0.0 };
    let (values, padding) = out.split_at_mut(features.len());
    let mut sum = 0i32;
    for (out, value) in values.iter_mut().zip(features) {
        // The low byte of a rounded number from −127 to 127; anything at all if the row has no scale.
        let rounded = (value * to_quanta + ROUNDER).to_bits() as u8 as i8;
        *out = rounded;
        sum += i32::from(rounded);
    }
    padding.fill(0);
    (largest / quanta + finite, sum)
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
