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
use super::onwards::{Lines, Onwards};
use crate::blast::Sizes;
use crate::cpu::panel::SharedOutput;
use crate::cpu::{Crew, Matrix, Scalar, Slot, load_at, portions, store_at};
use burn_flex::FlexTensor;
use pulp::Simd;

/// Elements of a factor for one task at least: less is not worth handing out.
const TASK_ELEMENTS: usize = 1 << 15;
/// Tasks of a stage at most, for each thread.
const TASKS_PER_THREAD: usize = 4;
/// Rows read side by side.
const ROWS: usize = 4;
/// Tokens that share what is loaded of a row, if there are so many.
const PAIR: usize = 2;

/// Whether the factors lie as this path reads them: the rank as the contiguous axis.
pub(super) fn reads(u: &FlexTensor, v: &FlexTensor) -> bool {
    [u, v].iter().all(|factor| factor.layout().strides()[2] == 1)
}

/// Writes `y [tokens, m]`, and the projections into `saved [tokens, b2, r]` if wanted; `x` is `[tokens, n]`, row by row.
#[allow(clippy::too_many_arguments)]
pub(super) fn product<E: Scalar>(
    crew: &Crew,
    sizes: Sizes,
    x: &[E],
    u: &FlexTensor,
    s: Couplings<'_, E>,
    v: &FlexTensor,
    bias: Option<&[E]>,
    y: SharedOutput<'_, E>,
    saved: Option<SharedOutput<'_, E>>,
) {
    let Sizes { tokens, b2, q, r, .. } = sizes;
    let len = tokens * b2 * r;
    let (of_v, of_u) = (Runs::of(v), Runs::of(u));
    let threads = rayon::current_num_threads();
    E::with_buffer(Slot::Shared, |buffer| {
        let [z] = portions(buffer, [of_v.cuts * len]);
        let shared = SharedOutput::new(z);
        crew.each(of_v.count, |task| {
            let (j, cut) = of_v.place(task);
            let factor = of_v.get(task).expect("a run of the factor");
            let next = of_v.get(task + threads).or_else(|| of_u.get(task + threads - of_v.count));
            let (x, offset) = (&x[j * q + cut * of_v.rows_of_run..], cut * len + j * r);
            pulp::Arch::new().dispatch(AddRows {
                tokens,
                x,
                x_stride: b2 * q,
                factor,
                next,
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
            // SAFETY: the threads are done with the stage before, and have nothing to do with this.
            unsafe { saved.vacant(0, len) }.write_copy_of_slice(z);
        }

        let z = &*z;
        crew.each(of_u.count, |task| {
            let (block, cut) = of_u.place(task);
            let (first, factor) = (cut * of_u.rows_of_run, of_u.get(task).expect("a run of the factor"));
            let next = of_u.get(task + threads);
            E::with_buffer(Slot::Task, |t| {
                pulp::Arch::new().dispatch(CoupleAndExpand { sizes, z, s, block, factor, first, next, bias, y, t });
            });
        });
    });
}

/// The runs of rows that the blocks of a factor are read in.
#[derive(Clone, Copy)]
struct Runs<'a> {
    factor: &'a FlexTensor,
    /// Rows of a run, the last of a block excepted, …
    rows_of_run: usize,
    /// … and runs of a block.
    cuts: usize,
    count: usize,
}

impl<'a> Runs<'a> {
    fn of(factor: &'a FlexTensor) -> Self {
        let [blocks, rows, r] = factor.layout().shape().dims();
        let tasks = (blocks * rows * r / TASK_ELEMENTS).min(TASKS_PER_THREAD * rayon::current_num_threads());
        let wanted = tasks.div_ceil(blocks).min(rows.div_ceil(ROWS)).max(1);
        let rows_of_run = rows.div_ceil(wanted);
        let cuts = rows.div_ceil(rows_of_run);
        Self { factor, rows_of_run, cuts, count: blocks * cuts }
    }

    /// The block of a run, and its place in the block.
    fn place(self, run: usize) -> (usize, usize) {
        (run / self.cuts, run % self.cuts)
    }

    /// The rows of a run, if there are so many.
    fn get<E: Scalar>(self, run: usize) -> Option<Matrix<'a, E>> {
        let (block, cut) = self.place(run);
        (run < self.count).then(|| {
            let factor = Matrix::of(self.factor, block);
            let first = cut * self.rows_of_run;
            factor.rows(first, self.rows_of_run.min(factor.rows - first))
        })
    }
}

/// `z = Σ_k x[k] · row k` for a run of the rows, for every token.
struct AddRows<'a, E: Scalar> {
    tokens: usize,
    x: &'a [E],
    x_stride: usize,
    factor: Matrix<'a, E>,
    next: Option<Matrix<'a, E>>,
    z: SharedOutput<'a, E>,
    offset: usize,
    stride: usize,
}

