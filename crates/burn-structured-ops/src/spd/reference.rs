//! Cholesky in plain Burn operations: the fallback of every backend and the reference of the tests.
//!
//! Column by column, with elementwise products only: matmul, which some devices get wrong, is left to the gradient.

use super::{computed, shapes};
use crate::operands::check;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{DType, FloatDType, Slice};

/// `tensor` in another type, if it is not of that type already.
pub(super) fn cast<B: Backend>(tensor: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if tensor.dtype() == dtype { tensor } else { B::float_cast(tensor, FloatDType::from(dtype)) }
}

/// Rows `rows` and columns `cols` of every matrix.
fn window<B: Backend>(
    tensor: &FloatTensor<B>,
    rows: std::ops::Range<usize>,
    cols: std::ops::Range<usize>,
) -> FloatTensor<B> {
    B::float_slice(tensor.clone(), &[Slice::from(0..tensor.shape()[0]), Slice::from(rows), Slice::from(cols)])
}

/// The square root of `pivot [batch, 1, 1]`, NaN unless it is a positive number.
fn root<B: Backend>(pivot: FloatTensor<B>) -> FloatTensor<B> {
    let settings = burn::backend::get_device_settings::<B>(&pivot.device());
    let zero_or_less = B::float_lower_equal_elem(pivot.clone(), 0.0.into(), settings.bool_dtype);
    let infinite = B::float_equal_elem(pivot.clone(), f64::INFINITY.into(), settings.bool_dtype);
    let root = B::float_sqrt(B::float_mask_fill(pivot, infinite, f64::NAN.into()));
    B::float_mask_fill(root, zero_or_less, f64::NAN.into())
}

/// `L` with `L Lᵀ = a`; zero above the diagonal.
pub(super) fn factor<B: Backend>(a: FloatTensor<B>) -> FloatTensor<B> {
    shapes::factor(&a.shape());
    let dtype = computed(a.dtype());
    // What of the matrix is not yet explained by the columns so far; above its diagonal meaningless.
    let mut rest = cast::<B>(a, dtype);
    let n = rest.shape()[1];
    let mut columns = Vec::with_capacity(n);
    for done in 0..n {
        let size = n - done;
        let root = root::<B>(window::<B>(&rest, 0..1, 0..1));
        let column = B::float_div(window::<B>(&rest, 0..size, 0..1), root);
        if size > 1 {
            let below = window::<B>(&column, 1..size, 0..1);
            let outer = B::float_mul(below.clone(), B::float_swap_dims(below, 1, 2));
            rest = B::float_sub(window::<B>(&rest, 1..size, 1..size), outer);
        }
        columns.push(if done == 0 {
            column
        } else {
            let shape = [column.shape()[0], done, 1].into();
            let zeros = B::float_zeros(shape, &column.device(), FloatDType::from(dtype));
            B::float_cat(vec![zeros, column], 1)
        });
    }
    B::float_cat(columns, 2)
}

/// `x` with `L Lᵀ x = b`.
pub(super) fn substitute<B: Backend>(factor: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
    shapes::check_solution(&factor, &b);
    let dtype = b.dtype();
    let n = factor.shape()[1];
    let k = b.shape()[2];
    let mut rest = cast::<B>(b, factor.dtype());
    let mut rows = Vec::with_capacity(n);
    for row in 0..n {
        let value = B::float_div(window::<B>(&rest, 0..1, 0..k), window::<B>(&factor, row..row + 1, row..row + 1));
        if row + 1 < n {
            let explained = B::float_mul(window::<B>(&factor, row + 1..n, row..row + 1), value.clone());
            rest = B::float_sub(window::<B>(&rest, 1..n - row, 0..k), explained);
        }
        rows.push(value);
    }
    let mut rest = B::float_cat(rows, 1);
    let mut rows = Vec::with_capacity(n);
    for row in (0..n).rev() {
        let value =
            B::float_div(window::<B>(&rest, row..row + 1, 0..k), window::<B>(&factor, row..row + 1, row..row + 1));
        if row > 0 {
            let coefficients = B::float_swap_dims(window::<B>(&factor, row..row + 1, 0..row), 1, 2);
            let explained = B::float_mul(coefficients, value.clone());
            rest = B::float_sub(window::<B>(&rest, 0..row, 0..k), explained);
        }
        rows.push(value);
    }
    rows.reverse();
    cast::<B>(B::float_cat(rows, 1), dtype)
}

/// `−(db xᵀ + x dbᵀ) / 2`, given the product `db xᵀ`.
pub(super) fn symmetrised<B: Backend>(product: FloatTensor<B>) -> FloatTensor<B> {
    let both = B::float_add(product.clone(), B::float_swap_dims(product, 1, 2));
    B::float_mul_scalar(both, (-0.5).into())
}

pub(super) fn matrix_gradient<B: Backend>(db: FloatTensor<B>, x: FloatTensor<B>) -> FloatTensor<B> {
    check(shapes::matrix_gradient, [&db, &x]);
    symmetrised::<B>(B::float_matmul(db, B::float_swap_dims(x, 1, 2)))
}
