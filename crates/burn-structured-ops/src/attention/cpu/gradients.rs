//! The backward pass: a task takes a head through all pairs of a block of queries and a block of keys.
//!
//! ```text
//! for each block of queries, packed once         Qᵀ, dOᵀ, Q and dO in panels
//!     for each block of keys                     Sᵀ = K Qᵀ,  dPᵀ = V dOᵀ, in the L2 cache
//!         Pᵀ = exp(Sᵀ − log-sum-exp)             softmax.rs
//!         dSᵀ = Pᵀ ∘ (dPᵀ − rowsum(dO ∘ O))
//!         dV += Pᵀ dO,  dK += dSᵀ Q,  dQ += dS K
//! ```
//!
//! The scores are transposed because two of the three products that follow read them by keys.

use super::exp::Exponential;
use super::for_each_task;
use super::heads::{Head, Heads, rows};
use super::pack::pack_transposed;
use super::softmax::GradientRows;
use crate::attention::shapes::Sizes;
use crate::cpu::gemm::{
    self, Epilogue, Rows, Target, balanced_chunk, gemm_packed, pack_and_gemm, pack_panels, transpose_into,
    transposed_stride,
};
use crate::cpu::{Matrix, SharedOutput, ThreadTeam, Workspace, alloc_uninit_with, dense_slice, load, split_aligned};
use burn::tensor::Shape;
use burn_flex::FlexTensor;
use pulp::Simd;

/// Queries and keys of a block: two matrices of so many squared are half of a small L2 cache in f32.
const BLOCK: usize = 128;

/// The gradients of query, key and value with their shapes, or one tensor that they are parts of if they are `packed`.
pub(super) fn gradients<E: Exponential>(
    team: Option<&ThreadTeam>,
    heads: &Heads<'_, E>,
    saved: [&FlexTensor; 3],
    packed: bool,
) -> Vec<(Vec<E>, Shape)> {
    let Sizes { batch, heads: count, queries, keys, d_head, d_value } = heads.sizes;
    let allocate = |tokens: usize, heads: usize, features: usize, fill: &mut dyn FnMut(SharedOutput<'_, E>)| {
        let shape = [batch, tokens, heads, features];
        // SAFETY: `write` below writes every element of the three gradients: each head's by its task.
        let values = unsafe { alloc_uninit_with(shape.iter().product(), |mut out| fill(out.share())) };
        (values, Shape::new(shape))
    };
    if packed {
        let gradient = allocate(queries, 3 * count, d_head, &mut |out| {
            write(team, heads, saved, [0, 1, 2].map(|part| HeadRows::new(out, 3 * count, part * count, d_head)));
        });
        return vec![gradient];
    }
    let (mut key_grad, mut value_grad) = (None, None);
    let query_grad = allocate(queries, count, d_head, &mut |query| {
        key_grad = Some(allocate(keys, count, d_head, &mut |key| {
            value_grad = Some(allocate(keys, count, d_value, &mut |value| {
                let gradients = [(query, d_head), (key, d_head), (value, d_value)];
                write(team, heads, saved, gradients.map(|(out, features)| HeadRows::new(out, count, 0, features)));
            }));
        }));
    });
    vec![query_grad, key_grad.expect("written"), value_grad.expect("written")]
}

/// Writes every row of the gradients of query, key and value, which overlap nowhere.
fn write<E: Exponential>(
    team: Option<&ThreadTeam>,
    heads: &Heads<'_, E>,
    [output, log_sum_exp, output_grad]: [&FlexTensor; 3],
    gradients: [HeadRows<'_, E>; 3],
) {
    let Sizes { batch, heads: count, queries, keys, .. } = heads.sizes;
    for_each_task(team, batch * count, |index| {
        let head = heads.get(index);
        let of_head = |tensor| Matrix::of_head(tensor, head.batch, head.head);
        let saved = Saved {
            output: of_head(output),
            log_sum_exp: &dense_slice::<E>(log_sum_exp)[index * queries..][..queries],
            output_grad: of_head(output_grad),
        };
        let [query, key, value] = gradients;
        let tokens = [(query, queries), (key, keys), (value, keys)];
        head_gradients(heads, head, saved, tokens.map(|(rows, tokens)| rows.of(&head, tokens)));
    });
}

/// What the forward pass saved of a head, and the gradient of its output.
#[derive(Clone, Copy)]
struct Saved<'a, E> {
    /// `[queries, d_value]`.
    output: Matrix<'a, E>,
    log_sum_exp: &'a [E],
    /// `[queries, d_value]`.
    output_grad: Matrix<'a, E>,
}

