//! The coupling `t_i = Σ_j s_ij ∘ z_j` and its gradient, on slices in token order or a strip of the rank at a time.
//!
//! The loops run over fixed-size groups of lanes, which the compiler turns into vector instructions of whatever the
//! processor has (`pulp` picks the instruction set at run time). A group of tokens shares each load of `s`, and the
//! sums over `j` stay in registers, so `z` and `t` are each touched once per output block.
//!
//! Everything here is `inline(always)`: only inside `crate::cpu::vectorized` is it compiled for those instructions. Called from
//! anywhere else, a fused multiply-add becomes a library call.

use crate::cpu::gemm::{self, PrefetchCursor, SharedOutput};
use crate::cpu::{Scalar, load, load_at, store, store_at};
use burn_flex::FlexTensor;
use pulp::Simd;

/// Lanes handled with_grouped: one AVX-512 register of f32, or several narrower ones.
const LANES: usize = 16;
/// Tokens that share one load of `s`.
const TOKENS: usize = 4;

/// Whose `s_ij` to read: rows `i` of `s` or, for the transposed product, columns.
#[derive(Clone, Copy)]
pub(super) struct Couplings<'a, E> {
    /// `[b1, b2, r]` with the last axis contiguous.
    values: &'a [E],
    /// Distance between `s_ij` and `s_(i+1)j`.
    output_stride: usize,
    /// Distance between `s_ij` and `s_i(j+1)`.
    input_stride: usize,
}

impl<'a, E: Scalar> Couplings<'a, E> {
    /// `s` itself where [`of`](Self::of) can read it, a copy elsewhere.
    pub(super) fn readable(s: FlexTensor) -> FlexTensor {
        let strides = s.layout().strides();
        if strides[2] == 1 && strides.iter().all(|stride| *stride >= 0) { s } else { s.to_contiguous() }
    }

    /// The couplings in a [readable](Self::readable) tensor.
    pub(super) fn of(s: &'a FlexTensor) -> Self {
        let strides = s.layout().strides();
        Self {
            values: &s.storage::<E>()[s.layout().start_offset()..],
            output_stride: strides[0] as usize,
            input_stride: strides[1] as usize,
        }
    }

    /// Those of the transposed product.
    pub(super) fn transposed(self) -> Self {
        Self { output_stride: self.input_stride, input_stride: self.output_stride, ..self }
    }

    /// Components `first .. first + cols` of the rank, in panels: `[panel][i][j][nr]`, zero beyond the last component.
    pub(super) fn pack(&self, b1: usize, b2: usize, first: usize, cols: usize, nr: usize, packed: &mut [E]) {
        for (panel, packed) in packed.chunks_exact_mut(b1 * b2 * nr).enumerate() {
            let here = nr.min(cols - panel * nr);
            for (block, packed) in packed.chunks_exact_mut(nr).enumerate() {
                let (packed, padding) = packed.split_at_mut(here);
                packed.copy_from_slice(self.at(block / b2, block % b2, first + panel * nr, here));
                padding.fill(E::ZERO);
            }
        }
    }

    /// What [`pack`](Self::pack) reads.
    pub(super) fn ahead(&self, b1: usize, b2: usize, first: usize, cols: usize) -> PrefetchCursor<E> {
        let strides = [self.output_stride, self.input_stride].map(|stride| stride as isize);
        PrefetchCursor::in_blocks(self.values.as_ptr().wrapping_add(first), [b1, b2, cols], strides)
    }

    #[inline(always)]
    pub(super) fn at(&self, i: usize, j: usize, k: usize, len: usize) -> &'a [E] {
        let start = i * self.output_stride + j * self.input_stride + k;
        &self.values[start..start + len]
    }
}

