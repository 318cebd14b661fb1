//! The last stage of the product in strips, `y_i = t_i U_iᵀ + bias_i`, in one of two ways.
//!
//! A tile of rows meets a packed panel, and either operand can be which. **With many tokens** `U` is packed, once for all of
//! them, and rows of `t` meet it. **With few**, packing `U` would take longer than multiplying by it: there are many more of its
//! rows than tokens. So its rows are the left operand, read where they lie, once, and `t`, a fraction of its size, comes in
//! panels of tokens (`transposed.rs`). The tiles are then parts of `yᵀ`, and are transposed around in the first-level cache.

use super::layout::CoupledLayout;
use super::transposed::TransposedPanels;
use crate::cpu::gemm::{
    self, Epilogue, ExtraPrefetch, PrefetchCursor, Rows, SharedOutput, Target, grouped_gemm, mr, multiply_panels, nr,
    tasks_wanted, transpose,
};
use crate::cpu::{Matrix, Scalar, ThreadTeam, Workspace, split_aligned};
use burn_flex::FlexTensor;
use pulp::Simd;

/// Rows of a block of `U` for each token from which packing them does not pay.
const ROWS_PER_TOKEN: usize = 2;
/// Rows of `U` whose products are transposed around with_grouped: full_tile tiles, and full_tile cache lines of the output.
const TRANSPOSED_ROWS: usize = 48;

/// How the expansion goes: where `t` has to lie for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Expansion {
    /// `U` packed, `t` in panels of components.
    OfTokens,
    /// `U` as it lies, `t` in panels of tokens.
    OfRows,
}

impl Expansion {
    pub fn choose(tokens: usize, u: &FlexTensor) -> Self {
        let [_, p, _] = u.layout().shape().dims();
        let strides = u.layout().strides();
        let in_rows = strides[2] == 1 && strides[1] >= 0;
        if in_rows && p >= ROWS_PER_TOKEN * tokens { Self::OfRows } else { Self::OfTokens }
    }
}

/// `y_i = t_i U_iᵀ + bias_i`, rows of `t` by packed columns.
pub(super) fn of_tokens<E: Scalar>(
    team: &ThreadTeam,
    tokens: usize,
    t: &[E],
    layout: CoupledLayout,
    u: &FlexTensor,
    bias: Option<&[E]>,
    y: SharedOutput<'_, E>,
) {
    let [blocks, p, r] = u.layout().shape().dims();
    let rows = |block: usize| {
        let t = &t[block * layout.block_stride()..];
        Rows::in_runs(t, [tokens, r], layout.nr, layout.nr, layout.panel_stride())
    };
    grouped_gemm(team, [blocks, tokens, r, p], rows, |block| Matrix::of(u, block).transposed(), bias, y);
}

/// `y_i = t_i U_iᵀ + bias_i`, rows of `U` by panels of tokens.
pub(super) fn of_rows<E: Scalar>(
    team: &ThreadTeam,
    tokens: usize,
    t: &[E],
    layout: TransposedPanels,
    u: &FlexTensor,
    bias: Option<&[E]>,
    y: SharedOutput<'_, E>,
) {
    let [blocks, p, _] = u.layout().shape().dims();
    if blocks * p * tokens == 0 {
        return;
    }
    let groups = p.div_ceil(TRANSPOSED_ROWS);
    let at_once = (blocks * groups).div_ceil(tasks_wanted());
    let tasks = groups.div_ceil(at_once);
    team.parallel_for(blocks * tasks, |task| {
        let (block, first) = (task / tasks, task % tasks * at_once * TRANSPOSED_ROWS);
        let count = (at_once * TRANSPOSED_ROWS).min(p - first);
        let factor = Matrix::of(u, block).rows(first, count);
        let panels = &t[block * layout.block_stride()..][..layout.block_stride()];
        let column = block * p + first;
        let bias = bias.map(|bias| &bias[column..column + count]);
        E::with_buffer(Workspace::Task, |buffer| {
            pulp::Arch::new().dispatch(Expand { factor, panels, tokens, bias, y, column, stride: blocks * p, buffer });
        });
    });
}

/// Some rows of `U` by all panels of tokens.
struct Expand<'a, E: Scalar> {
    factor: Matrix<'a, E>,
    panels: &'a [E],
    tokens: usize,
    bias: Option<&'a [E]>,
    y: SharedOutput<'a, E>,
    /// The first column of `y`, and its row length.
    column: usize,
    stride: usize,
    buffer: &'a mut Vec<E>,
}

