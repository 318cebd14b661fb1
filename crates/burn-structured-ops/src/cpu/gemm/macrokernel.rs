//! Rows times panels: tile after tile, written where the caller wants them.

use super::blocking::{aliases_in_l1, packing_tile_of, prefetch_interval, prefetch_steps};
use super::microkernel::{PackDestination, Terms, microkernel};
use super::pack::pack;
use super::prefetch::{ExtraPrefetch, PrefetchCursor, PrefetchSchedule};
use super::{Rows, Target, nr};
use crate::cpu::{Matrix, Scalar};
use pulp::Simd;

/// `rows · panels` for `cols` columns.
///
/// Meanwhile what is `ahead`, which is needed next, is asked for in equal shares, so that memory is at work while the arithmetic
/// is, and so is what is `beside`. A matrix of which neither rows nor columns are contiguous is not asked for.
///
/// # Safety
///
/// Nothing else may access these elements of the target meanwhile. What is added to must have been written.
///
/// # Panics
///
/// If the panels, the bias or the target are too short.
#[inline(always)]
pub(crate) unsafe fn multiply_panels<S: Simd, E: Scalar>(
    simd: S,
    rows: Rows<'_, E>,
    panels: &[E],
    cols: usize,
    target: Target<'_, E>,
    ahead: Option<Matrix<'_, E>>,
    beside: &mut ExtraPrefetch<E>,
) {
    if rows.count == 0 || cols == 0 {
        return;
    }
    let nr = nr::<S, E>();
    assert!(panels.len() >= cols.div_ceil(nr) * rows.terms * nr, "panels for every column");
    target.check(rows.count, cols);
    let mut needed = PrefetchSchedule::new(ahead, prefetch_steps::<S, E>(rows, cols), beside);
    // SAFETY: sizes as asserted, exclusive access as the caller says.
    unsafe { tiles(simd, rows, panels, cols, target, &mut needed) };
}

/// [`pack`] and [`multiply_panels`] in one: packs `factor` into `panels`, and multiplies rows by it.
///
/// The first tile of rows meets the factor where it lies, if its rows are contiguous, and leaves it in panels for the tiles after
/// it: waiting for memory and copying then happen beside arithmetic, and not before it.
///
/// # Safety
///
/// As [`multiply_panels`].
///
/// # Panics
///
/// If the panels have another length than the packed factor, the factor has more columns than are asked for, or the bias or the
/// target are too short.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn pack_and_multiply<S: Simd, E: Scalar>(
    simd: S,
    rows: Rows<'_, E>,
    factor: Matrix<'_, E>,
    panels: &mut [E],
    cols: usize,
    target: Target<'_, E>,
    ahead: Option<Matrix<'_, E>>,
    beside: &mut ExtraPrefetch<E>,
) {
    let nr = nr::<S, E>();
    assert!(factor.rows == rows.terms && factor.cols <= cols, "sizes of a product");
    assert_eq!(panels.len(), cols.div_ceil(nr) * rows.terms * nr, "room for every panel of the product");
    target.check(rows.count, cols);
    let in_place = factor.col_stride == 1 && factor.row_stride >= 0 && rows.terms > 0;
    let packing = rows.range(0, if in_place { packing_tile_of::<S, E>(rows) } else { 0 });
    let others = rows.range(packing.count, rows.count - packing.count);
    let mut needed = PrefetchSchedule::new(ahead, prefetch_steps::<S, E>(rows, cols), beside);
    // SAFETY: sizes as asserted, exclusive access as the caller says.
    unsafe {
        match packing.count {
            0 => pack::<S, E>(factor, panels),
            12 => packing_group::<S, E, 12>(simd, packing, factor, panels, cols, target, &mut needed),
            8 => packing_group::<S, E, 8>(simd, packing, factor, panels, cols, target, &mut needed),
            _ => packing_group::<S, E, 6>(simd, packing, factor, panels, cols, target, &mut needed),
        }
        tiles(simd, others, panels, cols, target.rows_from(packing.count), &mut needed);
    }
}