/// Block `i` of the coupling for the tokens of `z [tokens, blocks, r]`, written to rows of `t` that are `t_stride` deinterleave.
#[inline(always)]
pub(super) fn couple_block<E: Scalar>(
    z: &[E],
    blocks: usize,
    r: usize,
    s: Couplings<'_, E>,
    i: usize,
    t: &mut [E],
    t_stride: usize,
) {
    let tokens = z.len() / (blocks * r);
    let full = r - r % LANES;
    let mut token = 0;
    while token < tokens {
        let group = TOKENS.min(tokens - token);
        for k in (0..full).step_by(LANES) {
            if group == TOKENS {
                lanes::<E, TOKENS>(z, blocks, r, s, i, token, k, t, t_stride);
            } else {
                for token in token..token + group {
                    lanes::<E, 1>(z, blocks, r, s, i, token, k, t, t_stride);
                }
            }
        }
        for token in token..token + group {
            for k in full..r {
                let mut sum = E::ZERO;
                for j in 0..blocks {
                    sum += s.at(i, j, k, 1)[0] * z[(token * blocks + j) * r + k];
                }
                t[token * t_stride + k] = sum;
            }
        }
        token += group;
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn lanes<E: Scalar, const GROUP: usize>(
    z: &[E],
    blocks: usize,
    r: usize,
    s: Couplings<'_, E>,
    i: usize,
    token: usize,
    k: usize,
    t: &mut [E],
    t_stride: usize,
) {
    let mut sums = [[E::ZERO; LANES]; GROUP];
    for j in 0..blocks {
        let s = s.at(i, j, k, LANES);
        for (g, sum) in sums.iter_mut().enumerate() {
            let start = ((token + g) * blocks + j) * r + k;
            let z = &z[start..start + LANES];
            for lane in 0..LANES {
                sum[lane] = s[lane].mul_add(z[lane], sum[lane]);
            }
        }
    }
    for (g, sum) in sums.iter().enumerate() {
        let start = (token + g) * t_stride + k;
        t[start..start + LANES].copy_from_slice(sum);
    }
}

/// Couples one panel of the rank: `t_i = Σ_j s_ij ∘ z_j` for every `i`.
///
/// `z` holds `[tokens, b2]` panel rows and `t`, from `offset` on, `[tokens, b1]` of them, at the strides given; `couplings` is
/// `[b1, b2, nr]`. Two output blocks and four tokens are summed at a time (four and four where there are 32 registers),
/// so that a loaded value serves several sums.
///
/// # Safety
///
/// Nothing else may access these panel rows of `t`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn couple_panel<S: Simd, E: Scalar>(
    simd: S,
    z: &[E],
    [tokens, b2, b1]: [usize; 3],
    z_strides: [usize; 2],
    couplings: &[E],
    t: SharedOutput<'_, E>,
    offset: usize,
    t_strides: [usize; 2],
) {
    let nr = gemm::nr::<S, E>();
    if tokens == 0 || b1 == 0 || b2 == 0 {
        return;
    }
    let last = |offset: usize, strides: [usize; 2], blocks: usize| {
        offset + (tokens - 1) * strides[0] + (blocks - 1) * strides[1] + nr
    };
    assert!(last(0, z_strides, b2) <= z.len() && last(offset, t_strides, b1) <= t.len(), "panel rows within z and t");
    assert!(b1 * b2 * nr <= couplings.len(), "a coupling for every pair of blocks");
    macro_rules! group {
        ($tokens:literal, $blocks:literal, $token:expr, $i:expr) => {
            // SAFETY: within the slices, as asserted; exclusive, as the caller says.
            unsafe {
                couple_group::<S, E, $tokens, $blocks>(
                    simd,
                    z.as_ptr().add($token * z_strides[0]),
                    b2,
                    z_strides,
                    couplings.as_ptr().add($i * b2 * nr),
                    t,
                    offset + $token * t_strides[0] + $i * t_strides[1],
                    t_strides,
                )
            }
        };
    }
    macro_rules! blocks {
        ($tokens:literal, $token:expr) => {
            let mut i = 0;
            if S::REGISTER_COUNT >= 32 {
                while b1 - i >= 4 {
                    group!($tokens, 4, $token, i);
                    i += 4;
                }
            }
            while b1 - i >= 2 {
                group!($tokens, 2, $token, i);
                i += 2;
            }
            if i < b1 {
                group!($tokens, 1, $token, i);
            }
        };
    }
    let mut token = 0;
    while tokens - token >= TOKENS {
        blocks!(4, token);
        token += TOKENS;
    }
    while token < tokens {
        blocks!(1, token);
        token += 1;
    }
}

/// `T` tokens and `I` output blocks of [`couple_panel`].
///
/// # Safety
///
/// As [`couple_panel`], whose assertions must hold.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn couple_group<S: Simd, E: Scalar, const T: usize, const I: usize>(
    simd: S,
    z: *const E,
    b2: usize,
    [z_row, z_block]: [usize; 2],
    couplings: *const E,
    t: SharedOutput<'_, E>,
    offset: usize,
    t_strides: [usize; 2],
) {
    let (lanes, nr) = (E::lanes::<S>(), gemm::nr::<S, E>());
    for half in [0, lanes] {
        let mut sums = [[E::splat(simd, E::ZERO); I]; T];
        for j in 0..b2 {
            let mut scales = [E::splat(simd, E::ZERO); I];
            for (i, scale) in scales.iter_mut().enumerate() {
                // SAFETY: within the couplings of `I` blocks.
                *scale = unsafe { load_at::<S, E>(couplings.add((i * b2 + j) * nr + half)) };
            }
            for (token, sums) in sums.iter_mut().enumerate() {
                // SAFETY: within the panel rows of `T` tokens.
                let value = unsafe { load_at::<S, E>(z.add(token * z_row + j * z_block + half)) };
                for (sum, scale) in sums.iter_mut().zip(scales) {
                    *sum = E::fused(simd, scale, value, *sum);
                }
            }
        }
        for (token, sums) in sums.iter().enumerate() {
            for (i, sum) in sums.iter().enumerate() {
                // SAFETY: as the caller says, and a vector's worth of elements is in the slice.
                unsafe {
                    let t = t.uninit_slice(offset + token * t_strides[0] + i * t_strides[1] + half, lanes);
                    store_at::<S, E>(t.as_mut_ptr().cast(), *sum);
                }
            }
        }
    }
}

