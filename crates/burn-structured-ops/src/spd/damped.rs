//! Damping: what makes a singular system usable.

use super::{SpdError, SpdStrategy, check_operands, computed, factor, is_empty, read, solve};
use burn::tensor::{DType, Int, Tensor, TensorData};

/// The share of the mean diagonal that damping ends at.
const LIMIT: f64 = 0.1;

/// What damping is multiplied by when it was not enough.
const GROWTH: f64 = 10.0;

/// [`spd_solve`](super::spd_solve) for matrices that may be singular, such as Gram matrices: `(a + ε trace(a) / n · I) x = b`.
///
/// `ε` is 0 for the matrices that have a usable factor as they are. For each of the others it is the first of
/// `ε₀, 10 ε₀, 100 ε₀, …` up to 0.1 that gives one, where `ε₀` is the larger of the machine epsilon of the tensors' dtype
/// and `n` times that of the type computed in (f32 for f16 and bf16). A factor is usable if every pivot is a number above
/// `n` units roundoff of its diagonal element; below that it would be rounding errors. Waits for the device.
///
/// Shapes and gradients are those of [`spd_solve`](super::spd_solve); `ε` is a constant, the trace is differentiated.
///
/// # Errors
///
/// If a matrix has no usable factor even with the largest `ε` (it holds NaN, is zero, or has an eigenvalue below about
/// −0.1 of its mean diagonal), a shape does not fit the other, or the tensors' dtypes differ.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_structured_ops::spd::spd_solve_damped;
///
/// let device = Device::flex();
/// let singular = Tensor::<3>::ones([1, 3, 3], &device);
/// let x = spd_solve_damped(singular.clone(), Tensor::ones([1, 3, 1], &device)).unwrap();
/// assert!((singular.matmul(x) - 1.0).abs().max().into_scalar::<f32>() < 1e-3);
/// ```
pub fn spd_solve_damped(a: Tensor<3>, b: Tensor<3>) -> Result<Tensor<3>, SpdError> {
    check_operands(&a, &b)?;
    if is_empty(&b) {
        return Ok(b.zeros_like());
    }
    let dtype = a.dtype();
    let first = epsilon(dtype).max(a.dims()[1] as f64 * epsilon(computed(dtype)));
    // The damping itself must not be rounded to the storage type.
    let (a, b) = (a.cast(computed(dtype)), b.cast(computed(dtype)));
    let (damping, factor) = usable_factor(a.clone().detach(), first)?;
    let a = if damping.iter().any(|damping| *damping > 0.0) { damped(a, &damping) } else { a };
    Ok(solve(a, factor, b, SpdStrategy::Auto).cast(dtype))
}

/// The damping of every matrix, and the factors of the damped matrices.
fn usable_factor(a: Tensor<3>, first: f64) -> Result<(Vec<f64>, Tensor<3>), SpdError> {
    let batch = a.dims()[0];
    let mut damping = vec![0.0; batch];
    let mut factors = vec![factor(&a, SpdStrategy::Auto)];
    // Where each matrix's factor lies in all of `factors` laid end to end.
    let mut places: Vec<usize> = (0..batch).collect();
    let mut unusable: Vec<usize> = without_usable_pivots(&a, &factors[0]);
    let (mut epsilon, mut end) = (first, batch);
    while !unusable.is_empty() {
        if epsilon > LIMIT {
            return Err(SpdError::NotDamped { matrices: unusable, batch, limit: LIMIT });
        }
        let part = damped(select(a.clone(), &unusable), &vec![epsilon; unusable.len()]);
        let factor = factor(&part, SpdStrategy::Auto);
        for (index, matrix) in unusable.iter().enumerate() {
            places[*matrix] = end + index;
            damping[*matrix] = epsilon;
        }
        end += unusable.len();
        unusable = without_usable_pivots(&part, &factor).into_iter().map(|index| unusable[index]).collect();
        factors.push(factor);
        epsilon *= GROWTH;
    }
    let factor = match factors.len() {
        1 => factors.remove(0),
        _ => select(Tensor::cat(factors, 0), &places),
    };
    Ok((damping, factor))
}

/// The matrices of which a pivot is not a number well above rounding errors.
fn without_usable_pivots(a: &Tensor<3>, factor: &Tensor<3>) -> Vec<usize> {
    let [batch, n, _] = a.dims();
    let roundoff = epsilon(a.dtype()) / 2.0;
    let (diagonals, roots) = (read(diagonal(a.clone())), read(diagonal(factor.clone())));
    let usable = |(root, diagonal): (&f64, &f64)| root * root > n as f64 * roundoff * diagonal;
    let pivots = |matrix: usize| roots[matrix * n..][..n].iter().zip(&diagonals[matrix * n..][..n]);
    (0..batch).filter(|matrix| !pivots(*matrix).all(usable)).collect()
}

/// `a_i + damping_i trace(a_i) / n · I`.
fn damped(a: Tensor<3>, damping: &[f64]) -> Tensor<3> {
    let [batch, n, _] = a.dims();
    let options = (&a.device(), a.dtype());
    let share = damping.iter().map(|damping| damping / n as f64).collect::<Vec<_>>();
    let share = Tensor::<2>::from_data(TensorData::new(share, [batch, 1]), options);
    let added = (diagonal(a.clone()).sum_dim(1) * share).reshape([batch, 1, 1]);
    let identity = Tensor::<2>::eye(n, &a.device()).cast(a.dtype());
    a + identity.unsqueeze::<3>() * added
}

/// The diagonals `[batch, n]`; nothing else of the matrices is read.
fn diagonal(a: Tensor<3>) -> Tensor<2> {
    let [batch, n, _] = a.dims();
    let places: Vec<i64> = (0..n).map(|row| (row * (n + 1)) as i64).collect();
    let places = Tensor::<1, Int>::from_data(TensorData::new(places, [n]), &a.device());
    a.reshape([batch, n * n]).select(1, places)
}

fn select(a: Tensor<3>, matrices: &[usize]) -> Tensor<3> {
    let places = matrices.iter().map(|matrix| *matrix as i64).collect();
    let places = TensorData::new::<i64, _>(places, [matrices.len()]);
    let places = Tensor::<1, Int>::from_data(places, &a.device());
    a.select(0, places)
}

fn epsilon(dtype: DType) -> f64 {
    dtype.finfo().map_or(f64::EPSILON, |info| info.epsilon)
}