impl<E: Scalar> pulp::WithSimd for AddRows<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { tokens, x, x_stride, factor, next, z, offset, stride } = self;
        let (terms, cols) = (factor.rows, factor.cols);
        for token in 0..tokens {
            // SAFETY: no other task has this block in this cut.
            unsafe { z.slice(offset + token * stride, cols) }.fill(E::ZERO);
        }
        let z = |token: usize| {
            // SAFETY: as above, and no two slices of one token live at a time.
            unsafe { z.slice(offset + token * stride, cols) }
        };
        let full = terms - terms % ROWS;
        let mut onwards = Onwards::new(factor, next, tokens);
        for k in (0..full).step_by(ROWS) {
            let rows = std::array::from_fn(|i| factor.row_slice(k + i));
            let x = |token: usize| x[token * x_stride + k..].first_chunk().expect("as many elements as rows");
            let steps = tokens.div_ceil(PAIR) * (cols / E::lanes::<S>());
            let mut ahead = onwards.during(k..k + ROWS, steps);
            let mut token = 0;
            while tokens - token >= PAIR {
                add_rows::<S, E, PAIR>(simd, [x(token), x(token + 1)], rows, [z(token), z(token + 1)], &mut ahead);
                token += PAIR;
            }
            if token < tokens {
                add_rows::<S, E, 1>(simd, [x(token)], rows, [z(token)], &mut ahead);
            }
        }
        for k in full..terms {
            for token in 0..tokens {
                let x = x[token * x_stride + k];
                for (z, value) in z(token).iter_mut().zip(factor.row_slice(k)) {
                    *z = x.mul_add(*value, *z);
                }
            }
        }
    }
}

