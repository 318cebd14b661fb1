//! The last stage of the product in strips, `y_i = t_i U_iᵀ + bias_i`, in one of two ways.
//!
//! A tile of rows meets a packed panel, and either operand can be which. **With many tokens** `U` is packed, once for all of
//! them, and rows of `t` meet it. **With few**, packing `U` would take longer than multiplying by it: there are many more of its
//! rows than tokens. So its rows are the left operand, read where they lie, once, and `t`, a fraction of its size, is brought
//! into panels of tokens. The tiles are then parts of `yᵀ`, and are turned around in the first-level cache.

use super::layout::CoupledLayout;
use crate::cpu::panel::{
    Landing, Rows, SharedOutput, Target, multiply_panels, side_by_side, tasks_wanted, tile_rows, transpose, width,
};
use crate::cpu::{Crew, Matrix, Scalar, Slot, portions};
use burn_flex::FlexTensor;
use pulp::Simd;

/// Rows of a block of `U` for each token from which packing them does not pay.
const ROWS_PER_TOKEN: usize = 2;
/// Rows of `U` whose products are turned around together: whole tiles, and whole cache lines of the output.
const TURNED_ROWS: usize = 48;

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
    crew: &Crew,
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
        Rows::in_runs(t, [tokens, r], layout.width, layout.width, layout.panel_stride())
    };
    side_by_side(crew, [blocks, tokens, r, p], rows, |block| Matrix::of(u, block).transposed(), bias, y);
}

/// Elements that [`of_rows`] needs for `t` in panels of tokens.
pub(super) fn turned_len(tokens: usize, layout: CoupledLayout, r: usize) -> usize {
    layout.blocks * tokens.next_multiple_of(layout.width) * r
}

/// `y_i = t_i U_iᵀ + bias_i`, rows of `U` by panels of tokens, for which there is room in `turned`.
#[allow(clippy::too_many_arguments)]
pub(super) fn of_rows<E: Scalar>(
    crew: &Crew,
    tokens: usize,
    t: &[E],
    turned: &mut [E],
    layout: CoupledLayout,
    u: &FlexTensor,
    bias: Option<&[E]>,
    y: SharedOutput<'_, E>,
) {
    let [blocks, p, r] = u.layout().shape().dims();
    if blocks * p * tokens == 0 {
        return;
    }
    let panels = tokens.div_ceil(layout.width);
    let turned_out = SharedOutput::new(turned);
    crew.each(blocks * panels, |task| {
        let (block, first) = (task / panels, task % panels * layout.width);
        let tokens = layout.width.min(tokens - first);
        // SAFETY: every panel is one task.
        let panel = unsafe { turned_out.slice(task * r * layout.width, r * layout.width) };
        let t = &t[block * layout.block_stride() + first * layout.width..];
        pulp::Arch::new().dispatch(Turn { t, tokens, r, layout, panel });
    });

    let turned = &*turned;
    let groups = p.div_ceil(TURNED_ROWS);
    let at_once = (blocks * groups).div_ceil(tasks_wanted());
    let tasks = groups.div_ceil(at_once);
    crew.each(blocks * tasks, |task| {
        let (block, first) = (task / tasks, task % tasks * at_once * TURNED_ROWS);
        let count = (at_once * TURNED_ROWS).min(p - first);
        let factor = Matrix::of(u, block).rows(first, count);
        let panels = &turned[block * panels * r * layout.width..][..panels * r * layout.width];
        let column = block * p + first;
        let bias = bias.map(|bias| &bias[column..column + count]);
        E::with_buffer(Slot::Task, |buffer| {
            pulp::Arch::new().dispatch(Expand { factor, panels, tokens, bias, y, column, stride: blocks * p, buffer });
        });
    });
}

/// One panel of tokens, `[r, width]`, from as many panel rows of `t`.
struct Turn<'a, E: Scalar> {
    t: &'a [E],
    tokens: usize,
    r: usize,
    layout: CoupledLayout,
    panel: &'a mut [E],
}

impl<E: Scalar> pulp::WithSimd for Turn<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { t, tokens, r, layout, panel } = self;
        let width = layout.width;
        for first in (0..r).step_by(width) {
            let t = Matrix::row_major(&t[first / width * layout.panel_stride()..], tokens, width.min(r - first), width);
            transpose::<S, E>(t, &mut panel[first * width..], width);
        }
    }
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
        debug_assert_eq!(TURNED_ROWS % tile_rows::<S>(), 0);
        let padded = tokens.next_multiple_of(width::<S, E>());
        let [products, columns] = portions(buffer, [TURNED_ROWS * padded, tokens * TURNED_ROWS]);
        let rows = Rows::of(factor).expect("rows as they lie");
        for first in (0..rows.count).step_by(TURNED_ROWS) {
            let count = TURNED_ROWS.min(rows.count - first);
            // The same rows a tile later.
            let next = (first + tile_rows::<S>()).min(rows.count);
            let ahead = [Some(factor.rows(next, count.min(rows.count - next))), None];
            let out = SharedOutput::new(&mut *products);
            let target = Target { out, offset: 0, stride: padded, landing: Landing::Overwrite };
            // SAFETY: the buffer is this task's alone.
            unsafe { multiply_panels(simd, rows.range(first, count), panels, tokens, target, ahead) };
            transpose::<S, E>(Matrix::row_major(products, count, tokens, padded), columns, TURNED_ROWS);
            for (token, columns) in columns.chunks_exact(TURNED_ROWS).enumerate() {
                // SAFETY: no other task has these columns.
                let y = unsafe { y.vacant(token * stride + column + first, count) };
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
        let layout = CoupledLayout::new::<E>(r, blocks, tokens);
        let t: Vec<E> = (0..layout.len()).map(&number).collect();
        let u = contiguous((0..blocks * p * r).map(|at| number(at + 3)).collect(), Shape::new([blocks, p, r]));
        let bias: Vec<E> = (0..blocks * p).map(|at| number(at + 11)).collect();
        let bias = biased.then_some(bias.as_slice());
        let mut out = [vec![E::NAN; tokens * blocks * p], vec![E::NAN; tokens * blocks * p]];
        let [of_tokens, of_rows] = &mut out;
        // What an earlier product left behind must not matter.
        let mut turned = vec![E::NAN; turned_len(tokens, layout, r)];
        let crew = Crew::default();
        super::of_tokens(&crew, tokens, &t, layout, &u, bias, SharedOutput::new(of_tokens));
        super::of_rows(&crew, tokens, &t, &mut turned, layout, &u, bias, SharedOutput::new(of_rows));
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
