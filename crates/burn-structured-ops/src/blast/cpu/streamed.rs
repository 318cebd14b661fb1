//! The product for a handful of tokens: bound by reading the factors, so it reads each once, in the order they lie in.
//!
//! ```text
//! z_j = x_j V_j     rows of V_j, scaled by elements of x_j, added up       tasks: blocks j × runs of rows
//! t_i = Σ_j s_ij ∘ z_j,  y_i = t_i U_iᵀ    rows of U_i times t_i          tasks: blocks i × runs of rows
//! ```
//!
//! Nothing is packed, and the coupling, a small fraction of the work, is repeated by every task that needs it, so there is one
//! meeting point between the threads. There the sums of the runs of a block are added up.

use super::coupling::Couplings;
use crate::blast::Sizes;
use crate::cpu::panel::SharedOutput;
use crate::cpu::{Crew, Matrix, Scalar, Slot, load, portions, store};
use burn_flex::FlexTensor;
use pulp::Simd;

/// Elements of a factor for one task at least: less is not worth handing out.
const TASK_ELEMENTS: usize = 1 << 15;
/// Tasks of a stage at most, for each thread.
const TASKS_PER_THREAD: usize = 4;
/// Rows read side by side.
const ROWS: usize = 4;

/// Whether the factors lie as this path reads them: the rank as the contiguous axis.
pub(super) fn reads(u: &FlexTensor, v: &FlexTensor) -> bool {
    [u, v].iter().all(|factor| factor.layout().strides()[2] == 1)
}

/// `y [tokens, m]`, and the projections into `saved [tokens, b2, r]` if wanted; `x` is `[tokens, n]`, row by row.
#[allow(clippy::too_many_arguments)]
pub(super) fn product<E: Scalar>(
    crew: &Crew,
    sizes: Sizes,
    x: &[E],
    u: &FlexTensor,
    s: Couplings<'_, E>,
    v: &FlexTensor,
    bias: Option<&[E]>,
    y: &mut [E],
    saved: Option<&mut [E]>,
) {
    let Sizes { tokens, b1, b2, p, q, r } = sizes;
    let len = tokens * b2 * r;
    E::with_buffer(Slot::Shared, |buffer| {
        let run = run_length(b2, q, r);
        let cuts = q.div_ceil(run);
        let [z] = portions(buffer, [cuts * len]);
        let shared = SharedOutput::new(z);
        crew.each(b2 * cuts, |task| {
            let (j, cut) = (task / cuts, task % cuts);
            let first = cut * run;
            let factor = Matrix::<E>::of(v, j).rows(first, run.min(q - first));
            let (x, offset) = (&x[j * q + first..], cut * len + j * r);
            pulp::Arch::new().dispatch(AddRows {
                tokens,
                x,
                x_stride: b2 * q,
                factor,
                z: shared,
                offset,
                stride: b2 * r,
            });
        });
        let (z, others) = z.split_at_mut(len);
        for other in others.chunks_exact(len) {
            z.iter_mut().zip(other).for_each(|(z, other)| *z += *other);
        }
        if let Some(saved) = saved {
            saved.copy_from_slice(z);
        }

        let z = &*z;
        let run = run_length(b1, p, r);
        let cuts = p.div_ceil(run);
        let shared = SharedOutput::new(y);
        crew.each(b1 * cuts, |task| {
            let (block, first) = (task / cuts, task % cuts * run);
            let factor = Matrix::<E>::of(u, block).rows(first, run.min(p - first));
            E::with_buffer(Slot::Task, |t| {
                pulp::Arch::new().dispatch(CoupleAndExpand { sizes, z, s, block, factor, first, bias, y: shared, t });
            });
        });
    });
}

/// How many of the `rows` of each of `blocks` factors, `r` wide, a task takes.
fn run_length(blocks: usize, rows: usize, r: usize) -> usize {
    let tasks = (blocks * rows * r / TASK_ELEMENTS).min(TASKS_PER_THREAD * rayon::current_num_threads());
    let cuts = tasks.div_ceil(blocks).min(rows.div_ceil(ROWS)).max(1);
    rows.div_ceil(cuts)
}

/// `z = Σ_k x[k] · row k` for a run of the rows, for every token.
struct AddRows<'a, E: Scalar> {
    tokens: usize,
    x: &'a [E],
    x_stride: usize,
    factor: Matrix<'a, E>,
    z: SharedOutput<'a, E>,
    offset: usize,
    stride: usize,
}