/// Adds up the rows, scaled by elements of `x`, for `T` tokens, a step of `ahead` for each vector.
#[inline(always)]
fn add_rows<S: Simd, E: Scalar, const T: usize>(
    simd: S,
    x: [&[E; ROWS]; T],
    rows: [&[E]; ROWS],
    mut z: [&mut [E]; T],
    ahead: &mut Lines,
) {
    let (lanes, len) = (E::lanes::<S>(), rows[0].len());
    assert!(rows.iter().all(|row| row.len() == len) && z.iter().all(|z| z.len() == len), "rows of one length");
    let full = len - len % lanes;
    let mut scales = [[E::splat(simd, E::ZERO); ROWS]; T];
    for (scales, x) in scales.iter_mut().zip(x) {
        for (scale, x) in scales.iter_mut().zip(x) {
            *scale = E::splat(simd, *x);
        }
    }
    for c in (0..full).step_by(lanes) {
        ahead.fetch();
        let mut values = [E::splat(simd, E::ZERO); ROWS];
        for (value, row) in values.iter_mut().zip(rows) {
            // SAFETY: `c + lanes` is at most `full`, and that is at most the length of every row, as asserted.
            *value = unsafe { load_at::<S, E>(row.as_ptr().add(c)) };
        }
        for (scales, z) in scales.iter().zip(&mut z) {
            // SAFETY: as above.
            unsafe {
                let mut sum = load_at::<S, E>(z.as_ptr().add(c));
                for (scale, value) in scales.iter().zip(values) {
                    sum = E::fused(simd, *scale, value, sum);
                }
                store_at::<S, E>(z.as_mut_ptr().add(c), sum);
            }
        }
    }
    for (x, z) in x.iter().zip(&mut z) {
        for c in full..len {
            for (x, row) in x.iter().zip(rows) {
                z[c] = x.mul_add(row[c], z[c]);
            }
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
    next: Option<Matrix<'a, E>>,
    bias: Option<&'a [E]>,
    y: SharedOutput<'a, E>,
    t: &'a mut Vec<E>,
}

impl<E: Scalar> pulp::WithSimd for CoupleAndExpand<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { sizes: Sizes { tokens, b1, b2, p, r, .. }, z, s, block, factor, first, next, bias, y, t } = self;
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
        let mut onwards = Onwards::new(factor, next, tokens);
        let mut row = 0;
        while row < factor.rows {
            let rows = ROWS.min(factor.rows - row);
            let mut values = [factor.row_slice(row); ROWS];
            for (i, value) in values[..rows].iter_mut().enumerate() {
                *value = factor.row_slice(row + i);
            }
            let steps = tokens / PAIR * (r / E::lanes::<S>()) + tokens % PAIR * (r / (2 * E::lanes::<S>()));
            let write = |token: usize, sums: [E; ROWS]| {
                // SAFETY: no other task has these columns.
                let y = unsafe { y.vacant(token * b1 * p + column + row, rows) };
                for (i, (y, sum)) in y.iter_mut().zip(sums).enumerate() {
                    y.write(bias.map_or(sum, |bias| sum + bias[column + row + i]));
                }
            };
            let t = |token: usize| &t[token * r..][..r];
            let mut ahead = onwards.during(row..row + rows, steps);
            let mut token = 0;
            while tokens - token >= PAIR {
                let sums = dots::<S, E, PAIR, 1>(simd, [t(token), t(token + 1)], values, &mut ahead);
                sums.into_iter().enumerate().for_each(|(i, sums)| write(token + i, sums));
                token += PAIR;
            }
            if token < tokens {
                let [sums] = dots::<S, E, 1, 2>(simd, [t(token)], values, &mut ahead);
                write(token, sums);
            }
            row += rows;
        }
    }
}

/// `T` rows `t` times each of the rows, `V` vectors at a time, a step of `ahead` for each time.
#[inline(always)]
fn dots<S: Simd, E: Scalar, const T: usize, const V: usize>(
    simd: S,
    t: [&[E]; T],
    rows: [&[E]; ROWS],
    ahead: &mut Lines,
) -> [[E; ROWS]; T] {
    let (lanes, len) = (E::lanes::<S>(), rows[0].len());
    assert!(rows.iter().all(|row| row.len() == len) && t.iter().all(|t| t.len() == len), "rows of one length");
    let full = len - len % (V * lanes);
    // Two sums for every row, of two tokens or of two halves of one, so that an addition need not wait for the one before.
    let mut sums = [[[E::splat(simd, E::ZERO); V]; ROWS]; T];
    for k in (0..full).step_by(V * lanes) {
        ahead.fetch();
        for v in 0..V {
            let k = k + v * lanes;
            let mut factors = [E::splat(simd, E::ZERO); T];
            for (factor, t) in factors.iter_mut().zip(t) {
                // SAFETY: `k + lanes` is at most `full`, and that is at most the length of every row, as asserted.
                *factor = unsafe { load_at::<S, E>(t.as_ptr().add(k)) };
            }
            for (i, row) in rows.iter().enumerate() {
                // SAFETY: as above.
                let value = unsafe { load_at::<S, E>(row.as_ptr().add(k)) };
                for (sums, factor) in sums.iter_mut().zip(factors) {
                    sums[i][v] = E::fused(simd, factor, value, sums[i][v]);
                }
            }
        }
    }
    let mut dots = [[E::ZERO; ROWS]; T];
    for ((dots, sums), t) in dots.iter_mut().zip(sums).zip(t) {
        for ((dot, sums), row) in dots.iter_mut().zip(sums).zip(rows) {
            for sum in sums {
                *dot += E::sum(simd, sum);
            }
            for k in full..len {
                *dot = t[k].mul_add(row[k], *dot);
            }
        }
    }
    dots
}