impl<E: Scalar> pulp::WithSimd for Expand<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { factor, panels, tokens, bias, y, column, stride, buffer } = self;
        debug_assert_eq!(TRANSPOSED_ROWS % mr::<S>(), 0);
        let padded = tokens.next_multiple_of(nr::<S, E>());
        let [products, columns] = split_aligned(buffer, [TRANSPOSED_ROWS * padded, tokens * TRANSPOSED_ROWS]);
        let rows = Rows::of(factor).expect("rows as they lie");
        for first in (0..rows.count).step_by(TRANSPOSED_ROWS) {
            let count = TRANSPOSED_ROWS.min(rows.count - first);
            // The same rows a tile later.
            let next = (first + gemm::tile_of::<S, E>(rows)).min(rows.count);
            let ahead = Some(factor.rows(next, count.min(rows.count - next)));
            let prefetch_steps = gemm::prefetch_steps::<S, E>(rows.range(first, count), tokens);
            let write = PrefetchCursor::to_write(y, column + first, [1, tokens, count], [0, stride]);
            let beside = &mut ExtraPrefetch { read: PrefetchCursor::default(), write }.in_steps(prefetch_steps);
            let out = SharedOutput::new(&mut *products);
            let target = Target { out, offset: 0, stride: padded, epilogue: Epilogue::Store };
            // SAFETY: the buffer is this task's alone.
            unsafe { multiply_panels(simd, rows.range(first, count), panels, tokens, target, ahead, beside) };
            transpose::<S, E>(Matrix::row_major(products, count, tokens, padded), columns, TRANSPOSED_ROWS);
            for (token, columns) in columns.chunks_exact(TRANSPOSED_ROWS).enumerate() {
                // SAFETY: no other task has these columns.
                let y = unsafe { y.uninit_slice(token * stride + column + first, count) };
                match bias {
                    None => _ = y.write_copy_of_slice(&columns[..count]),
                    Some(bias) => {
                        for ((y, value), bias) in y.iter_mut().zip(columns).zip(&bias[first..]) {
                            y.write(*value + *bias);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::contiguous;
    use burn::tensor::Shape;

    /// Both ways, from the same `t`.
    fn both<E: Scalar>([blocks, p, r, tokens]: [usize; 4], biased: bool, number: impl Fn(usize) -> E) -> [Vec<E>; 2] {
        let (layout, transposed) =
            (CoupledLayout::new::<E>(r, blocks, tokens), TransposedPanels::new::<E>(r, blocks, tokens));
        let (nr, [token_stride, of_block]) = (layout.nr, layout.strides());
        // What an earlier product left behind must not matter.
        let [mut t, mut t_turned] = [layout.len(), transposed.len()].map(|len| vec![E::NAN; len]);
        for (block, token, k) in
            (0..blocks).flat_map(|block| (0..tokens).flat_map(move |token| (0..r).map(move |k| (block, token, k))))
        {
            let value = number((block * tokens + token) * r + k);
            t[block * of_block + k / nr * layout.panel_stride() + token * token_stride + k % nr] = value;
            t_turned[transposed.at(block, token, k)] = value;
        }
        let u = contiguous((0..blocks * p * r).map(|at| number(at + 3)).collect(), Shape::new([blocks, p, r]));
        let bias: Vec<E> = (0..blocks * p).map(|at| number(at + 11)).collect();
        let bias = biased.then_some(bias.as_slice());
        let mut out = [vec![E::NAN; tokens * blocks * p], vec![E::NAN; tokens * blocks * p]];
        let [of_tokens, of_rows] = &mut out;
        let team = ThreadTeam::default();
        super::of_tokens(&team, tokens, &t, layout, &u, bias, SharedOutput::new(of_tokens));
        super::of_rows(&team, tokens, &t_turned, transposed, &u, bias, SharedOutput::new(of_rows));
        out
    }

    /// Whole numbers, so that no order of summation rounds.
    fn number(at: usize) -> f32 {
        (at * 7 % 19) as f32 - 9.0
    }

    #[test]
    fn both_ways_give_the_same() {
        for blocks in [1, 3] {
            for (p, r) in [(1, 1), (7, 5), (47, 16), (49, 17), (130, 33)] {
                for tokens in [1, 7, 16, 17, 65] {
                    for biased in [false, true] {
                        let sizes = [blocks, p, r, tokens];
                        let [of_tokens, of_rows] = both::<f32>(sizes, biased, number);
                        assert_eq!(of_tokens, of_rows, "f32, {sizes:?}");
                        let [of_tokens, of_rows] = both::<f64>(sizes, biased, |at| f64::from(number(at)));
                        assert_eq!(of_tokens, of_rows, "f64, {sizes:?}");
                    }
                }
            }
        }
    }
}
