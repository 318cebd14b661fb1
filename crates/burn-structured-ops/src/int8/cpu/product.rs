//! Quantized rows times a factor.
//!
//! Up to a few tokens read each row of the factor once, in place. More tokens run over panels: `4 · NR` weights for each four inputs,
//! packed by the task that multiplies with them.

use super::isa::{DOT_ROWS, Isa, with_isa};
use super::layout::{Block, QuantizedRows, Weights, cut};
use crate::cpu::gemm::{Finish, transpose_to};
use crate::cpu::{Matrix, Output, SharedOutput, ThreadTeam};

/// Tokens up to which the factor is read in place.
const MAX_DOT_TOKENS: usize = 6;
/// Bytes of the factor that a task with few tokens reads: enough for the prefetcher, few enough to share out.
const DOT_TASK_BYTES: usize = 32 << 10;
/// Bytes of inputs that a task takes through a panel: half of the smallest L2 cache.
const TASK_INPUT_BYTES: usize = 128 << 10;
/// Registers of a panel.
const VECTORS: usize = 2;
/// Rows of the widest panel.
const MAX_NR: usize = 32;
/// Rows of the largest register tile.
const MAX_MR: usize = 12;

/// `y [tokens, m]` of `x`, and what follows. Every output feature must belong to one row of one of the `blocks`.
pub(super) fn product(
    x: &QuantizedRows<'_>,
    w: Weights<'_>,
    blocks: &[Block],
    y: &mut Output<'_, f32>,
    m: usize,
    finish: Finish<'_, f32>,
    team: &ThreadTeam,
) {
    let y = y.share();
    // The kernels read as many bytes as this says.
    assert!(w.depth == x.depth && x.depth <= x.stride && x.stride.is_multiple_of(64), "a weight for every input");
    assert!(x.values.len() >= x.groups * x.tokens * x.stride && y.len() == x.tokens * m, "rows of all tokens");
    for block in blocks {
        assert!(block.group < x.groups && block.output + block.rows <= m, "a block within the product");
        assert!((block.first + block.rows) * w.depth <= w.values.len(), "rows of the factor");
        assert!(block.first + block.rows <= w.scales.len(), "scales of the factor");
    }
    with_isa!(I => match x.tokens <= MAX_DOT_TOKENS {
        true => few_tokens::<I>(x, w, blocks, y, m, finish, team),
        false => many_tokens::<I>(x, w, blocks, y, m, finish, team),
    });
}

fn few_tokens<I: Isa>(
    x: &QuantizedRows<'_>,
    w: Weights<'_>,
    blocks: &[Block],
    y: SharedOutput<'_, f32>,
    m: usize,
    finish: Finish<'_, f32>,
    team: &ThreadTeam,
) {
    let rows = (DOT_TASK_BYTES / w.depth.max(1)).max(1).next_multiple_of(DOT_ROWS);
    let blocks = cut(blocks, rows);
    team.parallel_for(blocks.len(), |task| {
        let block = blocks[task];
        // SAFETY: `with_isa` chose instructions that this processor has. Rows and inputs are there, as `product` asserted, and
        // no other task has the outputs of this block.
        unsafe {
            I::run(
                #[inline(always)]
                || dot_block::<I>(x, w, block, y, m, finish.bias),
            );
            finish_block(block, 0..x.tokens, y, m, finish);
        }
    });
}

/// # Safety
///
/// As for [`Isa`]; the block must be within the operands, and the caller alone with its outputs.
#[inline(always)]
unsafe fn dot_block<I: Isa>(
    x: &QuantizedRows<'_>,
    w: Weights<'_>,
    block: Block,
    y: SharedOutput<'_, f32>,
    m: usize,
    bias: Option<&[f32]>,
) {
    for first in (0..block.rows).step_by(DOT_ROWS) {
        let part = block.part(first, DOT_ROWS.min(block.rows - first));
        // Rows that are missing are the last one once more.
        let row = |i: usize| part.first + i.min(part.rows - 1);
        let rows: [*const i8; DOT_ROWS] = std::array::from_fn(|i| w.values[row(i) * w.depth..].as_ptr());
        for token in 0..x.tokens {
            let input = block.group * x.tokens + token;
            // SAFETY: as the caller says.
            let sums = unsafe { I::dot_rows(rows, x.values[input * x.stride..].as_ptr(), w.depth) };
            // SAFETY: as the caller says.
            unsafe { store_sums::<I>(&sums[..part.rows], x, input, w, part, y, token * m, bias) };
        }
    }
}

