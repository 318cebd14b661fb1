//! Rows times panels: tile after tile, written where the caller wants them.

use super::pack::prefetch;
use super::tile::tile;
use super::{Landing, SharedOutput, tile_rows, width};
use crate::cpu::{Matrix, Scalar, load, store};
use pulp::Simd;

/// The left operand: `count` rows of `terms` elements, which lie in contiguous runs.
///
/// Term `k` of row `i` is `data[i · row_stride + k / run · run_stride + k % run]`. An ordinary matrix is a single run; the
/// result of one product, left in panels, is several.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a, E> {
    data: &'a [E],
    pub count: usize,
    terms: usize,
    row_stride: usize,
    run: usize,
    run_stride: usize,
}

impl<'a, E: Scalar> Rows<'a, E> {
    /// The rows of a matrix, or `None` unless each is contiguous and follows the one before.
    pub fn of(matrix: Matrix<'a, E>) -> Option<Self> {
        let row_stride = usize::try_from(matrix.row_stride).ok()?;
        if matrix.col_stride != 1 && matrix.cols > 1 {
            return None;
        }
        let data = matrix.onwards();
        Some(Self { data, count: matrix.rows, terms: matrix.cols, row_stride, run: matrix.cols.max(1), run_stride: 0 })
    }

    /// Rows in runs of `run` terms that are `run_stride` apart.
    ///
    /// # Panics
    ///
    /// If they do not lie within `data`, or runs overlap.
    pub fn in_runs(
        data: &'a [E],
        [count, terms]: [usize; 2],
        row_stride: usize,
        run: usize,
        run_stride: usize,
    ) -> Self {
        assert!(run > 0 && (terms <= run || run_stride >= run), "runs one after the other");
        if count > 0 && terms > 0 {
            let last = terms - 1;
            assert!(
                (count - 1) * row_stride + last / run * run_stride + last % run < data.len(),
                "rows within their data"
            );
        }
        Self { data, count, terms, row_stride, run, run_stride }
    }

    /// Rows `start .. start + count`.
    pub fn range(self, start: usize, count: usize) -> Self {
        assert!(start + count <= self.count);
        Self { data: self.data.get(start * self.row_stride..).unwrap_or_default(), count, ..self }
    }

    /// Terms `start .. start + terms` of rows that are a single run.
    pub fn terms(self, start: usize, terms: usize) -> Self {
        assert!(start + terms <= self.terms && self.run >= self.terms);
        Self { data: self.data.get(start..).unwrap_or_default(), terms, ..self }
    }
}

/// `rows · panels` for `cols` columns, into rows of `out` that start at `offset` and lie `stride` apart.
///
/// Meanwhile the rows of `ahead`, which are needed next, are asked for in equal shares, so that memory is at work while the
/// arithmetic is; rows that are not contiguous are not.
///
/// # Safety
///
/// Nothing else may access these elements of `out` meanwhile.
///
/// # Panics
///
/// If the panels, the bias or the output are too short.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn multiply_panels<S: Simd, E: Scalar>(
    simd: S,
    rows: Rows<'_, E>,
    panels: &[E],
    cols: usize,
    out: SharedOutput<'_, E>,
    offset: usize,
    stride: usize,
    landing: Landing<'_, E>,
    ahead: Option<Matrix<'_, E>>,
) {
    if rows.count == 0 || cols == 0 {
        return;
    }
    let width = width::<S, E>();
    assert!(panels.len() >= cols.div_ceil(width) * rows.terms * width, "panels for every column");
    assert!(offset + (rows.count - 1) * stride + cols <= out.len(), "the output holds the product");
    if let Landing::Bias(bias) = landing {
        assert_eq!(bias.len(), cols, "a bias for every column");
    }
    let panels_each = cols.div_ceil(width);
    let parts = rows.count.div_ceil(tile_rows::<S>()) * panels_each;
    let ahead = ahead.filter(|matrix| matrix.col_stride == 1).map(|matrix| Ahead { matrix, parts });
    let mut row = 0;
    macro_rules! groups {
        ($rows:literal) => {
            while rows.count - row >= $rows {
                let here = rows.range(row, $rows);
                // SAFETY: sizes as asserted, exclusive access as the caller says.
                unsafe {
                    let (offset, part) = (offset + row * stride, row / tile_rows::<S>() * panels_each);
                    group::<S, E, $rows>(simd, here, panels, cols, out, offset, stride, landing, ahead, part);
                }
                row += $rows;
            }
        };
    }
    if S::REGISTER_COUNT >= 32 {
        groups!(12);
    }
    groups!(6);
    groups!(4);
    groups!(2);
    groups!(1);
}

