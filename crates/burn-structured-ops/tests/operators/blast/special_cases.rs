//! Matrices that BLAST contains exactly (paper §2), each built as factors and compared with its own definition.

use super::case::{Case, Sizes};
use super::reference::dense;
use burn::tensor::DType;

const TOLERANCE: f64 = 1e-13;

fn assert_equal(actual: &[f64], expected: &[f64]) {
    assert_eq!(actual.len(), expected.len());
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert!((actual - expected).abs() < TOLERANCE, "[{index}]: {actual} instead of {expected}");
    }
}

/// The dense weight computed by the crate itself, from the factors of `case`.
#[cfg(feature = "flex")]
fn to_dense(case: &Case) -> Vec<f64> {
    use burn::tensor::{Device, Tensor, TensorCreationOptions, TensorData};
    let device = Device::flex();
    let Sizes { b1, b2, p, q, r, .. } = case.sizes;
    let options = || TensorCreationOptions::from((&device, DType::F64));
    let tensor =
        |values: &[f64], shape: [usize; 3]| Tensor::<3>::from_data(TensorData::new(values.to_vec(), shape), options());
    let weight = burn_structured_ops::blast::blast_to_dense(
        tensor(&case.u, [b1, p, r]),
        tensor(&case.s, [b1, b2, r]),
        tensor(&case.v, [b2, q, r]),
    );
    weight.into_data().convert::<f64>().try_into_vec::<f64>().expect("f64 values")
}

fn random(sizes: Sizes, seed: u64) -> Case {
    Case::random(sizes, seed, DType::F64)
}

#[test]
#[cfg(feature = "flex")]
fn to_dense_is_the_definition() {
    for sizes in super::case::shapes() {
        let case = random(sizes, 5);
        assert_equal(&to_dense(&case), &dense(&case));
    }
}

#[test]
#[cfg(feature = "flex")]
fn low_rank_is_blast_with_unit_coupling() {
    let sizes = Sizes { tokens: 1, b1: 3, b2: 2, p: 4, q: 5, r: 3 };
    let mut case = random(sizes, 1);
    case.s.fill(1.0);
    // U [m, r] and V [n, r], whose rows the blocks merely group.
    let expected: Vec<f64> = (0..sizes.m() * sizes.n())
        .map(|entry| {
            let (row, col) = (entry / sizes.n(), entry % sizes.n());
            (0..sizes.r).map(|k| case.u[row * sizes.r + k] * case.v[col * sizes.r + k]).sum()
        })
        .collect();
    assert_equal(&to_dense(&case), &expected);
}

#[test]
#[cfg(feature = "flex")]
fn block_diagonal_is_blast_with_identity_coupling() {
    // Blocks of full rank: U_i is any [p, p] block, V_j the identity.
    let sizes = Sizes { tokens: 1, b1: 3, b2: 3, p: 4, q: 4, r: 4 };
    let mut case = random(sizes, 2);
    let index = |a: usize, b: usize, width: usize| a * width + b;
    for i in 0..3 {
        for j in 0..3 {
            for k in 0..4 {
                case.s[index(index(i, j, 3), k, 4)] = f64::from(i == j);
                for row in 0..4 {
                    case.v[index(index(j, row, 4), k, 4)] = f64::from(row == k);
                }
            }
        }
    }
    let expected: Vec<f64> = (0..144)
        .map(|entry| {
            let (row, col) = (entry / 12, entry % 12);
            if row / 4 == col / 4 { case.u[row * 4 + col % 4] } else { 0.0 }
        })
        .collect();
    assert_equal(&to_dense(&case), &expected);
}

/// Blocks `Σ_t u_ij^t (v_ij^t)ᵀ` of rank `t`, `u` and `v` as `[b1, b2, t, p]` and `[b1, b2, t, q]`.
#[cfg(feature = "flex")]
fn block_low_rank(b1: usize, b2: usize, p: usize, q: usize, t: usize) {
    let shift = b1.max(b2);
    let sizes = Sizes { tokens: 1, b1, b2, p, q, r: shift * t };
    let draw = random(Sizes { tokens: 1, b1: b1 * b2, b2: b1 * b2, p, q, r: t }, 3);
    let u = |i: usize, j: usize, rank: usize, row: usize| draw.u[((i * b2 + j) * p + row) * t + rank];
    let v = |i: usize, j: usize, rank: usize, col: usize| draw.v[((i * b2 + j) * q + col) * t + rank];

    // Component (k, rank) of U_i serves block (i, k - i), of V_j block (k - j, j), and s_ij picks k = i + j.
    let mut case = random(sizes, 4);
    for rank in 0..t {
        for k in 0..shift {
            let component = rank * shift + k;
            for i in 0..b1 {
                let j = (k + shift - i) % shift;
                for row in 0..p {
                    case.u[(i * p + row) * sizes.r + component] = if j < b2 { u(i, j, rank, row) } else { 0.0 };
                }
                for j in 0..b2 {
                    case.s[(i * b2 + j) * sizes.r + component] = f64::from((i + j) % shift == k);
                }
            }
            for j in 0..b2 {
                let i = (k + shift - j) % shift;
                for col in 0..q {
                    case.v[(j * q + col) * sizes.r + component] = if i < b1 { v(i, j, rank, col) } else { 0.0 };
                }
            }
        }
    }
    let expected: Vec<f64> = (0..sizes.m() * sizes.n())
        .map(|entry| {
            let (row, col) = (entry / sizes.n(), entry % sizes.n());
            let (i, j) = (row / p, col / q);
            (0..t).map(|rank| u(i, j, rank, row % p) * v(i, j, rank, col % q)).sum()
        })
        .collect();
    assert_equal(&to_dense(&case), &expected);
}

#[test]
#[cfg(feature = "flex")]
fn block_low_rank_is_blast_with_cyclic_coupling() {
    block_low_rank(3, 3, 4, 5, 1);
    block_low_rank(3, 3, 4, 5, 2);
}

#[test]
#[cfg(feature = "flex")]
fn block_low_rank_may_have_unequal_block_counts() {
    block_low_rank(2, 4, 3, 2, 1);
    block_low_rank(5, 3, 2, 3, 2);
}
