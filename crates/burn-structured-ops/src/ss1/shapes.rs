//! Output shapes of the stages, from operands that are checked to fit: what fusion needs before anything is computed, and
//! what every kernel relies on.
//!
//! All functions panic if a shape does not fit the others, or the fold.

use super::Fold;
use crate::operands::axes;
use burn::tensor::Shape;

/// `a [tokens, w]` of `x [tokens, n]`.
pub(super) fn folded([x]: [&Shape; 1], fold: Fold) -> Shape {
    fold.check();
    let [tokens, n] = axes("ss1", "x", x);
    assert_eq!(n, fold.d_input, "ss1: x {x:?} must have n = {} features", fold.d_input);
    Shape::new([tokens, fold.width()])
}

/// `x [tokens, n]` of `a [tokens, w]`.
pub(super) fn unfolded([a]: [&Shape; 1], fold: Fold) -> Shape {
    fold.check();
    let [tokens, width] = axes("ss1", "a", a);
    assert_eq!(width, fold.width(), "ss1: a {a:?} must have w = {} features", fold.width());
    Shape::new([tokens, fold.d_input])
}

/// `y [tokens, m]` of `x [tokens, n]` and `z [w, m]`.
pub(super) fn product([x, z]: [&Shape; 2], fold: Fold) -> Shape {
    let [tokens, width] = axes("ss1", "sketch", &folded([x], fold));
    let [rows, m] = axes("ss1", "z", z);
    assert_eq!(rows, width, "ss1: z {z:?} must have w = {width} rows");
    Shape::new([tokens, m])
}

/// `dx [tokens, n]` of `dy [tokens, m]` and `z [w, m]`.
pub(super) fn input_gradient([dy, z]: [&Shape; 2], fold: Fold) -> Shape {
    fold.check();
    let ([tokens, m], [width, columns]) = (axes("ss1", "dy", dy), axes("ss1", "z", z));
    assert!(width == fold.width() && columns == m, "ss1: dy {dy:?} and z {z:?} do not fit w = {}", fold.width());
    Shape::new([tokens, fold.d_input])
}

/// `dz [w, m]` of `x [tokens, n]` and `dy [tokens, m]`.
pub(super) fn weight_gradient([x, dy]: [&Shape; 2], fold: Fold) -> Shape {
    let [tokens, width] = axes("ss1", "sketch", &folded([x], fold));
    let [rows, m] = axes("ss1", "dy", dy);
    assert_eq!(rows, tokens, "ss1: x {x:?} and dy {dy:?} must have as many tokens");
    Shape::new([width, m])
}