fn many_tokens<I: Isa>(
    x: &QuantizedRows<'_>,
    w: Weights<'_>,
    blocks: &[Block],
    y: SharedOutput<'_, f32>,
    m: usize,
    finish: Finish<'_, f32>,
    team: &ThreadTeam,
) {
    let panels = cut(blocks, VECTORS * I::LANES);
    let chunk = (TASK_INPUT_BYTES / x.stride.max(1)).max(1).next_multiple_of(MAX_MR).min(x.tokens);
    let chunks = x.tokens.div_ceil(chunk);
    team.parallel_for(chunks * panels.len(), |task| {
        let (first, panel) = (task / panels.len() * chunk, panels[task % panels.len()]);
        let tokens = first..x.tokens.min(first + chunk);
        let units = w.depth.div_ceil(4);
        super::with_panels(units * VECTORS * I::LANES, |[rows, packed]| {
            pack::<I>(w, panel, rows, packed);
            let packed = bytemuck::cast_slice_mut::<f32, u8>(packed);
            // SAFETY: as in `few_tokens`.
            unsafe {
                I::run(
                    #[inline(always)]
                    || match I::LANES {
                        16 => panel_block::<I, 32>(x, w, panel, packed, tokens.clone(), y, m, finish.bias),
                        8 => panel_block::<I, 16>(x, w, panel, packed, tokens.clone(), y, m, finish.bias),
                        lanes => unreachable!("no instruction set has {lanes} lanes"),
                    },
                );
                finish_block(panel, tokens, y, m, finish);
            }
        });
    });
}

/// Packs the rows of a block: for each four inputs, the four weights of every row. `rows` has room for the rows at a multiple of four
/// inputs. The places of missing rows hold anything at all: nobody reads their sums.
fn pack<I: Isa>(w: Weights<'_>, block: Block, rows: &mut [f32], packed: &mut [f32]) {
    let (units, count) = (w.depth.div_ceil(4), block.rows);
    let weights = &w.values[block.first * w.depth..][..count * w.depth];
    // Four weights are moved as one f32.
    let weights = match bytemuck::try_cast_slice::<i8, f32>(weights) {
        Ok(weights) if w.depth.is_multiple_of(4) => weights,
        _ => {
            let bytes = bytemuck::cast_slice_mut::<f32, i8>(rows);
            for (row, weights) in bytes.chunks_exact_mut(4 * units).zip(weights.chunks_exact(w.depth)) {
                row[..w.depth].copy_from_slice(weights);
                row[w.depth..].fill(0);
            }
            &rows[..count * units]
        }
    };
    transpose_to(Matrix::row_major(weights, count, units, units), packed, VECTORS * I::LANES);
}

