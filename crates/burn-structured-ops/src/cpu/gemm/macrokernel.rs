//! The macro-kernel: rows times packed panels, tile after tile, stored through an epilogue.

use super::blocking::{aliases_in_l1, packing_rows, tile_rows};
use super::microkernel::microkernel;
use super::pack::pack;
use super::prefetch::{PrefetchCursor, prefetch_interval};
use super::{Rows, Target, nr};
use crate::cpu::{Matrix, Scalar};
use pulp::Simd;

/// Stores `rows · panels` to the target.
///
/// # Panics
///
/// If the panels do not hold every column of the target, or the target has fewer rows.
pub(crate) fn gemm_packed<E: Scalar>(rows: Rows<'_, E>, panels: &[E], target: Target<'_, E>) {
    pulp::Arch::new().dispatch(GemmPacked { rows, panels, target });
}

/// Packs `factor [depth, cols]` into `panels` and stores `rows · factor` to the target.
///
/// If the rows of the factor are contiguous, the first tile reads them in place and packs them for the tiles after it ("fused
/// packing"): loads from memory then overlap with arithmetic. The factor of the next product, `next`, is prefetched. Columns of
/// the target beyond the factor's are zero.
///
/// # Panics
///
/// If the panels have another length than the packed target columns, the factor does not fit the rows and the target, or the target
/// has fewer rows.
pub(crate) fn pack_and_gemm<E: Scalar>(
    rows: Rows<'_, E>,
    factor: Matrix<'_, E>,
    panels: &mut [E],
    target: Target<'_, E>,
    next: Option<Matrix<'_, E>>,
) {
    pulp::Arch::new().dispatch(PackAndGemm { rows, factor, panels, target, next });
}

/// [`gemm_packed`] with the instructions of one processor.
struct GemmPacked<'a, E> {
    rows: Rows<'a, E>,
    panels: &'a [E],
    target: Target<'a, E>,
}

impl<E: Scalar> pulp::WithSimd for GemmPacked<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, panels, target } = self;
        row_tiles(simd, rows, panels, target, &mut PrefetchCursor::new::<S>(None, rows, 1, 0));
    }
}

/// [`pack_and_gemm`] with the instructions of one processor.
struct PackAndGemm<'a, E> {
    rows: Rows<'a, E>,
    factor: Matrix<'a, E>,
    panels: &'a mut [E],
    target: Target<'a, E>,
    next: Option<Matrix<'a, E>>,
}

impl<E: Scalar> pulp::WithSimd for PackAndGemm<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { rows, factor, panels, target, next } = self;
        let nr = nr::<S, E>();
        assert!(factor.rows == rows.depth && factor.cols <= target.cols, "sizes of a product");
        assert_eq!(panels.len(), target.cols.div_ceil(nr) * rows.depth * nr, "room for every panel of the product");
        let in_place = factor.col_stride == 1 && factor.row_stride >= 0 && rows.depth > 0;
        let packing = if in_place { packing_rows::<S, E>(rows) } else { 0 };
        let first = rows.range(0, packing);
        let mut cursor = PrefetchCursor::new::<S>(next, rows, tile_rows::<S, E>(rows), target.cols);
        match packing {
            12 => packing_row_tile::<S, E, 12>(simd, first, factor, panels, target, &mut cursor),
            8 => packing_row_tile::<S, E, 8>(simd, first, factor, panels, target, &mut cursor),
            6 => packing_row_tile::<S, E, 6>(simd, first, factor, panels, target, &mut cursor),
            _ => pack::<S, E>(factor, panels),
        }
        let rows = rows.range(packing, rows.count - packing);
        row_tiles(simd, rows, panels, target.rows_from(packing), &mut cursor);
    }
}

/// `rows · panels`, tile after tile.
#[inline(always)]
fn row_tiles<S: Simd, E: Scalar>(
    simd: S,
    rows: Rows<'_, E>,
    panels: &[E],
    target: Target<'_, E>,
    cursor: &mut PrefetchCursor<E>,
) {
    assert!(panels.len() >= target.cols.div_ceil(nr::<S, E>()) * rows.depth * nr::<S, E>(), "panels for every column");
    let mut row = 0;
    macro_rules! tiles {
        ($rows:literal) => {
            // Two tiles of 8, or of 8 and 6, instead of one of 12 and one too small to fill the arithmetic units.
            while rows.count - row >= $rows && ($rows < 12 || !matches!(rows.count - row, 14 | 16)) {
                row_tile::<S, E, $rows>(simd, rows.range(row, $rows), panels, target.rows_from(row), cursor);
                row += $rows;
            }
        };
    }
    if S::REGISTER_COUNT >= 32 {
        if !aliases_in_l1(rows) {
            tiles!(12);
        }
        tiles!(8);
    }
    tiles!(6);
    tiles!(4);
    tiles!(2);
    tiles!(1);
}

