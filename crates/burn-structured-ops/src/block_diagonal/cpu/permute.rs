//! Permuting features between grouped and strided order: the features of a token as a matrix, transposed.

use crate::cpu::gemm::{Finish, transpose};
use crate::cpu::{Matrix, Output, Scalar, SharedOutput, ThreadTeam, Workspace, split_aligned};
use pulp::Simd;

/// Tokens of a task.
const TOKENS: usize = 8;

/// `out[token, j · rows + i] = x[token, i · cols + j]`, and what follows: the features of every token as a matrix `[rows, cols]`,
/// transposed.
///
/// # Panics
///
/// If the rows of `x` are not contiguous, or the sizes do not fit.
pub(crate) fn permute_features<E: Scalar>(
    team: &ThreadTeam,
    x: Matrix<'_, E>,
    sizes: [usize; 2],
    finish: Finish<'_, E>,
    mut out: Output<'_, E>,
) {
    let out = out.share();
    let [rows, cols] = sizes;
    assert!(rows * cols == x.cols && out.len() == x.rows * x.cols, "as many features in as out");
    assert!(finish.bias.is_none_or(|bias| bias.len() == x.cols), "a bias for every feature");
    team.parallel_for(x.rows.div_ceil(TOKENS), |task| {
        let start = task * TOKENS;
        let x = x.rows(start, TOKENS.min(x.rows - start));
        let out = out.part(start * x.cols, x.rows * x.cols);
        E::with_buffer(Workspace::Task, |buffer| {
            let [token] = split_aligned(buffer, [x.cols]);
            pulp::Arch::new().dispatch(PermuteFeatures {
                x,
                sizes,
                finish: finish.rows_from(start, x.cols),
                token,
                out,
            });
        });
    });
}

/// Some tokens.
struct PermuteFeatures<'a, E: Scalar> {
    x: Matrix<'a, E>,
    sizes: [usize; 2],
    finish: Finish<'a, E>,
    /// Room for the features of a token.
    token: &'a mut [E],
    out: SharedOutput<'a, E>,
}

impl<E: Scalar> pulp::WithSimd for PermuteFeatures<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { x, sizes: [rows, cols], finish, token, out } = self;
        for at in 0..x.rows {
            let x = x.row_slice(at);
            match (rows, cols) {
                (_, 2) => deinterleave::<E, 2>(x, token),
                (_, 3) => deinterleave::<E, 3>(x, token),
                (_, 4) => deinterleave::<E, 4>(x, token),
                (2, _) => interleave::<E, 2>(x, token),
                (3, _) => interleave::<E, 3>(x, token),
                (4, _) => interleave::<E, 4>(x, token),
                _ => transpose::<S, E>(Matrix::row_major(x, rows, cols, cols), token, rows),
            }
            // SAFETY: no other task has these tokens.
            let out = unsafe { out.uninit_slice(at * x.len(), x.len()) };
            let out = out.write_copy_of_slice(token);
            if let Some(bias) = finish.bias {
                out.iter_mut().zip(bias).for_each(|(out, bias)| *out += *bias);
            }
            finish.apply(out, at * x.len());
        }
    }
}

/// Few columns, which the squares of [`transpose`] are too large for.
#[inline(always)]
fn deinterleave<E: Scalar, const COLS: usize>(x: &[E], out: &mut [E]) {
    let mut rest = out;
    let len = x.len() / COLS;
    let mut columns: [&mut [E]; COLS] =
        std::array::from_fn(|_| rest.split_off_mut(..len).expect("a column for every group"));
    for (i, x) in x.as_chunks::<COLS>().0.iter().enumerate() {
        for (column, value) in columns.iter_mut().zip(x) {
            column[i] = *value;
        }
    }
}

/// Few rows.
#[inline(always)]
fn interleave<E: Scalar, const ROWS: usize>(x: &[E], out: &mut [E]) {
    let len = x.len() / ROWS;
    let rows: [&[E]; ROWS] = std::array::from_fn(|row| &x[row * len..][..len]);
    for (j, out) in out.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
        for (out, row) in out.iter_mut().zip(rows) {
            *out = row[j];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens, rows and columns: few rows, few columns, many of both.
    const SIZES: &[[usize; 3]] = if cfg!(miri) {
        &[[1, 1, 1], [3, 5, 2], [9, 2, 5], [9, 6, 4], [2, 4, 7], [2, 3, 7], [2, 9, 5]]
    } else {
        &[[1, 1, 1], [3, 5, 2], [9, 2, 5], [17, 40, 4], [8, 4, 33], [20, 3, 7], [5, 19, 16], [2, 16, 40]]
    };

    #[test]
    fn permute_features_transposes_every_token() {
        for &[tokens, rows, cols] in SIZES {
            let n = rows * cols;
            let values: Vec<f32> = (0..tokens * (n + 3)).map(|at| at as f32).collect();
            let x = Matrix::row_major(&values, tokens, n, n + 3);
            let bias: Vec<f32> = (0..n).map(|at| at as f32 / 1024.0).collect();
            for bias in [None, Some(&bias[..])] {
                let mut out = vec![f32::NAN; tokens * n];
                let finish = Finish::bias(bias);
                permute_features(&ThreadTeam::default(), x, [rows, cols], finish, Output::of_slice(&mut out));
                for (at, out) in out.into_iter().enumerate() {
                    let (token, j, i) = (at / n, at % n / rows, at % rows);
                    let expected = x.at(token, i * cols + j) + bias.map_or(0.0, |bias| bias[at % n]);
                    assert_eq!(out, expected, "{tokens} × [{rows}, {cols}], token {token}: ({i}, {j})");
                }
            }
        }
    }
}
