//! The coupling `t_i = Σ_j s_ij ∘ z_j` and its gradient, one panel of the rank at a time.
//!
//! Sums over `j` (or over tokens) stay in registers, for several tokens and blocks at a time, so that a loaded value serves several of
//! them.

use super::layout::{PanelRows, PanelTarget};
use crate::cpu::{Matrix, Scalar, gemm, load, load_at, store};
use burn_flex::FlexTensor;
use pulp::Simd;

/// Tokens that share a load of `s`.
const TOKENS: usize = 4;

/// The couplings `s [b1, b2, r]`, or those of the transposed matrix.
#[derive(Clone, Copy)]
pub(super) struct Couplings<'a, E> {
    /// With a contiguous last axis.
    values: &'a [E],
    /// Distance between `s_ij` and `s_(i+1)j`.
    output_stride: usize,
    /// Distance between `s_ij` and `s_i(j+1)`.
    input_stride: usize,
}

impl<'a, E: Scalar> Couplings<'a, E> {
    /// `s` itself where [`of`](Self::of) can read it, a copy elsewhere.
    pub fn readable(s: FlexTensor) -> FlexTensor {
        let strides = s.layout().strides();
        if strides[2] == 1 && strides.iter().all(|stride| *stride >= 0) { s } else { s.to_contiguous() }
    }

    /// The couplings in a [readable](Self::readable) tensor.
    pub fn of(s: &'a FlexTensor) -> Self {
        let strides = s.layout().strides();
        Self {
            values: &s.storage::<E>()[s.layout().start_offset()..],
            output_stride: strides[0] as usize,
            input_stride: strides[1] as usize,
        }
    }

    /// Those of the transposed matrix.
    pub fn transposed(self) -> Self {
        Self { output_stride: self.input_stride, input_stride: self.output_stride, ..self }
    }

    /// Components `first .. first + cols` of the rank, packed as `[panel][i][j][NR]`, zero beyond the last component.
    pub fn pack(&self, [b1, b2]: [usize; 2], first: usize, cols: usize, nr: usize, packed: &mut [E]) {
        for (panel, packed) in packed.chunks_exact_mut(b1 * b2 * nr).enumerate() {
            let here = nr.min(cols - panel * nr);
            for (block, packed) in packed.chunks_exact_mut(nr).enumerate() {
                let (packed, padding) = packed.split_at_mut(here);
                packed.copy_from_slice(self.at(block / b2, block % b2, first + panel * nr, here));
                padding.fill(E::ZERO);
            }
        }
    }

    /// Components `k .. k + len` of `s_ij`.
    #[inline(always)]
    pub fn at(&self, i: usize, j: usize, k: usize, len: usize) -> &'a [E] {
        &self.values[i * self.output_stride + j * self.input_stride + k..][..len]
    }
}

/// Copies rows of `cols` contiguous elements to rows of `stride`, zero beyond the last column.
pub(super) fn pack_rows<E: Scalar>(rows: Matrix<'_, E>, stride: usize, packed: &mut [E]) {
    for (row, packed) in packed.chunks_exact_mut(stride).take(rows.rows).enumerate() {
        let (packed, padding) = packed.split_at_mut(rows.cols);
        packed.copy_from_slice(rows.row_slice(row));
        padding.fill(E::ZERO);
    }
}

/// Couples one panel of the rank: `t_i = Σ_j s_ij ∘ z_j` for every token and `i`; `couplings` is `[b1, b2, NR]`.
///
/// # Panics
///
/// If `z` and `t` have other numbers of tokens, or there are fewer couplings.
pub(super) fn couple_panel<E: Scalar>(z: PanelRows<'_, E>, couplings: &[E], t: PanelTarget<'_, E>) {
    pulp::Arch::new().dispatch(CouplePanel { z, couplings, t });
}

/// [`couple_panel`] with the instructions of one processor.
struct CouplePanel<'a, E> {
    z: PanelRows<'a, E>,
    couplings: &'a [E],
    t: PanelTarget<'a, E>,
}

impl<E: Scalar> pulp::WithSimd for CouplePanel<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { z, couplings, t } = self;
        assert_eq!(z.tokens, t.tokens, "the same tokens");
        assert!(t.blocks * z.blocks * gemm::nr::<S, E>() <= couplings.len(), "a coupling for every pair of blocks");
        let mut token = 0;
        while z.tokens - token >= TOKENS {
            couple_tokens::<S, E, TOKENS>(simd, z, couplings, t, token);
            token += TOKENS;
        }
        for token in token..z.tokens {
            couple_tokens::<S, E, 1>(simd, z, couplings, t, token);
        }
    }
}

/// [`couple_panel`] for `T` tokens: two output blocks at a time, four where there are 32 registers.
#[inline(always)]
fn couple_tokens<S: Simd, E: Scalar, const T: usize>(
    simd: S,
    z: PanelRows<'_, E>,
    couplings: &[E],
    t: PanelTarget<'_, E>,
    token: usize,
) {
    let mut i = 0;
    if S::REGISTER_COUNT >= 32 {
        while t.blocks - i >= 4 {
            couple_group::<S, E, T, 4>(simd, z, couplings, t, token, i);
            i += 4;
        }
    }
    while t.blocks - i >= 2 {
        couple_group::<S, E, T, 2>(simd, z, couplings, t, token, i);
        i += 2;
    }
    if i < t.blocks {
        couple_group::<S, E, T, 1>(simd, z, couplings, t, token, i);
    }
}