impl<E: Scalar> pulp::WithSimd for AddRows<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tokens, x, x_stride, factor, z, offset, stride } = self;
        let (terms, cols) = (factor.rows, factor.cols);
        for token in 0..tokens {
            // SAFETY: no other task has this block in this cut.
            unsafe { z.slice(offset + token * stride, cols) }.fill(E::ZERO);
        }
        let mut k = 0;
        while k < terms {
            let rows = ROWS.min(terms - k);
            for token in 0..tokens {
                let x = &x[token * x_stride + k..][..rows];
                // SAFETY: as above.
                let z = unsafe { z.slice(offset + token * stride, cols) };
                if rows == ROWS {
                    let values = [
                        factor.row_slice(k),
                        factor.row_slice(k + 1),
                        factor.row_slice(k + 2),
                        factor.row_slice(k + 3),
                    ];
                    add_rows::<S, E>(simd, [x[0], x[1], x[2], x[3]], values, z);
                } else {
                    for (i, x) in x.iter().enumerate() {
                        for (z, value) in z.iter_mut().zip(factor.row_slice(k + i)) {
                            *z = x.mul_add(*value, *z);
                        }
                    }
                }
            }
            k += rows;
        }
    }
}

#[inline(always)]
fn add_rows<S: Simd, E: Scalar>(simd: S, x: [E; ROWS], rows: [&[E]; ROWS], z: &mut [E]) {
    let lanes = E::lanes::<S>();
    let full = z.len() - z.len() % lanes;
    let mut scales = [E::splat(simd, E::ZERO); ROWS];
    for (scale, x) in scales.iter_mut().zip(x) {
        *scale = E::splat(simd, x);
    }
    for c in (0..full).step_by(lanes) {
        let z = &mut z[c..c + lanes];
        let mut sum = load::<S, E>(z);
        for (scale, row) in scales.iter().zip(rows) {
            sum = E::fused(simd, *scale, load::<S, E>(&row[c..]), sum);
        }
        store::<S, E>(z, sum);
    }
    for c in full..z.len() {
        for (x, row) in x.iter().zip(rows) {
            z[c] = x.mul_add(row[c], z[c]);
        }
    }
}

/// `t_i`, and from it a run of the rows of `y_i`, for every token.
struct CoupleAndExpand<'a, E: Scalar> {
    sizes: Sizes,
    z: &'a [E],
    s: Couplings<'a, E>,
    block: usize,
    factor: Matrix<'a, E>,
    first: usize,
    bias: Option<&'a [E]>,
    y: SharedOutput<'a, E>,
    t: &'a mut Vec<E>,
}

impl<E: Scalar> pulp::WithSimd for CoupleAndExpand<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sizes: Sizes { tokens, b1, b2, p, r, .. }, z, s, block, factor, first, bias, y, t } = self;
        if t.len() < tokens * r {
            t.resize(tokens * r, E::ZERO);
        }
        for (token, t) in t[..tokens * r].chunks_exact_mut(r).enumerate() {
            t.fill(E::ZERO);
            for j in 0..b2 {
                let z = &z[(token * b2 + j) * r..][..r];
                for ((t, s), z) in t.iter_mut().zip(s.at(block, j, 0, r)).zip(z) {
                    *t = s.mul_add(*z, *t);
                }
            }
        }
        let column = block * p + first;
        let mut row = 0;
        while row < factor.rows {
            let rows = ROWS.min(factor.rows - row);
            let mut values = [factor.row_slice(row); ROWS];
            for (i, value) in values[..rows].iter_mut().enumerate() {
                *value = factor.row_slice(row + i);
            }
            for (token, t) in t[..tokens * r].chunks_exact(r).enumerate() {
                let sums = dots::<S, E>(simd, t, values);
                // SAFETY: no other task has these columns.
                let y = unsafe { y.slice(token * b1 * p + column + row, rows) };
                y.copy_from_slice(&sums[..rows]);
                if let Some(bias) = bias {
                    for (y, bias) in y.iter_mut().zip(&bias[column + row..]) {
                        *y += *bias;
                    }
                }
            }
            row += rows;
        }
    }
}

/// `t` times each of the rows.
#[inline(always)]
fn dots<S: Simd, E: Scalar>(simd: S, t: &[E], rows: [&[E]; ROWS]) -> [E; ROWS] {
    let lanes = E::lanes::<S>();
    let full = t.len() - t.len() % (2 * lanes);
    let mut sums = [[E::splat(simd, E::ZERO); 2]; ROWS];
    for k in (0..full).step_by(2 * lanes) {
        let values = [load::<S, E>(&t[k..]), load::<S, E>(&t[k + lanes..])];
        for (sums, row) in sums.iter_mut().zip(rows) {
            sums[0] = E::fused(simd, values[0], load::<S, E>(&row[k..]), sums[0]);
            sums[1] = E::fused(simd, values[1], load::<S, E>(&row[k + lanes..]), sums[1]);
        }
    }
    let mut dots = [E::ZERO; ROWS];
    for ((dot, sums), row) in dots.iter_mut().zip(sums).zip(rows) {
        *dot = E::sum(simd, sums[0]) + E::sum(simd, sums[1]);
        for k in full..t.len() {
            *dot = t[k].mul_add(row[k], *dot);
        }
    }
    dots
}
