//! Tokens transposed into panels.

use super::exp::Exponential;
use crate::cpu::gemm::{nr, transpose};
use crate::cpu::{Matrix, load, store};
use pulp::Simd;

/// Packs the transposed `tokens [count, features]` into panels of `NR` tokens each, as
/// [`pack_panels`](crate::cpu::gemm::pack_panels) does; missing tokens of the last panel are zero.
///
/// Sentences are short and have any length. The tokens that do not fill a register are therefore filled up with zeros, so that they are
/// transposed by shuffles as well, in `filled`, which has room for half a panel.
///
/// # Panics
///
/// If `panels` is not `⌈count / NR⌉ · features · NR` long, or `filled` is shorter than `features · NR / 2`.
pub(super) fn pack_transposed<E: Exponential>(tokens: Matrix<'_, E>, panels: &mut [E], filled: &mut [E]) {
    pulp::Arch::new().dispatch(PackTransposed { tokens, panels, filled });
}

struct PackTransposed<'a, 'b, E> {
    tokens: Matrix<'a, E>,
    panels: &'b mut [E],
    filled: &'b mut [E],
}

impl<E: Exponential> pulp::WithSimd for PackTransposed<'_, '_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { tokens, panels, filled } = self;
        let (nr, lanes, features) = (nr::<S, E>(), E::lanes::<S>(), tokens.cols);
        assert_eq!(panels.len(), tokens.rows.div_ceil(nr) * features * nr, "room for every panel");
        for (index, panel) in panels.chunks_exact_mut(features * nr).enumerate() {
            for half in [0, lanes] {
                let first = (index * nr + half).min(tokens.rows);
                let count = lanes.min(tokens.rows - first);
                let out = &mut panel[half..];
                if count == 0 {
                    for feature in 0..features {
                        out[feature * nr..][..lanes].fill(E::ZERO);
                    }
                } else if count == lanes {
                    transpose::<S, E>(tokens.rows(first, count), out, nr);
                } else {
                    let (rows, rest) = filled[..lanes * features].split_at_mut(count * features);
                    for (token, row) in rows.chunks_exact_mut(features).enumerate() {
                        copy::<S, E>(tokens.row_slice(first + token), row);
                    }
                    rest.fill(E::ZERO);
                    transpose::<S, E>(Matrix::row_major(filled, lanes, features, features), out, nr);
                }
            }
        }
    }
}

/// Copies a row by registers: `copy_from_slice` would call `memcpy` for each.
#[inline(always)]
fn copy<S: Simd, E: Exponential>(row: &[E], out: &mut [E]) {
    let lanes = E::lanes::<S>();
    let full = row.len() - row.len() % lanes;
    for (row, out) in row[..full].chunks_exact(lanes).zip(out[..full].chunks_exact_mut(lanes)) {
        store::<S, E>(out, load::<S, E>(row));
    }
    for (row, out) in row[full..].iter().zip(&mut out[full..]) {
        *out = *row;
    }
}