/// Rows of one head in a tensor `[batch, tokens, heads, features]` that is written.
#[derive(Clone, Copy)]
struct HeadRows<'a, E> {
    out: SharedOutput<'a, E>,
    offset: usize,
    stride: usize,
    features: usize,
}

impl<'a, E: Exponential> HeadRows<'a, E> {
    /// The rows of head `first` of the first batch element, in a tensor of so many heads.
    fn new(out: SharedOutput<'a, E>, heads: usize, first: usize, features: usize) -> Self {
        Self { out, offset: first * features, stride: heads * features, features }
    }

    /// The rows of a head that many heads on, of a batch element of so many tokens.
    fn of(self, head: &Head<'_, E>, tokens: usize) -> Self {
        let offset = self.offset + head.batch * tokens * self.stride + head.head * self.features;
        Self { offset, ..self }
    }

    /// The rows of `count` tokens, to accumulate to or to store.
    ///
    /// # Safety
    ///
    /// As [`Target::new`].
    unsafe fn target(self, first: usize, count: usize, accumulate: bool) -> Target<'a, E> {
        let epilogue = if accumulate { Epilogue::Accumulate } else { Epilogue::Store };
        let (offset, sizes) = (self.offset + first * self.stride, [count, self.features]);
        // SAFETY: as the caller says.
        unsafe { Target::new(self.out, offset, sizes, self.stride, epilogue) }
    }

    /// Writes zeros to the rows of some tokens.
    ///
    /// # Safety
    ///
    /// Nothing else may access them.
    unsafe fn clear(self, tokens: std::ops::Range<usize>) {
        for token in tokens {
            // SAFETY: as the caller says.
            let row = unsafe { self.out.uninit_slice(self.offset + token * self.stride, self.features) };
            row.iter_mut().for_each(|value| _ = value.write(E::ZERO));
        }
    }
}