/// `ds_ij += Σ_tokens dt_i ∘ z_j` for one panel of the rank; `ds` is `[b1, b2, nr]`.
///
/// `dt` and `z` hold `[tokens, b1]` and `[tokens, b2]` panel rows at the strides given.
#[inline(always)]
pub(super) fn coupling_gradient_panel<S: Simd, E: Scalar>(
    simd: S,
    dt: &[E],
    dt_strides: [usize; 2],
    z: &[E],
    z_strides: [usize; 2],
    [tokens, b1, b2]: [usize; 3],
    ds: &mut [E],
) {
    let (lanes, nr) = (E::lanes::<S>(), gemm::nr::<S, E>());
    if tokens == 0 || b1 == 0 || b2 == 0 {
        return;
    }
    let last = |strides: [usize; 2], blocks: usize| (tokens - 1) * strides[0] + (blocks - 1) * strides[1] + nr;
    assert!(last(dt_strides, b1) <= dt.len() && last(z_strides, b2) <= z.len(), "panel rows within dt and z");
    macro_rules! group {
        ($rows:literal, $cols:literal, $i:expr, $j:expr) => {
            for half in [0, lanes] {
                let mut sums = [[E::splat(simd, E::ZERO); $cols]; $rows];
                for token in 0..tokens {
                    let mut values = [E::splat(simd, E::ZERO); $cols];
                    for (j, value) in values.iter_mut().enumerate() {
                        let at = token * z_strides[0] + ($j + j) * z_strides[1] + half;
                        // SAFETY: within `z`, as asserted.
                        *value = unsafe { load_at::<S, E>(z.as_ptr().add(at)) };
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let at = token * dt_strides[0] + ($i + i) * dt_strides[1] + half;
                        // SAFETY: within `dt`, as asserted.
                        let dt = unsafe { load_at::<S, E>(dt.as_ptr().add(at)) };
                        for (sum, value) in sums.iter_mut().zip(values) {
                            *sum = E::fused(simd, dt, value, *sum);
                        }
                    }
                }
                for (i, sums) in sums.iter().enumerate() {
                    for (j, sum) in sums.iter().enumerate() {
                        let ds = &mut ds[(($i + i) * b2 + $j + j) * nr + half..];
                        let total = E::plus(simd, *sum, load::<S, E>(ds));
                        store::<S, E>(ds, total);
                    }
                }
            }
        };
    }
    macro_rules! columns {
        ($rows:literal, $i:expr) => {
            let mut j = 0;
            while b2 - j >= 4 {
                group!($rows, 4, $i, j);
                j += 4;
            }
            while j < b2 {
                group!($rows, 1, $i, j);
                j += 1;
            }
        };
    }
    let mut i = 0;
    if S::REGISTER_COUNT >= 32 {
        while b1 - i >= 4 {
            columns!(4, i);
            i += 4;
        }
    }
    while b1 - i >= 2 {
        columns!(2, i);
        i += 2;
    }
    if i < b1 {
        columns!(1, i);
    }
}

/// Gradient couplings `ds_ij` for one `i` and a run of `J` columns starting at `j`, summed over tokens into `out [J, r]`.
///
/// `t_grad` is `[tokens, out_blocks, r]`, `z` is `[tokens, blocks, r]`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub(super) fn gradient_columns<E: Scalar, const J: usize>(
    t_grad: &[E],
    out_blocks: usize,
    i: usize,
    z: &[E],
    blocks: usize,
    j: usize,
    r: usize,
    out: &mut [E],
) {
    let tokens = z.len() / (blocks * r);
    let full = r - r % LANES;
    for k in (0..full).step_by(LANES) {
        let mut sums = [[E::ZERO; LANES]; J];
        for token in 0..tokens {
            let start = (token * out_blocks + i) * r + k;
            let dt = &t_grad[start..start + LANES];
            for (column, sum) in sums.iter_mut().enumerate() {
                let start = (token * blocks + j + column) * r + k;
                let z = &z[start..start + LANES];
                for lane in 0..LANES {
                    sum[lane] = dt[lane].mul_add(z[lane], sum[lane]);
                }
            }
        }
        for (column, sum) in sums.iter().enumerate() {
            out[column * r + k..column * r + k + LANES].copy_from_slice(sum);
        }
    }
    for column in 0..J {
        for k in full..r {
            let mut sum = E::ZERO;
            for token in 0..tokens {
                sum += t_grad[(token * out_blocks + i) * r + k] * z[(token * blocks + j + column) * r + k];
            }
            out[column * r + k] = sum;
        }
    }
}
