//! Sums of products of int8, by the instructions of the processor at hand.
//!
//! | instructions | products an instruction | |
//! |---|---|---|
//! | AVX-512 VNNI | 64 | `vpdpbusd` takes unsigned by signed: 128 is added to the weights, and 128 times the sum of the features subtracted |
//! | AVX-VNNI | 32 | as above |
//! | AVX2 | 32 in three | `vpmaddubsw` adds pairs in i16, which two products of at most 127 · 127 do not overflow |
//! | others | | plain loops |

mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(super) use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512Vnni, AvxVnni};

/// Rows of weights that [`Isa::dot_rows`] takes.
pub(super) const DOT_ROWS: usize = 4;

/// One set of instructions.
///
/// # Safety
///
/// [`Isa::run`] and everything else may be called only on a processor that has the instructions; the functions that take pointers read
/// as many bytes as they say.
pub(super) unsafe trait Isa: Copy {
    /// A register of sums in i32.
    type Sums: Copy;
    /// Sums of a register.
    const LANES: usize;
    /// Whether there are registers for 24 sums, or for 8.
    const WIDE: bool;
    /// What is added to every weight, in the panels and in [`dot_rows`](Self::dot_rows).
    const OFFSET: u8;

    /// Runs `body`, which must be `inline(always)`, compiled for these instructions.
    unsafe fn run(body: impl FnOnce());

    /// No sums yet.
    unsafe fn zero() -> Self::Sums;

    /// In every lane: `sum + Σ w x` over four weights, offset, and the four features `x`. Reads `4 · LANES` bytes.
    unsafe fn dot(sums: Self::Sums, weights: *const u8, features: i32) -> Self::Sums;

    /// Writes `LANES` sums.
    unsafe fn store(sums: Self::Sums, out: *mut i32);

    /// The sums over `depth` weights, offset, and features, of four rows of weights. Reads `depth` weights of each row, and features up to a
    /// multiple of 64, of which those from `depth` on must be 0.
    unsafe fn dot_rows(weights: [*const i8; DOT_ROWS], features: *const i8, depth: usize) -> [i32; DOT_ROWS];
}

/// Runs `$body` with `$I` bound to the best instructions of this processor.
macro_rules! with_isa {
    ($I:ident => $body:expr) => {{
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use crate::int8::cpu::isa::{Avx2, Avx512Vnni, AvxVnni};
            if Avx512Vnni::is_available() {
                type $I = Avx512Vnni;
                $body
            } else if AvxVnni::is_available() {
                type $I = AvxVnni;
                $body
            } else if Avx2::is_available() {
                type $I = Avx2;
                $body
            } else {
                type $I = crate::int8::cpu::isa::Portable;
                $body
            }
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        {
            type $I = crate::int8::cpu::isa::Portable;
            $body
        }
    }};
}
pub(super) use with_isa;

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from −127 to 127 without a pattern that a wrong lane would keep.
    fn numbers(count: usize, seed: u32) -> Vec<i8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 16) % 255) as i32 - 127
        };
        (0..count).map(|_| next() as i8).collect()
    }

    /// Both products of `I` against sums in i32, for depths around its registers and with the extreme values.
    fn check<I: Isa>() {
        for depth in [1, 3, 4, 31, 32, 63, 64, 65, 130] {
            let rows: Vec<Vec<i8>> = (0..DOT_ROWS as u32).map(|row| numbers(depth, row)).collect();
            let mut features = numbers(depth, 9);
            for (feature, extreme) in features.iter_mut().zip([127, -127, 127, -127]) {
                *feature = extreme;
            }
            let offset = i32::from(I::OFFSET);
            let expected: Vec<i32> = rows
                .iter()
                .map(|row| row.iter().zip(&features).map(|(w, x)| (i32::from(*w) + offset) * i32::from(*x)).sum())
                .collect();
            features.resize(depth.next_multiple_of(64), 0);
            let mut found = [0; DOT_ROWS];
            // SAFETY: the caller checked the instructions; the slices have the lengths that are asked for.
            unsafe {
                I::run(
                    #[inline(always)]
                    || found = I::dot_rows(std::array::from_fn(|row| rows[row].as_ptr()), features.as_ptr(), depth),
                );
            }
            assert_eq!(found.to_vec(), expected, "{depth}");
        }
        let mut weights = numbers(4 * I::LANES, 1);
        weights[..8].copy_from_slice(&[127, 127, 127, 127, -127, -127, -127, -127]);
        let features = [127i8, 127, 127, -127];
        let expected: Vec<i32> = weights
            .chunks_exact(4)
            .map(|w| {
                let product = |(w, x): (&i8, &i8)| (i32::from(*w) + i32::from(I::OFFSET)) * i32::from(*x);
                2 * w.iter().zip(&features).map(product).sum::<i32>()
            })
            .collect();
        let weights: Vec<u8> = weights.iter().map(|w| (*w as u8).wrapping_add(I::OFFSET)).collect();
        let mut found = vec![0; I::LANES];
        // SAFETY: as above.
        unsafe {
            I::run(
                #[inline(always)]
                || {
                    let x = i32::from_le_bytes(features.map(|x| x as u8));
                    let once = I::dot(I::zero(), weights.as_ptr(), x);
                    I::store(I::dot(once, weights.as_ptr(), x), found.as_mut_ptr());
                },
            );
        }
        assert_eq!(found, expected);
    }

    #[test]
    fn every_instruction_set_of_this_processor_is_exact() {
        check::<Portable>();
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            if Avx2::is_available() {
                check::<Avx2>();
            }
            if AvxVnni::is_available() {
                check::<AvxVnni>();
            }
            if Avx512Vnni::is_available() {
                check::<Avx512Vnni>();
            }
        }
    }
}