/// Rows by columns, tile after tile.
///
/// # Safety
///
/// As [`multiply_panels`], whose assertions must hold.
#[inline(always)]
unsafe fn tiles<S: Simd, E: Scalar>(
    simd: S,
    rows: Rows<'_, E>,
    panels: &[E],
    cols: usize,
    target: Target<'_, E>,
    needed: &mut PrefetchSchedule<'_, E>,
) {
    let mut row = 0;
    macro_rules! groups {
        ($rows:literal) => {
            while rows.count - row >= $rows {
                let (here, target) = (rows.range(row, $rows), target.rows_from(row));
                row += $rows;
                let next = rows.range(row, $rows.min(rows.count - row));
                needed.rows = PrefetchCursor::in_panels(next).in_steps(prefetch_steps::<S, E>(here, cols));
                // SAFETY: as the caller says.
                unsafe { group::<S, E, $rows>(simd, here, panels, cols, target, needed) };
            }
        };
    }
    if S::REGISTER_COUNT >= 32 {
        if !aliases_in_l1(rows) {
            groups!(12);
        }
        groups!(8);
    }
    groups!(6);
    groups!(4);
    groups!(2);
    groups!(1);
}

/// The product of `R` rows, whose values stay in the first-level cache, with one panel after the other.
///
/// # Safety
///
/// As [`multiply_panels`], whose assertions must hold.
#[inline(always)]
unsafe fn group<S: Simd, E: Scalar, const R: usize>(
    simd: S,
    rows: Rows<'_, E>,
    panels: &[E],
    cols: usize,
    target: Target<'_, E>,
    needed: &mut PrefetchSchedule<'_, E>,
) {
    let nr = nr::<S, E>();
    for first in (0..cols).step_by(nr) {
        // SAFETY: a panel for every column, the rest as the caller says.
        unsafe {
            let panel = panels.as_ptr().add(first * rows.terms);
            packed_panel::<S, E, R>(simd, rows, panel, nr.min(cols - first), target.cols_from(first), needed);
        }
    }
}

/// The first [`group`] of a factor that is packed on the way.
///
/// # Safety
///
/// As [`pack_and_multiply`], whose assertions must hold.
#[inline(always)]
unsafe fn packing_group<S: Simd, E: Scalar, const R: usize>(
    simd: S,
    rows: Rows<'_, E>,
    factor: Matrix<'_, E>,
    panels: &mut [E],
    cols: usize,
    target: Target<'_, E>,
    needed: &mut PrefetchSchedule<'_, E>,
) {
    let (nr, lanes) = (nr::<S, E>(), E::lanes::<S>());
    for (index, panel) in panels.chunks_exact_mut(rows.terms * nr).enumerate() {
        let first = index * nr;
        let (strip, target) = (factor.cols(first, nr.min(factor.cols - first)), target.cols_from(first));
        let cols = nr.min(cols - first);
        let source = Terms { start: strip.onwards().as_ptr(), stride: strip.row_stride as usize };
        let packed_to = PackDestination(panel.as_mut_ptr());
        if strip.cols == nr {
            // SAFETY: the strip has the rows' terms and a panel's columns, the panel room for them.
            unsafe { full_tile::<S, E, R, 2, true>(simd, rows, source, packed_to, target, needed) };
        } else if strip.cols == lanes && cols == lanes {
            // SAFETY: as above, for half of a panel.
            unsafe { full_tile::<S, E, R, 1, true>(simd, rows, source, packed_to, target, needed) };
            panel.chunks_exact_mut(nr).for_each(|term| term[lanes..].fill(E::ZERO));
        } else {
            pack::<S, E>(strip, panel);
            // SAFETY: the panel is packed, the rest as the caller says.
            unsafe { packed_panel::<S, E, R>(simd, rows, panel.as_ptr(), cols, target, needed) };
        }
    }
}