/// `R` rows, which stay in the L1 cache, times one panel after the other.
#[inline(always)]
fn row_tile<S: Simd, E: Scalar, const R: usize>(
    simd: S,
    rows: Rows<'_, E>,
    panels: &[E],
    target: Target<'_, E>,
    cursor: &mut PrefetchCursor<E>,
) {
    let nr = nr::<S, E>();
    for first in (0..target.cols).step_by(nr) {
        let target = target.cols(first, nr.min(target.cols - first));
        packed_tile::<S, E, R>(simd, rows, &panels[first * rows.depth..], target, cursor);
    }
}

/// The first [`row_tile`] of a factor, which it packs.
#[inline(always)]
fn packing_row_tile<S: Simd, E: Scalar, const R: usize>(
    simd: S,
    rows: Rows<'_, E>,
    factor: Matrix<'_, E>,
    panels: &mut [E],
    target: Target<'_, E>,
    cursor: &mut PrefetchCursor<E>,
) {
    let (nr, lanes) = (nr::<S, E>(), E::lanes::<S>());
    for (index, panel) in panels.chunks_exact_mut(rows.depth * nr).enumerate() {
        let first = index * nr;
        let target = target.cols(first, nr.min(target.cols - first));
        let columns = factor.cols(first.min(factor.cols), nr.min(factor.cols.saturating_sub(first)));
        let source = Panel { data: columns.storage_from_first(), stride: columns.row_stride as usize };
        if columns.cols == nr {
            target.store_tile(simd, k_loop::<S, E, R, 2, true>(simd, rows, source, panel, cursor));
        } else if columns.cols == lanes && target.cols == lanes {
            target.store_tile(simd, k_loop::<S, E, R, 1, true>(simd, rows, source, panel, cursor));
            panel.chunks_exact_mut(nr).for_each(|depth| depth[lanes..].fill(E::ZERO));
        } else {
            pack::<S, E>(columns, panel);
            packed_tile::<S, E, R>(simd, rows, panel, target, cursor);
        }
    }
}

/// `R` rows times the first columns of one packed panel, as many as the target has.
#[inline(always)]
fn packed_tile<S: Simd, E: Scalar, const R: usize>(
    simd: S,
    rows: Rows<'_, E>,
    panel: &[E],
    target: Target<'_, E>,
    cursor: &mut PrefetchCursor<E>,
) {
    let (nr, lanes) = (nr::<S, E>(), E::lanes::<S>());
    let source = Panel { data: panel, stride: nr };
    match target.cols {
        cols if cols == nr => target.store_tile(simd, k_loop::<S, E, R, 2, false>(simd, rows, source, &mut [], cursor)),
        cols if cols == lanes => {
            target.store_tile(simd, k_loop::<S, E, R, 1, false>(simd, rows, source, &mut [], cursor))
        }
        cols if cols < lanes => {
            let sums = k_loop::<S, E, R, 1, false>(simd, rows, source, &mut [], cursor);
            store_partial::<E, _, R>(target, &sums);
        }
        _ => {
            let sums = k_loop::<S, E, R, 2, false>(simd, rows, source, &mut [], cursor);
            store_partial::<E, _, R>(target, &sums);
        }
    }
}

/// Stores the first columns of `R` rows of sums.
#[inline(always)]
fn store_partial<E: Scalar, T: bytemuck::Pod, const R: usize>(target: Target<'_, E>, sums: &[T; R]) {
    for (i, sums) in sums.iter().enumerate() {
        let sums: &[E] = bytemuck::cast_slice(bytemuck::bytes_of(sums));
        target.store_partial_tile(i, &sums[..target.cols]);
    }
}

/// Columns of a factor, packed or in place: those of depth `k` begin at `data[k · stride]`.
#[derive(Clone, Copy)]
struct Panel<'a, E> {
    data: &'a [E],
    stride: usize,
}

