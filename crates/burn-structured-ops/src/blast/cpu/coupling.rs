//! The coupling `t_i = Σ_j s_ij ∘ z_j` and its gradient, on slices in token order.
//!
//! The loops run over fixed-size groups of lanes, which the compiler turns into vector instructions of whatever the
//! processor has (`pulp` picks the instruction set at run time). A group of tokens shares each load of `s`, and the
//! sums over `j` stay in registers, so `z` and `t` are each touched once per output block.
//!
//! Everything here is `inline(always)`: only inside `crate::cpu::vectorized` is it compiled for those instructions. Called from
//! anywhere else, a fused multiply-add becomes a library call.

use crate::cpu::Scalar;

/// Lanes handled together: one AVX-512 register of f32, or several narrower ones.
const LANES: usize = 16;
/// Tokens that share one load of `s`.
const TOKENS: usize = 4;

/// Whose `s_ij` to read: rows `i` of `s` or, for the transposed product, columns.
#[derive(Clone, Copy)]
pub(super) struct Couplings<'a, E> {
    /// `[b1, b2, r]` with the last axis contiguous.
    pub values: &'a [E],
    /// Distance between `s_ij` and `s_(i+1)j`.
    pub output_stride: usize,
    /// Distance between `s_ij` and `s_i(j+1)`.
    pub input_stride: usize,
}

impl<'a, E> Couplings<'a, E> {
    #[inline(always)]
    fn at(&self, i: usize, j: usize, k: usize, len: usize) -> &'a [E] {
        let start = i * self.output_stride + j * self.input_stride + k;
        &self.values[start..start + len]
    }
}

/// Block `i` of the coupling for the tokens of `z [tokens, blocks, r]`, written to rows of `t` that are `t_stride` apart.
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