/// # Safety
///
/// As [`dot_block`], with `packed` the block's panel and `NR` rows of a panel.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the loop around the tiles, taken out for the instruction set")]
unsafe fn panel_block<I: Isa, const NR: usize>(
    x: &QuantizedRows<'_>,
    w: Weights<'_>,
    block: Block,
    packed: &mut [u8],
    tokens: std::ops::Range<usize>,
    y: SharedOutput<'_, f32>,
    m: usize,
    bias: Option<&[f32]>,
) {
    for weight in packed.iter_mut() {
        *weight = weight.wrapping_add(I::OFFSET);
    }
    let (mut scales, mut added) = ([0.0f32; NR], [0.0f32; NR]);
    scales[..block.rows].copy_from_slice(&w.scales[block.first..][..block.rows]);
    if let Some(bias) = bias {
        added[..block.rows].copy_from_slice(&bias[block.output..][..block.rows]);
    }
    let mut token = tokens.start;
    let mut sums = [0i32; MAX_MR * MAX_NR];
    while token < tokens.end {
        let left = tokens.end - token;
        let input = block.group * x.tokens + token;
        let inputs = x.values[input * x.stride..].as_ptr();
        // SAFETY: as the caller says: `count` rows of inputs, and a panel of their depth.
        let count = unsafe {
            match left {
                12.. if I::WIDE => tile::<I, 12>(inputs, x.stride, w.depth, packed, &mut sums),
                4.. => tile::<I, 4>(inputs, x.stride, w.depth, packed, &mut sums),
                2.. => tile::<I, 2>(inputs, x.stride, w.depth, packed, &mut sums),
                _ => tile::<I, 1>(inputs, x.stride, w.depth, packed, &mut sums),
            }
        };
        for (i, sums) in sums.as_chunks::<NR>().0.iter().take(count).enumerate() {
            let (scale, correction) = (x.scales[input + i], i32::from(I::OFFSET) * x.sums[input + i]);
            let values: [f32; NR] =
                std::array::from_fn(|v| (sums[v] - correction) as f32 * (scale * scales[v]) + added[v]);
            // SAFETY: as the caller says; every element is written.
            let out = unsafe { y.uninit_slice((token + i) * m + block.output, block.rows) };
            match out.as_chunks_mut::<NR>() {
                ([out], []) => _ = out.write_copy_of_slice(&values),
                (_, out) => _ = out.write_copy_of_slice(&values[..block.rows]),
            }
        }
        token += count;
    }
}

/// The sums of `R` rows of inputs with a panel; returns `R`.
///
/// # Safety
///
/// As for [`Isa`], with `R` rows of `depth` inputs, `stride` apart and padded to a multiple of four.
#[inline(always)]
unsafe fn tile<I: Isa, const R: usize>(
    inputs: *const i8,
    stride: usize,
    depth: usize,
    packed: &[u8],
    out: &mut [i32; MAX_MR * MAX_NR],
) -> usize {
    let (lanes, units) = (I::LANES, depth.div_ceil(4));
    assert!(packed.len() >= units * 4 * VECTORS * lanes && R <= MAX_MR && VECTORS * lanes <= MAX_NR, "a panel");
    // SAFETY: the panel has `units` units, as asserted, and the rows are there, as the caller says.
    unsafe {
        let mut sums = [[I::zero(); VECTORS]; R];
        for unit in 0..units {
            let weights = packed.as_ptr().add(unit * 4 * VECTORS * lanes);
            for (i, sums) in sums.iter_mut().enumerate() {
                let features = inputs.add(i * stride + unit * 4).cast::<i32>().read_unaligned();
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = I::dot(*sum, weights.add(v * 4 * lanes), features);
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                I::store(sum, out.as_mut_ptr().add((i * VECTORS + v) * lanes));
            }
        }
    }
    R
}

/// Stores the sums of one token and a few rows as floats, with the bias.
///
/// # Safety
///
/// The block must be within the output, and the caller alone with these elements.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "as above")]
unsafe fn store_sums<I: Isa>(
    sums: &[i32],
    x: &QuantizedRows<'_>,
    input: usize,
    w: Weights<'_>,
    block: Block,
    y: SharedOutput<'_, f32>,
    start: usize,
    bias: Option<&[f32]>,
) {
    let (scale, correction) = (x.scales[input], i32::from(I::OFFSET) * x.sums[input]);
    let scales = &w.scales[block.first..][..sums.len()];
    // SAFETY: as the caller says; every element is written.
    let out = unsafe { y.uninit_slice(start + block.output, sums.len()) };
    for (i, (out, (sum, w_scale))) in out.iter_mut().zip(sums.iter().zip(scales)).enumerate() {
        let bias = bias.map_or(0.0, |bias| bias[block.output + i]);
        out.write((sum - correction) as f32 * (scale * w_scale) + bias);
    }
}

