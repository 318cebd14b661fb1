//! Plain loops, for processors without code of their own.

use super::{DOT_ROWS, Isa};

#[derive(Clone, Copy)]
pub(in crate::int8::cpu) struct Portable;

// SAFETY: any processor runs this; pointers are read as far as the trait says.
unsafe impl Isa for Portable {
    type Sums = [i32; 8];
    const LANES: usize = 8;
    const WIDE: bool = false;
    const OFFSET: u8 = 0;

    #[inline(always)]
    unsafe fn run(body: impl FnOnce()) {
        body();
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        [0; 8]
    }

    #[inline(always)]
    unsafe fn dot(mut sums: Self::Sums, weights: *const u8, features: i32) -> Self::Sums {
        // SAFETY: the caller says that these bytes are there.
        let weights = unsafe { weights.cast::<[[i8; 4]; 8]>().read_unaligned() };
        let features = features.to_le_bytes().map(|x| i32::from(x as i8));
        for (sum, weights) in sums.iter_mut().zip(weights) {
            for (w, x) in weights.into_iter().zip(features) {
                *sum += i32::from(w) * x;
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums, out: *mut i32) {
        // SAFETY: the caller says that there is room.
        unsafe { out.cast::<Self::Sums>().write_unaligned(sums) };
    }

    #[inline(always)]
    unsafe fn dot_rows(weights: [*const i8; DOT_ROWS], features: *const i8, depth: usize) -> [i32; DOT_ROWS] {
        // SAFETY: the caller says that they are there.
        let features = unsafe { std::slice::from_raw_parts(features, depth) };
        weights.map(|row| {
            // SAFETY: as above.
            let row = unsafe { std::slice::from_raw_parts(row, depth) };
            row.iter().zip(features).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum()
        })
    }
}