/// [`couple_panel`] for `T` tokens and `I` output blocks.
#[inline(always)]
fn couple_group<S: Simd, E: Scalar, const T: usize, const I: usize>(
    simd: S,
    z: PanelRows<'_, E>,
    couplings: &[E],
    t: PanelTarget<'_, E>,
    token: usize,
    i: usize,
) {
    let (lanes, nr, b2) = (E::lanes::<S>(), gemm::nr::<S, E>(), z.blocks);
    assert!(token + T <= z.tokens && (i + I) * b2 * nr <= couplings.len(), "a group within the operands");
    for half in [0, lanes] {
        let mut sums = [[E::splat(simd, E::ZERO); I]; T];
        for j in 0..b2 {
            let mut scales = [E::splat(simd, E::ZERO); I];
            for (block, scale) in scales.iter_mut().enumerate() {
                // SAFETY: within the couplings of `I` blocks, as asserted.
                *scale = unsafe { load_at::<S, E>(couplings.as_ptr().add(((i + block) * b2 + j) * nr + half)) };
            }
            for (at, sums) in sums.iter_mut().enumerate() {
                // SAFETY: `T` tokens from `token` on exist, as asserted, and `z` has `b2` blocks.
                let value = unsafe { load_at::<S, E>(z.address(token + at, j).add(half)) };
                for (sum, scale) in sums.iter_mut().zip(scales) {
                    *sum = E::fused(simd, scale, value, *sum);
                }
            }
        }
        for (at, sums) in sums.into_iter().enumerate() {
            for (block, sum) in sums.into_iter().enumerate() {
                t.store::<S>(token + at, i + block, half, sum);
            }
        }
    }
}

/// `ds_ij += Σ_tokens dt_i ∘ z_j` for one panel of the rank; `ds` is `[b1, b2, NR]`.
///
/// # Panics
///
/// If `dt` and `z` have other numbers of tokens, or `ds` is shorter.
pub(super) fn coupling_gradient_panel<E: Scalar>(dt: PanelRows<'_, E>, z: PanelRows<'_, E>, ds: &mut [E]) {
    pulp::Arch::new().dispatch(CouplingGradientPanel { dt, z, ds });
}

/// [`coupling_gradient_panel`] with the instructions of one processor.
struct CouplingGradientPanel<'a, E> {
    dt: PanelRows<'a, E>,
    z: PanelRows<'a, E>,
    ds: &'a mut [E],
}

impl<E: Scalar> pulp::WithSimd for CouplingGradientPanel<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { dt, z, ds } = self;
        assert_eq!(dt.tokens, z.tokens, "the same tokens");
        let mut i = 0;
        if S::REGISTER_COUNT >= 32 {
            while dt.blocks - i >= 4 {
                gradient_rows::<S, E, 4>(simd, dt, z, ds, i);
                i += 4;
            }
        }
        while dt.blocks - i >= 2 {
            gradient_rows::<S, E, 2>(simd, dt, z, ds, i);
            i += 2;
        }
        if i < dt.blocks {
            gradient_rows::<S, E, 1>(simd, dt, z, ds, i);
        }
    }
}

/// [`coupling_gradient_panel`] for `I` output blocks.
#[inline(always)]
fn gradient_rows<S: Simd, E: Scalar, const I: usize>(
    simd: S,
    dt: PanelRows<'_, E>,
    z: PanelRows<'_, E>,
    ds: &mut [E],
    i: usize,
) {
    let mut j = 0;
    while z.blocks - j >= 4 {
        gradient_group::<S, E, I, 4>(simd, dt, z, ds, i, j);
        j += 4;
    }
    for j in j..z.blocks {
        gradient_group::<S, E, I, 1>(simd, dt, z, ds, i, j);
    }
}

/// [`coupling_gradient_panel`] for `I` output and `J` input blocks.
#[inline(always)]
fn gradient_group<S: Simd, E: Scalar, const I: usize, const J: usize>(
    simd: S,
    dt: PanelRows<'_, E>,
    z: PanelRows<'_, E>,
    ds: &mut [E],
    i: usize,
    j: usize,
) {
    let (lanes, nr) = (E::lanes::<S>(), gemm::nr::<S, E>());
    assert!(i + I <= dt.blocks && j + J <= z.blocks && dt.tokens == z.tokens, "a group within the operands");
    for half in [0, lanes] {
        let mut sums = [[E::splat(simd, E::ZERO); J]; I];
        for token in 0..z.tokens {
            let mut values = [E::splat(simd, E::ZERO); J];
            for (column, value) in values.iter_mut().enumerate() {
                // SAFETY: the token and the blocks exist, as asserted.
                *value = unsafe { load_at::<S, E>(z.address(token, j + column).add(half)) };
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as above.
                let dt = unsafe { load_at::<S, E>(dt.address(token, i + row).add(half)) };
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = E::fused(simd, dt, value, *sum);
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            for (column, sum) in sums.into_iter().enumerate() {
                let ds = &mut ds[((i + row) * z.blocks + j + column) * nr + half..];
                store::<S, E>(ds, E::plus(simd, sum, load::<S, E>(ds)));
            }
        }
    }
}