/// The gradients of one head, which nothing else writes.
fn head_gradients<E: Exponential>(
    heads: &Heads<'_, E>,
    head: Head<'_, E>,
    saved: Saved<'_, E>,
    [query_grad, key_grad, value_grad]: [HeadRows<'_, E>; 3],
) {
    let Sizes { queries, keys, d_head, d_value, .. } = heads.sizes;
    let (nr, _) = gemm::shape::<E>();
    let lanes = nr / 2;
    let query_block = balanced_chunk(queries, BLOCK).next_multiple_of(lanes);
    let key_block = balanced_chunk(head.key.rows.max(1), BLOCK).next_multiple_of(lanes);
    let stride = transposed_stride::<E>(query_block);
    // Keys that the first block of queries sees are stored before anything is accumulated to them.
    let stored = head.seen_by(query_block.min(queries) - 1);
    for gradient in [key_grad, value_grad] {
        // SAFETY: nothing else writes this head.
        unsafe {
            gradient.clear(0..head.first);
            gradient.clear(head.first + stored..keys);
        }
    }
    E::with_buffer(Workspace::Task, |buffer| {
        let padded = |count: usize| count.next_multiple_of(nr);
        let lengths = [
            padded(query_block) * d_head,
            padded(query_block) * d_value,
            padded(d_head) * query_block,
            padded(d_value) * query_block,
            padded(d_head) * key_block,
            key_block * stride,
            key_block * stride,
            query_block * transposed_stride::<E>(key_block),
            query_block,
            query_block,
            lanes * d_head.max(d_value),
        ];
        let [
            query_t,
            grad_t,
            query_panels,
            grad_panels,
            key_panels,
            scores,
            score_grads,
            transposed,
            sums,
            shift,
            filled,
        ] = split_aligned(buffer, lengths);
        for start in (0..queries).step_by(query_block) {
            let count = query_block.min(queries - start);
            let seen = head.seen_by(start + count - 1);
            if seen == 0 {
                // SAFETY: nothing else writes this head.
                unsafe { query_grad.clear(start..start + count) };
                continue;
            }
            let (query, output_grad) = (head.query.rows(start, count), saved.output_grad.rows(start, count));
            let query_t = &mut query_t[..padded(count) * d_head];
            let grad_t = &mut grad_t[..padded(count) * d_value];
            let query_panels = &mut query_panels[..padded(d_head) * count];
            let grad_panels = &mut grad_panels[..padded(d_value) * count];
            pack_transposed(query, query_t, filled);
            pack_transposed(output_grad, grad_t, filled);
            pack_panels(query, query_panels);
            pack_panels(output_grad, grad_panels);
            let cols = count.next_multiple_of(lanes);
            sums[..count].copy_from_slice(&saved.log_sum_exp[start..start + count]);
            // Columns beyond the last query are 0.
            sums[count..cols].fill(E::INFINITY);
            pulp::Arch::new().dispatch(RowProducts {
                a: saved.output.rows(start, count),
                b: output_grad,
                out: &mut shift[..count],
            });
            shift[count..cols].fill(E::ZERO);
            for first in (0..seen).step_by(key_block) {
                let in_block = key_block.min(seen - first);
                let (key, value) = (head.key.rows(first, in_block), head.value.rows(first, in_block));
                gemm_packed(rows(key), query_t, Target::of_slice(scores, [in_block, cols], stride));
                gemm_packed(rows(value), grad_t, Target::of_slice(score_grads, [in_block, cols], stride));
                pulp::Arch::new().dispatch(GradientRows {
                    scores: &mut *scores,
                    gradients: &mut *score_grads,
                    stride,
                    rows: in_block,
                    cols,
                    scale: heads.scale,
                    first_query: |row| {
                        (!head.is_hidden(first + row)).then(|| head.first_query_of(first + row).saturating_sub(start))
                    },
                    log_sum_exp: &*sums,
                    shift: &*shift,
                });
                let by_key = |matrix| Rows::in_runs(matrix, [in_block, count], stride, count, 0);
                let accumulate = start > 0;
                // SAFETY: nothing else writes this head. The first block of queries stores the keys that it sees; the others were cleared.
                // The first block of keys stores to the queries.
                unsafe {
                    let key = head.first + first;
                    gemm_packed(by_key(scores), grad_panels, value_grad.target(key, in_block, accumulate));
                    gemm_packed(by_key(score_grads), query_panels, key_grad.target(key, in_block, accumulate));
                }
                // Whole registers of keys, of which only those of the block are read then: they are transposed by shuffles.
                let whole = [in_block, count].map(|count| count.next_multiple_of(lanes));
                let by_query = transpose_into(Matrix::row_major(score_grads, whole[0], whole[1], stride), transposed);
                let by_query = by_query.range(0, count).depths(0, in_block);
                // SAFETY: as above.
                let target = unsafe { query_grad.target(start, count, first > 0) };
                pack_and_gemm(by_query, key, &mut key_panels[..padded(d_head) * in_block], target, None);
            }
        }
    });
}

/// `out[i] = a[i] · b[i]` for the rows of two matrices.
struct RowProducts<'a, 'b, E> {
    a: Matrix<'a, E>,
    b: Matrix<'a, E>,
    out: &'b mut [E],
}

impl<E: Exponential> pulp::WithSimd for RowProducts<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { a, b, out } = self;
        let lanes = E::lanes::<S>();
        for (row, out) in out.iter_mut().enumerate() {
            let (a, b) = (a.row_slice(row).chunks_exact(lanes), b.row_slice(row).chunks_exact(lanes));
            *out = E::ZERO;
            for (a, b) in a.remainder().iter().zip(b.remainder()) {
                *out = a.mul_add(*b, *out);
            }
            let mut sums = E::splat(simd, E::ZERO);
            for (a, b) in a.zip(b) {
                sums = E::fused(simd, load::<S, E>(a), load::<S, E>(b), sums);
            }
            *out += E::sum(simd, sums);
        }
    }
}
