//! Output shapes and types, from operands that are checked to fit: what fusion needs before anything is computed, and what
//! every kernel relies on.
//!
//! The shape functions panic if a shape does not fit the other.

use crate::operands::axes;
use burn::tensor::{DType, Shape};

/// The type in which systems of `dtype` are solved.
pub(super) fn computed(dtype: DType) -> DType {
    match dtype {
        DType::F64 => DType::F64,
        _ => DType::F32,
    }
}

/// The factors of `a [batch, n, n]`, which must not be empty.
pub(super) fn factor(a: &Shape) -> Shape {
    let [batch, n, columns] = axes("spd", "a", a);
    assert!(columns == n && batch * n > 0, "spd: matrices must be square and not empty, got {a:?}");
    a.clone()
}

/// The solutions for `b [batch, n, k]`, which must not be empty, by `factor [batch, n, n]`.
pub(super) fn solution(matrices: &Shape, b: &Shape) -> Shape {
    let [batch, n, k] = axes("spd", "b", b);
    let fits = factor(matrices)[..2] == [batch, n] && k > 0;
    assert!(fits, "spd: matrices {matrices:?} and right-hand sides {b:?} do not fit");
    b.clone()
}

/// Checks a factor and the right-hand sides: [`solution`], and the type that systems are solved in.
pub(super) fn check_solution<T: burn::backend::TensorMetadata>(factor: &T, b: &T) {
    solution(&factor.shape(), &b.shape());
    let (found, expected) = (factor.dtype(), computed(b.dtype()));
    assert_eq!(found, expected, "spd: the factor for {:?} must be in the type that it is solved in", b.dtype());
}

/// The gradients `[batch, n, n]` for `db` and `x [batch, n, k]`.
pub(super) fn matrix_gradient([db, x]: [&Shape; 2]) -> Shape {
    let [batch, n, _] = axes("spd", "x", x);
    assert_eq!(db, x, "spd: the gradient and the solution must have the same shape");
    Shape::new([batch, n, n])
}