/// The product of `R` rows with `cols` columns of one panel.
///
/// # Safety
///
/// The panel must hold all terms of the rows, and the target the product, to which access must be exclusive. What is added to must
/// have been written.
#[inline(always)]
unsafe fn packed_panel<S: Simd, E: Scalar, const R: usize>(
    simd: S,
    rows: Rows<'_, E>,
    panel: *const E,
    cols: usize,
    target: Target<'_, E>,
    needed: &mut PrefetchSchedule<'_, E>,
) {
    let (nr, lanes) = (nr::<S, E>(), E::lanes::<S>());
    let (source, packed_to) = (Terms { start: panel, stride: nr }, PackDestination::none());
    if cols == nr {
        // SAFETY: as the caller says.
        return unsafe { full_tile::<S, E, R, 2, false>(simd, rows, source, packed_to, target, needed) };
    }
    if cols == lanes {
        // SAFETY: as the caller says.
        return unsafe { full_tile::<S, E, R, 1, false>(simd, rows, source, packed_to, target, needed) };
    }
    let mut sums = [[E::splat(simd, E::ZERO); 2]; R];
    if cols < lanes {
        let mut halves = [[E::splat(simd, E::ZERO)]; R];
        // SAFETY: as the caller says.
        unsafe { k_loop::<S, E, R, 1, false>(simd, rows, source, packed_to, &mut halves, needed) };
        for (sum, half) in sums.iter_mut().zip(halves) {
            sum[0] = half[0];
        }
    } else {
        // SAFETY: as the caller says.
        unsafe { k_loop::<S, E, R, 2, false>(simd, rows, source, packed_to, &mut sums, needed) };
    }
    for (i, sums) in sums.iter().enumerate() {
        let sums: &[E] = &bytemuck::cast_slice(bytemuck::bytes_of(sums))[..cols];
        // SAFETY: as the caller says.
        unsafe { target.store_partial_tile(i, sums) };
    }
}

/// The product of `R` rows with the first `V` vectors of a panel, all of which are wanted.
///
/// # Safety
///
/// As [`packed_panel`] and [`k_loop`].
#[inline(always)]
unsafe fn full_tile<S: Simd, E: Scalar, const R: usize, const V: usize, const COPY: bool>(
    simd: S,
    rows: Rows<'_, E>,
    source: Terms<E>,
    packed_to: PackDestination<E>,
    target: Target<'_, E>,
    needed: &mut PrefetchSchedule<'_, E>,
) {
    let mut sums = [[E::splat(simd, E::ZERO); V]; R];
    // SAFETY: as the caller says.
    unsafe {
        k_loop::<S, E, R, V, COPY>(simd, rows, source, packed_to, &mut sums, needed);
        target.store_tile(simd, sums);
    }
}