/// Applies what follows to the outputs of a block.
///
/// # Safety
///
/// They must be stored, and the caller alone with them.
unsafe fn finish_block(
    block: Block,
    tokens: std::ops::Range<usize>,
    y: SharedOutput<'_, f32>,
    m: usize,
    finish: Finish<'_, f32>,
) {
    if finish.is_bias() {
        return;
    }
    for token in tokens {
        let start = token * m + block.output;
        // SAFETY: as the caller says.
        finish.apply(unsafe { y.slice(start, block.rows) }, start);
    }
}

#[cfg(test)]
mod tests {
    use super::super::isa::Portable;
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    use super::super::isa::{Avx2, Avx512Vnni, AvxVnni};
    use super::*;

    /// Numbers from −127 to 127.
    fn numbers(count: usize, seed: usize) -> Vec<i8> {
        (0..count).map(|i| (((i + seed) * 7919 + i * i) % 255) as i32 - 127).map(|value| value as i8).collect()
    }

    /// Two groups of inputs, and a block of rows for each.
    fn check<I: Isa>(name: &str) {
        let sizes: &[[usize; 3]] =
            if cfg!(miri) { &[[1, 5, 3], [7, 6, 9]] } else { &[[1, 5, 3], [3, 130, 37], [7, 64, 33], [29, 66, 40]] };
        for &[tokens, depth, rows] in sizes {
            let (groups, stride) = (2, depth.next_multiple_of(64));
            let (mut values, mut sums) = (vec![0i8; groups * tokens * stride], vec![0i32; groups * tokens]);
            for (row, (values, sum)) in values.chunks_exact_mut(stride).zip(&mut sums).enumerate() {
                values[..depth].copy_from_slice(&numbers(depth, row));
                *sum = values.iter().map(|value| i32::from(*value)).sum();
            }
            let mut scales: Vec<f32> = (1..=groups * tokens).map(|row| row as f32 / 64.0).collect();
            let (weights, m) = (numbers(groups * rows * depth, 5), groups * rows);
            let w_scales: Vec<f32> = (1..=m).map(|row| row as f32 / 32.0).collect();
            let bias: Vec<f32> = (0..m).map(|row| row as f32).collect();
            let w = Weights { values: &weights, scales: &w_scales, depth };
            let blocks: Vec<Block> =
                (0..groups).map(|group| Block { group, first: group * rows, rows, output: group * rows }).collect();
            let product = |token: usize, row: usize| {
                let input = row / rows * tokens + token;
                let x = &values[input * stride..][..depth];
                let sum: i32 = weights[row * depth..].iter().zip(x).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum();
                sum as f32 * (scales[input] * w_scales[row]) + bias[row]
            };
            let expected: Vec<f32> = (0..tokens * m).map(|i| product(i / m, i % m)).collect();
            let (mut values, mut scales_of) = (values.clone(), std::mem::take(&mut scales));
            let x = QuantizedRows {
                groups,
                tokens,
                depth,
                stride,
                values: &mut values,
                scales: &mut scales_of,
                sums: &mut sums,
            };
            let (finish, team) = (Finish::bias(Some(&bias)), ThreadTeam::default());
            let mut found = [vec![f32::NAN; tokens * m], vec![f32::NAN; tokens * m]];
            let [few, many] = &mut found;
            few_tokens::<I>(&x, w, &blocks, SharedOutput::new(few), m, finish, &team);
            many_tokens::<I>(&x, w, &blocks, SharedOutput::new(many), m, finish, &team);
            assert_eq!(found, [expected.clone(), expected], "{name}: {tokens} tokens, {depth} inputs, {rows} rows");
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_products() {
        check::<Portable>("plain loops");
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            if Avx2::is_available() {
                check::<Avx2>("AVX2");
            }
            if AvxVnni::is_available() {
                check::<AvxVnni>("AVX-VNNI");
            }
            if Avx512Vnni::is_available() {
                check::<Avx512Vnni>("AVX-512 VNNI");
            }
        }
    }
}