/// What is needed next, cut into as many parts as there are tiles.
#[derive(Clone, Copy)]
struct Ahead<'a, E> {
    matrix: Matrix<'a, E>,
    parts: usize,
}

impl<E: Scalar> Ahead<'_, E> {
    #[inline(always)]
    fn fetch(self, part: usize) {
        let rows = self.matrix.rows;
        for row in part * rows / self.parts..((part + 1) * rows / self.parts).min(rows) {
            prefetch(self.matrix.row_slice(row));
        }
    }
}

/// The product of `R` rows, whose values stay in the first-level cache, with one panel after the other.
///
/// # Safety
///
/// As [`multiply_panels`], whose assertions must hold.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn group<S: Simd, E: Scalar, const R: usize>(
    simd: S,
    rows: Rows<'_, E>,
    panels: &[E],
    cols: usize,
    out: SharedOutput<'_, E>,
    offset: usize,
    stride: usize,
    landing: Landing<'_, E>,
    ahead: Option<Ahead<'_, E>>,
    part: usize,
) {
    let (width, lanes) = (width::<S, E>(), E::lanes::<S>());
    for first in (0..cols).step_by(width) {
        if let Some(ahead) = ahead {
            ahead.fetch(part + first / width);
        }
        let here = width.min(cols - first);
        // SAFETY: a panel for every column, as asserted by the caller.
        let panel = unsafe { panels.as_ptr().add(first * rows.terms) };
        if here == width {
            let mut sums = [start::<S, E, 2>(simd, landing, first); R];
            // SAFETY: the rows and the panel are as long as they say.
            unsafe { sum_runs::<S, E, R, 2>(simd, rows, panel, &mut sums) };
            for (i, sums) in sums.iter().enumerate() {
                // SAFETY: within the output, as asserted by the caller, who has exclusive access.
                let out = unsafe { out.slice(offset + i * stride + first, width) };
                for (v, sum) in sums.iter().enumerate() {
                    let out = &mut out[v * lanes..];
                    let sum = match landing {
                        Landing::AddTo => E::fused(simd, E::splat(simd, E::ONE), *sum, load::<S, E>(out)),
                        Landing::Overwrite | Landing::Bias(_) => *sum,
                    };
                    store::<S, E>(out, sum);
                }
            }
        } else {
            let mut sums = [[E::splat(simd, E::ZERO); 2]; R];
            if here <= lanes {
                let mut halves = [[E::splat(simd, E::ZERO)]; R];
                // SAFETY: as above.
                unsafe { sum_runs::<S, E, R, 1>(simd, rows, panel, &mut halves) };
                for (sum, half) in sums.iter_mut().zip(halves) {
                    sum[0] = half[0];
                }
            } else {
                // SAFETY: as above.
                unsafe { sum_runs::<S, E, R, 2>(simd, rows, panel, &mut sums) };
            }
            for (i, sums) in sums.iter().enumerate() {
                // SAFETY: as above.
                let out = unsafe { out.slice(offset + i * stride + first, here) };
                let sums: &[E] = bytemuck::cast_slice(bytemuck::bytes_of(sums));
                for (c, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
                    *out = match landing {
                        Landing::Overwrite => *sum,
                        Landing::AddTo => *out + *sum,
                        Landing::Bias(bias) => *sum + bias[first + c],
                    };
                }
            }
        }
    }
}

/// What the sums of a full panel begin with.
#[inline(always)]
fn start<S: Simd, E: Scalar, const V: usize>(simd: S, landing: Landing<'_, E>, first: usize) -> [E::Vector<S>; V] {
    let mut values = [E::splat(simd, E::ZERO); V];
    if let Landing::Bias(bias) = landing {
        let lanes = E::lanes::<S>();
        for (v, value) in values.iter_mut().enumerate() {
            *value = load::<S, E>(&bias[first + v * lanes..]);
        }
    }
    values
}

/// One tile over all runs of its rows.
///
/// # Safety
///
/// The panel must hold all terms of the rows.
#[inline(always)]
unsafe fn sum_runs<S: Simd, E: Scalar, const R: usize, const V: usize>(
    simd: S,
    rows: Rows<'_, E>,
    panel: *const E,
    sums: &mut [[E::Vector<S>; V]; R],
) {
    let width = width::<S, E>();
    // A copy that the compiler can keep in registers.
    let mut local = *sums;
    let mut term = 0;
    let mut data = rows.data.as_ptr();
    while term < rows.terms {
        let run = rows.run.min(rows.terms - term);
        // SAFETY: rows lie within their data (checked when they are made), the panel as the caller says.
        unsafe {
            tile::<S, E, R, V>(simd, data, rows.row_stride, run, panel.add(term * width), width, &mut local);
        }
        term += run;
        data = data.wrapping_add(rows.run_stride);
    }
    *sums = local;
}