/// One tile over all runs of its rows, pausing to ask for what comes next.
///
/// # Safety
///
/// All terms of the rows must be readable at `source`, as [`tile`] reads them, and writable at `packed_to` if `COPY`.
#[inline(always)]
unsafe fn k_loop<S: Simd, E: Scalar, const R: usize, const V: usize, const COPY: bool>(
    simd: S,
    rows: Rows<'_, E>,
    source: Terms<E>,
    packed_to: PackDestination<E>,
    sums: &mut [[E::Vector<S>; V]; R],
    needed: &mut PrefetchSchedule<'_, E>,
) {
    // A copy that the compiler can keep in registers.
    let mut local = *sums;
    let mut term = 0;
    let mut run_data = rows.data.as_ptr();
    while term < rows.terms {
        let run = rows.run.min(rows.terms - term);
        let step = if needed.is_empty() { run } else { prefetch_interval::<S>() };
        let mut data = run_data;
        for first in (0..run).step_by(step) {
            needed.fetch();
            let here = step.min(run - first);
            let packed_to = packed_to.from::<S>(term + first);
            // SAFETY: rows lie within their data (checked when they are made), the rest as the caller says.
            unsafe {
                let source = source.from(term + first);
                microkernel::<S, E, R, V, COPY>(simd, data, rows.row_stride, here, source, packed_to, &mut local);
            }
            data = data.wrapping_add(here);
        }
        term += run;
        run_data = run_data.wrapping_add(rows.run_stride);
    }
    *sums = local;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::gemm::blocking::L1_SET_STRIDE;
    use crate::cpu::gemm::{Epilogue, SharedOutput};
    use crate::cpu::runtime::on_every_processor;

    /// A product of either kind, onto what was there before; the panels that it leaves come with it.
    #[derive(Clone, Copy)]
    struct Product<'a, E: Scalar> {
        x: Matrix<'a, E>,
        factor: Matrix<'a, E>,
        epilogue: Epilogue<'a, E>,
        on_the_way: bool,
        before: &'a [E],
    }

    impl<E: Scalar> pulp::WithSimd for Product<'_, E> {
        type Output = [Vec<E>; 2];

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> [Vec<E>; 2] {
            let Self { x, factor, epilogue, on_the_way, before } = self;
            let mut y = before.to_vec();
            let mut panels = vec![E::NAN; factor.cols.div_ceil(nr::<S, E>()) * factor.rows * nr::<S, E>()];
            let target = Target { out: SharedOutput::new(&mut y), offset: 2, stride: factor.cols + 3, epilogue };
            let (rows, ahead) = (Rows::of(x).expect("contiguous rows"), Some(factor));
            // A line or a few for each pause.
            let read = PrefetchCursor::new(Some(x.rows(0, x.rows.min(1))));
            let beside = &mut ExtraPrefetch { read, write: PrefetchCursor::default() }
                .in_steps(prefetch_steps::<S, E>(rows, factor.cols));
            // SAFETY: the output is this test's alone.
            unsafe {
                if on_the_way {
                    pack_and_multiply(simd, rows, factor, &mut panels, factor.cols, target, ahead, beside);
                } else {
                    pack::<S, E>(factor, &mut panels);
                    multiply_panels(simd, rows, &panels, factor.cols, target, ahead, beside);
                }
            }
            assert!(beside.read.is_empty() || !cfg!(target_arch = "x86_64"), "as many pauses as were counted");
            [panels, y]
        }
    }

    fn check<E: Scalar + PartialEq + std::fmt::Debug>(number: impl Fn(usize) -> E) {
        let values: Vec<E> = (0..1 << 15).map(number).collect();
        for [count, terms, cols] in [
            [1, 3, 5],
            [5, 40, 16],
            [14, 50, 48],
            [30, 9, 40],
            [6, 7, 33],
            [12, 33, 8],
            [13, 64, 40],
            [29, 100, 17],
            [8, 20, 40],
            [9, 34, 33],
            [11, 70, 64],
            [20, 17, 32],
            [0, 4, 4],
            [7, 0, 9],
        ] {
            let near = Matrix::row_major(&values[7..], count, terms, terms + 1);
            let competing = Matrix::row_major(&values[7..], count, terms, L1_SET_STRIDE / size_of::<E>());
            let by_row = Matrix::row_major(&values, terms, cols, cols + 2);
            let by_column = Matrix::row_major(&values, cols, terms, terms + 1).transposed();
            let factors = [by_row, by_column, by_row.cols(0, 1.min(cols))];
            for (x, factor) in factors.into_iter().flat_map(|factor| [(near, factor), (competing, factor)]) {
                let bias = &values[3..3 + factor.cols];
                for (of, epilogue) in
                    [Epilogue::Store, Epilogue::Accumulate, Epilogue::Bias(bias)].into_iter().enumerate()
                {
                    let before = &values[11..][..2 + count * (cols + 3)];
                    let mut expected = before.to_vec();
                    for (row, col) in (0..count).flat_map(|row| (0..factor.cols).map(move |col| (row, col))) {
                        let at = 2 + row * (factor.cols + 3) + col;
                        let start = match epilogue {
                            Epilogue::Store => E::ZERO,
                            Epilogue::Accumulate => before[at],
                            Epilogue::Bias(bias) => bias[col],
                        };
                        expected[at] = (0..terms).fold(start, |sum, k| x.at(row, k).mul_add(factor.at(k, col), sum));
                    }
                    let [ways, others] = [true, false]
                        .map(|on_the_way| on_every_processor(Product { x, factor, epilogue, on_the_way, before }));
                    for (processor, ([packed, y], [packed_before, y_of_packed])) in ways.iter().zip(&others).enumerate()
                    {
                        let case = format!(
                            "{count} × {terms} × {}, stride {}, epilogue {of}, processor {processor}",
                            factor.cols, x.row_stride
                        );
                        assert_eq!(packed, packed_before, "{case}");
                        assert_eq!(y, &expected, "{case}");
                        assert_eq!(y_of_packed, &expected, "{case}");
                    }
                }
            }
        }
    }

    /// Whole numbers, so that no order of summation rounds.
    fn number(at: usize) -> i8 {
        (at * 7 % 19) as i8 - 9
    }

    #[test]
    fn packing_on_the_way_gives_the_same_product_and_the_same_panels() {
        check(|at| f32::from(number(at)));
        check(|at| f64::from(number(at)));
    }
}
