//! The instructions of x86-64 processors.

use super::{DOT_ROWS, Isa};
use std::arch::x86_64::*;

/// AVX-512 with VNNI: Intel since Ice Lake, AMD since Zen 4.
#[derive(Clone, Copy)]
pub(in crate::int8::cpu) struct Avx512Vnni;

/// VNNI in registers of 256 bits: Intel since Alder Lake.
#[derive(Clone, Copy)]
pub(in crate::int8::cpu) struct AvxVnni;

/// AVX2.
#[derive(Clone, Copy)]
pub(in crate::int8::cpu) struct Avx2;

impl Avx512Vnni {
    pub fn is_available() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("fma")
    }
}

impl AvxVnni {
    pub fn is_available() -> bool {
        is_x86_feature_detected!("avxvnni") && Avx2::is_available()
    }
}

impl Avx2 {
    pub fn is_available() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }
}

// SAFETY: `is_available` tells which processors run this; pointers are read as far as the trait says.
unsafe impl Isa for Avx512Vnni {
    type Sums = __m512i;
    const LANES: usize = 16;
    const WIDE: bool = true;
    const OFFSET: u8 = 128;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,fma")]
    unsafe fn run(body: impl FnOnce()) {
        body();
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        // SAFETY: the caller has the instructions; so below.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn dot(sums: Self::Sums, weights: *const u8, features: i32) -> Self::Sums {
        // SAFETY: the caller says that 64 bytes are there.
        unsafe { _mm512_dpbusd_epi32(sums, _mm512_loadu_si512(weights.cast()), _mm512_set1_epi32(features)) }
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums, out: *mut i32) {
        // SAFETY: the caller says that there is room.
        unsafe { _mm512_storeu_si512(out.cast(), sums) };
    }

    #[inline(always)]
    unsafe fn dot_rows(weights: [*const i8; DOT_ROWS], features: *const i8, depth: usize) -> [i32; DOT_ROWS] {
        // SAFETY: the caller says that `depth` weights of each row are there, and features up to a multiple of 64.
        unsafe {
            let offset = _mm512_set1_epi8(i8::MIN);
            let mut sums = [_mm512_setzero_si512(); DOT_ROWS];
            let mut k = 0;
            while k + 64 <= depth {
                let x = _mm512_loadu_si512(features.add(k).cast());
                for (sum, row) in sums.iter_mut().zip(weights) {
                    let w = _mm512_xor_si512(_mm512_loadu_si512(row.add(k).cast()), offset);
                    *sum = _mm512_dpbusd_epi32(*sum, w, x);
                }
                k += 64;
            }
            if k < depth {
                let (mask, x) = (u64::MAX >> (64 - (depth - k)), _mm512_loadu_si512(features.add(k).cast()));
                for (sum, row) in sums.iter_mut().zip(weights) {
                    let w = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, row.add(k)), offset);
                    *sum = _mm512_dpbusd_epi32(*sum, w, x);
                }
            }
            let halves =
                sums.map(|sum| _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum)));
            sum_lanes(halves)
        }
    }
}

/// `$Type` with `$dpbusd(sums, unsigned, signed)` in registers of 256 bits.
macro_rules! impl_256 {
    ($Type:ident, $features:literal, $offset:literal, $dot:ident) => {
        // SAFETY: `is_available` tells which processors run this; pointers are read as far as the trait says.
        unsafe impl Isa for $Type {
            type Sums = __m256i;
            const LANES: usize = 8;
            const WIDE: bool = false;
            const OFFSET: u8 = $offset;

            #[inline]
            #[target_feature(enable = $features)]
            unsafe fn run(body: impl FnOnce()) {
                body();
            }

            #[inline(always)]
            unsafe fn zero() -> Self::Sums {
                // SAFETY: the caller has the instructions; so below.
                unsafe { _mm256_setzero_si256() }
            }

            #[inline(always)]
            unsafe fn dot(sums: Self::Sums, weights: *const u8, features: i32) -> Self::Sums {
                // SAFETY: the caller says that 32 bytes are there.
                unsafe { $dot(sums, _mm256_loadu_si256(weights.cast()), _mm256_set1_epi32(features)) }
            }

            #[inline(always)]
            unsafe fn store(sums: Self::Sums, out: *mut i32) {
                // SAFETY: the caller says that there is room.
                unsafe { _mm256_storeu_si256(out.cast(), sums) };
            }

            #[inline(always)]
            unsafe fn dot_rows(weights: [*const i8; DOT_ROWS], features: *const i8, depth: usize) -> [i32; DOT_ROWS] {
                // SAFETY: the caller says that `depth` weights of each row are there, and features up to a multiple of 64.
                unsafe {
                    let offset = _mm256_set1_epi8($offset as u8 as i8);
                    let mut sums = [_mm256_setzero_si256(); DOT_ROWS];
                    let mut k = 0;
                    while k + 32 <= depth {
                        let x = _mm256_loadu_si256(features.add(k).cast());
                        for (sum, row) in sums.iter_mut().zip(weights) {
                            let w = _mm256_xor_si256(_mm256_loadu_si256(row.add(k).cast()), offset);
                            *sum = $dot(*sum, w, x);
                        }
                        k += 32;
                    }
                    if k < depth {
                        let x = _mm256_loadu_si256(features.add(k).cast());
                        for (sum, row) in sums.iter_mut().zip(weights) {
                            let mut rest = [0i8; 32];
                            std::ptr::copy_nonoverlapping(row.add(k), rest.as_mut_ptr(), depth - k);
                            let w = _mm256_xor_si256(_mm256_loadu_si256(rest.as_ptr().cast()), offset);
                            *sum = $dot(*sum, w, x);
                        }
                    }
                    sum_lanes(sums)
                }
            }
        }
    };
}

impl_256!(AvxVnni, "avx2,fma,avxvnni", 128, _mm256_dpbusd_avx_epi32);
impl_256!(Avx2, "avx2,fma", 0, dot_signed);

/// `sums + w x` of signed by signed numbers, none of which is −128.
///
/// # Safety
///
/// The processor must have AVX2.
#[inline(always)]
unsafe fn dot_signed(sums: __m256i, w: __m256i, x: __m256i) -> __m256i {
    // SAFETY: as the caller says.
    unsafe {
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
        _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

/// The sum of the lanes of each register.
///
/// # Safety
///
/// The processor must have AVX2.
#[inline(always)]
unsafe fn sum_lanes([a, b, c, d]: [__m256i; 4]) -> [i32; 4] {
    let mut sums = [0; 4];
    // SAFETY: as the caller says; there is room for 16 bytes.
    unsafe {
        let pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
        let total = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256::<1>(pairs));
        _mm_storeu_si128(sums.as_mut_ptr().cast(), total);
    }
    sums
}
