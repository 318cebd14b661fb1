//! The coupling and its gradients, as kernels.
//!
//! All work on vectors along the rank, the contiguous axis of `z`, `t` and `s`. `T` is the element type in memory and
//! `A` the one sums are kept in (f32 for the half-precision types).

use cubecl::prelude::*;

/// `t_i = Σ_j s_ij ∘ z_j` for `group` neighbouring `i` and `at_once` neighbouring tokens, so that a load of `z_j` serves all of
/// the `i` and a load of `s_ij` all of the tokens.
///
/// One unit computes one vector of each of its `t_i` and tokens. The groups of the same tokens follow each other, while
/// their `z` is in the cache. `rank` and `s_*_stride` are in vectors.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn couple_kernel<T: Float, A: Float, N: Size>(
    z: &Tensor<Vector<T, N>>,
    s: &Tensor<Vector<T, N>>,
    t: &mut Tensor<Vector<T, N>>,
    in_blocks: usize,
    tokens: usize,
    rank: usize,
    groups: usize,
    s_output_stride: usize,
    s_input_stride: usize,
    units: usize,
    #[comptime] group: usize,
    #[comptime] at_once: usize,
    #[define(T, A)] _dtypes: [ElemType; 2],
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let k = ABSOLUTE_POS % rank;
    let first = ABSOLUTE_POS / rank % groups * group;
    let first_token = ABSOLUTE_POS / (rank * groups) * at_once;

    let mut sums = Array::<Vector<A, N>>::new(comptime!(group * at_once));
    #[unroll]
    for i in 0..comptime!(group * at_once) {
        sums[i] = Vector::new(A::new(0.0));
    }
    for j in 0..in_blocks {
        let mut values = Array::<Vector<A, N>>::new(at_once);
        #[unroll]
        for i in 0..at_once {
            // Beyond the last token, the last one again; what it gives is not stored.
            let token = min(first_token + i, tokens - 1);
            values[i] = Vector::cast_from(z[(j * tokens + token) * rank + k]);
        }
        #[unroll]
        for g in 0..group {
            let scale = Vector::<A, N>::cast_from(s[(first + g) * s_output_stride + j * s_input_stride + k]);
            #[unroll]
            for i in 0..at_once {
                sums[g * at_once + i] += scale * values[i];
            }
        }
    }
    #[unroll]
    for g in 0..group {
        #[unroll]
        for i in 0..at_once {
            if first_token + i < tokens {
                t[((first + g) * tokens + first_token + i) * rank + k] = Vector::cast_from(sums[g * at_once + i]);
            }
        }
    }
}

/// `ds_ij = Σ dt_i ∘ z_j` over one chunk of the tokens: `out [chunks, b1, b2, r]`, to be summed over its first axis.
///
/// One unit computes one vector of `out`, in the accumulation type.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn coupling_gradient_kernel<T: Float, A: Float, N: Size>(
    t_grad: &Tensor<Vector<T, N>>,
    z: &Tensor<Vector<T, N>>,
    out: &mut Tensor<Vector<A, N>>,
    out_blocks: usize,
    in_blocks: usize,
    tokens: usize,
    chunk: usize,
    rank: usize,
    units: usize,
    #[define(T, A)] _dtypes: [ElemType; 2],
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let k = ABSOLUTE_POS % rank;
    let block = ABSOLUTE_POS / rank;
    let j = block % in_blocks;
    let i = (block / in_blocks) % out_blocks;
    let start = (block / (in_blocks * out_blocks)) * chunk;
    let mut end = start + chunk;
    if end > tokens {
        end = tokens;
    }

    let mut sum = Vector::<A, N>::new(A::new(0.0));
    for token in start..end {
        let dt = Vector::<A, N>::cast_from(t_grad[(i * tokens + token) * rank + k]);
        let value = Vector::<A, N>::cast_from(z[(j * tokens + token) * rank + k]);
        sum += dt * value;
    }
    out[ABSOLUTE_POS] = sum;
}

/// `dz_j = Σ_i s_ij ∘ dt_i`, and `ds_ij = Σ dt_i ∘ z_j` over one chunk of the tokens: `partial [chunks, b1, b2, r]`, to be
/// summed over its first axis.
///
/// One unit takes one vector along the rank of every `dt_i` and of `group` neighbouring `z_j` through its chunk, with their
/// `s_ij` and the sums of their `ds_ij` in registers: `z` is read once and `dt` once for each group.
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn coupling_backward_kernel<T: Float, A: Float, N: Size>(
    t_grad: &Tensor<Vector<T, N>>,
    z: &Tensor<Vector<T, N>>,
    s: &Tensor<Vector<T, N>>,
    z_grad: &mut Tensor<Vector<T, N>>,
    partial: &mut Tensor<Vector<A, N>>,
    in_blocks: usize,
    tokens: usize,
    chunk: usize,
    rank: usize,
    s_output_stride: usize,
    s_input_stride: usize,
    units: usize,
    #[comptime] out_blocks: usize,
    #[comptime] group: usize,
    #[define(T, A)] _dtypes: [ElemType; 2],
) {
    if ABSOLUTE_POS >= units {
        terminate!();
    }
    let k = ABSOLUTE_POS % rank;
    let groups = in_blocks.div_ceil(group);
    let first = (ABSOLUTE_POS / rank) % groups * group;
    let chunk_index = ABSOLUTE_POS / (rank * groups);
    let start = chunk_index * chunk;
    let end = min(start + chunk, tokens);

    let mut scales = Array::<Vector<A, N>>::new(comptime!(out_blocks * group));
    let mut sums = Array::<Vector<A, N>>::new(comptime!(out_blocks * group));
    #[unroll]
    for i in 0..out_blocks {
        #[unroll]
        for g in 0..group {
            // Beyond the last block, the last one again; what it gives is not stored.
            let j = min(first + g, in_blocks - 1);
            scales[i * group + g] = Vector::cast_from(s[i * s_output_stride + j * s_input_stride + k]);
            sums[i * group + g] = Vector::new(A::new(0.0));
        }
    }
    for token in start..end {
        let mut values = Array::<Vector<A, N>>::new(group);
        let mut gradients = Array::<Vector<A, N>>::new(group);
        #[unroll]
        for g in 0..group {
            let j = min(first + g, in_blocks - 1);
            values[g] = Vector::cast_from(z[(j * tokens + token) * rank + k]);
            gradients[g] = Vector::new(A::new(0.0));
        }
        #[unroll]
        for i in 0..out_blocks {
            let gradient = Vector::<A, N>::cast_from(t_grad[(i * tokens + token) * rank + k]);
            #[unroll]
            for g in 0..group {
                gradients[g] += scales[i * group + g] * gradient;
                sums[i * group + g] += gradient * values[g];
            }
        }
        #[unroll]
        for g in 0..group {
            if first + g < in_blocks {
                z_grad[((first + g) * tokens + token) * rank + k] = Vector::cast_from(gradients[g]);
            }
        }
    }
    #[unroll]
    for i in 0..out_blocks {
        #[unroll]
        for g in 0..group {
            if first + g < in_blocks {
                partial[((chunk_index * out_blocks + i) * in_blocks + first + g) * rank + k] = sums[i * group + g];
            }
        }
    }
}