/// The sums of `R` rows times the first `V` vectors of a panel over the whole depth; packs the panel if `PACK`.
///
/// # Panics
///
/// If there are fewer rows, or the panel or the packed one is too short.
#[inline(always)]
fn k_loop<S: Simd, E: Scalar, const R: usize, const V: usize, const PACK: bool>(
    simd: S,
    rows: Rows<'_, E>,
    panel: Panel<'_, E>,
    packed: &mut [E],
    cursor: &mut PrefetchCursor<E>,
) -> [[E::Vector<S>; V]; R] {
    let nr = nr::<S, E>();
    let Panel { data, stride } = panel;
    let needed = rows.depth.checked_sub(1).map_or(0, |last| last * stride + V * E::lanes::<S>());
    assert!(rows.count >= R && data.len() >= needed, "operands of a tile");
    assert!(!PACK || packed.len() >= rows.depth * nr, "room for a packed panel");
    let mut sums = [[E::splat(simd, E::ZERO); V]; R];
    for (run_first, run, run_depth) in rows.runs() {
        let interval = if cursor.is_empty() { run_depth } else { prefetch_interval::<S>() };
        // A copy that the compiler keeps in registers.
        let mut local = sums;
        let mut start = 0;
        while start < run_depth {
            cursor.step();
            let (first, depth) = (run_first + start, interval.min(run_depth - start));
            // SAFETY: rows lie within their data by construction; the panel and the packed one are as long as asserted.
            unsafe {
                let (run, panel) = (run.add(start), data.as_ptr().add(first * stride));
                let packed = packed.as_mut_ptr().wrapping_add(first * nr);
                microkernel::<S, E, R, V, PACK>(simd, run, rows.row_stride, depth, panel, stride, packed, &mut local);
            }
            start += depth;
        }
        sums = local;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::SharedOutput;
    use crate::cpu::gemm::Epilogue;
    use crate::cpu::gemm::blocking::L1_SET_STRIDE;
    use crate::cpu::runtime::on_every_instruction_set;

    /// A product onto what was there before, packed separately or fused; returns the panels and the output.
    #[derive(Clone, Copy)]
    struct Product<'a, E: Scalar> {
        x: Matrix<'a, E>,
        factor: Matrix<'a, E>,
        epilogue: Epilogue<'a, E>,
        fused: bool,
        before: &'a [E],
    }

    impl<E: Scalar> pulp::WithSimd for Product<'_, E> {
        type Output = [Vec<E>; 2];

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> [Vec<E>; 2] {
            let Self { x, factor, epilogue, fused, before } = self;
            let mut y = before.to_vec();
            let mut panels = vec![E::NAN; factor.cols.div_ceil(nr::<S, E>()) * factor.rows * nr::<S, E>()];
            // SAFETY: the output is this test's alone, and initialised.
            let target =
                unsafe { Target::new(SharedOutput::new(&mut y), 2, [x.rows, factor.cols], factor.cols + 3, epilogue) };
            let rows = Rows::of(x).expect("contiguous rows");
            if fused {
                PackAndGemm { rows, factor, panels: &mut panels, target, next: Some(factor) }.with_simd(simd);
            } else {
                pack::<S, E>(factor, &mut panels);
                GemmPacked { rows, panels: &panels, target }.with_simd(simd);
            }
            [panels, y]
        }
    }

    /// Rows, depth and columns: register tiles of every height, packed and not, and panels that are not full.
    #[cfg(not(miri))]
    const SIZES: [[usize; 3]; 15] = [
        [7, 0, 9],
        [14, 3, 5],
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
        [1, 3, 5],
    ];
    /// The same of the portable tile of 6 × 2, the only one that Miri runs.
    #[cfg(miri)]
    const SIZES: [[usize; 3]; 3] = [[7, 0, 3], [11, 2, 3], [3, 3, 2]];

    fn check<E: Scalar + PartialEq + std::fmt::Debug>(number: impl Fn(usize) -> E) {
        let values: Vec<E> = (0..if cfg!(miri) { 1 << 9 } else { 1 << 15 }).map(number).collect();
        for [count, depth, cols] in SIZES {
            let contiguous = Matrix::row_major(&values[7..], count, depth, depth + 1);
            let aliasing = Matrix::row_major(&values[7..], count, depth, L1_SET_STRIDE / size_of::<E>());
            let by_row = Matrix::row_major(&values, depth, cols, cols + 2);
            let by_column = Matrix::row_major(&values, cols, depth, depth + 1).transposed();
            let factors = [by_row, by_column, by_row.cols(0, 1.min(cols))];
            for (x, factor) in factors.into_iter().flat_map(|factor| [(contiguous, factor), (aliasing, factor)]) {
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
                        expected[at] = (0..depth).fold(start, |sum, k| x.at(row, k).mul_add(factor.at(k, col), sum));
                    }
                    let [fused, separate] = [true, false]
                        .map(|fused| on_every_instruction_set(Product { x, factor, epilogue, fused, before }));
                    for (processor, ([packed, y], [packed_before, y_of_packed])) in
                        fused.iter().zip(&separate).enumerate()
                    {
                        let case = format!(
                            "{count} × {depth} × {}, stride {}, epilogue {of}, instruction set {processor}",
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
    fn fused_packing_gives_the_same_product_and_panels() {
        check(|at| f32::from(number(at)));
        check(|at| f64::from(number(at)));
    }
}
