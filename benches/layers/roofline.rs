//! The roofline: measured peaks of arithmetic, in large matrix products, and of memory traffic, in large copies and sums.
//!
//! No program reaches the peaks of a data sheet; a fraction of a measured peak says what a better kernel could still gain.

use super::baseline;
use super::candidates::Target;
use super::record::Peak;
use crate::harness::measure::Work;
use burn::tensor::{Distribution, FloatDType, Tensor};
use rayon::prelude::*;
use std::time::Duration;

/// Products double in size until one takes this long.
const LONG_ENOUGH: Duration = Duration::from_millis(100);
const SIZES: [usize; 5] = [512, 1024, 2048, 4096, 8192];
/// Bytes of outputs that may be held at a time.
const OUTPUTS: usize = 2 << 30;
const REPEATS: usize = 5;

/// Measures the peaks of `target`, on arrays of `bytes` each.
pub fn peak(target: &Target, bytes: usize) -> Peak {
    let (flops_per_second, flops_of) = arithmetic(target);
    let (bytes_per_second, bytes_of) = traffic(target, bytes);
    Peak {
        calls: target.effort.calls,
        device: target.name.clone(),
        dtype: target.dtype_name.clone(),
        flops_per_second,
        flops_of,
        bytes_per_second,
        bytes_of: bytes_of.to_string(),
    }
}

fn arithmetic(target: &Target) -> (f64, String) {
    let mut best = (0.0, String::new());
    for size in SIZES {
        let calls = target.effort.calls.min(OUTPUTS / (size * size * target.dtype.size())).max(1);
        let mut products = vec![("Burn".to_string(), burn_product(size, calls, target))];
        if target.is_the_processor() {
            let square = baseline::square(size, target.dtype).into_iter();
            products.extend(square.map(|(name, work)| (name, work.repeated(calls))));
        }
        let mut longest = Duration::ZERO;
        for (name, mut work) in products {
            let time = fastest(&mut work, calls);
            longest = longest.max(time);
            let flops = 2.0 * (size as f64).powi(3) / time.as_secs_f64();
            if flops > best.0 {
                best = (flops, format!("{size}x{size}x{size}, {name}"));
            }
        }
        if longest > LONG_ENOUGH {
            break;
        }
    }
    best
}

fn burn_product<'a>(size: usize, calls: usize, target: &'a Target) -> Work<'a> {
    let draw = || {
        let values = Tensor::<2>::random([size, size], Distribution::Normal(0.0, 1.0), &target.device);
        values.cast(FloatDType::from(target.dtype))
    };
    let (a, b) = (draw(), draw());
    Work::new(move || {
        let c: Vec<_> = (0..calls).map(|_| a.clone().matmul(b.clone())).collect();
        target.device.sync().expect("the device answers");
        drop(std::hint::black_box(c));
    })
}

fn traffic(target: &Target, bytes: usize) -> (f64, &'static str) {
    let mut best = (0.0, "");
    let mut consider = |name, moved: usize, mut work: Work<'_>| {
        let rate = moved as f64 / fastest(&mut work, 1).as_secs_f64();
        if rate > best.0 {
            best = (rate, name);
        }
    };
    // Several copies in a row could be fused into one that reads once, so there is one, long enough to hide the waiting.
    let bytes = if target.is_the_processor() { bytes } else { 8 * bytes };
    let count = bytes / target.dtype.size();
    let x = Tensor::<1>::ones([count], &target.device).cast(FloatDType::from(target.dtype));
    let copy = Work::new(|| {
        let y = x.clone() * 1.0;
        target.device.sync().expect("the device answers");
        drop(std::hint::black_box(y));
    });
    consider("copy by Burn", 2 * bytes, copy);
    if target.is_the_processor() {
        // All threads on parts of their own, as large as the caches of no processor.
        let part = (bytes / 8).div_ceil(rayon::current_num_threads());
        let (from, mut to) = (vec![1u64; bytes / 8], vec![0u64; bytes / 8]);
        let copy = Work::new(|| {
            to.par_chunks_mut(part).zip(from.par_chunks(part)).for_each(|(to, from)| to.copy_from_slice(from));
            std::hint::black_box(&to);
        });
        consider("copy", 2 * bytes, copy);
        let sum = Work::new(|| {
            let sums = from.par_chunks(part).map(|part| part.iter().fold(0u64, |sum, value| sum.wrapping_add(*value)));
            std::hint::black_box(sums.reduce(|| 0, u64::wrapping_add));
        });
        consider("sum", bytes, sum);
    }
    best
}

/// A call of the fastest of a few turns, the first of which warms up: a peak is what is seen at all.
fn fastest(work: &mut Work<'_>, calls: usize) -> Duration {
    work.timed();
    (0..REPEATS).map(|_| work.timed()).min().expect("several repeats") / calls as u32
}
