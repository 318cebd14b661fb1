//! Output shapes, from operands that are checked to fit: what fusion needs before anything is computed, and what every kernel
//! relies on.
//!
//! Both functions panic if a shape does not fit the other.

use crate::operands::axes;
use burn::tensor::Shape;

/// `y [tokens, b p]` of `x [tokens, b q]` and `w [b, p, q]`.
pub(super) fn product([x, w]: [&Shape; 2]) -> Shape {
    let ([tokens, n], [blocks, p, q]) = (axes("block_diagonal", "x", x), axes("block_diagonal", "w", w));
    assert_eq!(n, blocks * q, "block_diagonal: x {x:?} and w {w:?} do not fit");
    Shape::new([tokens, blocks * p])
}

/// `dw [b, p, q]` of `x [tokens, b q]` and `dy [tokens, b p]`.
pub(super) fn gradient([x, dy]: [&Shape; 2], blocks: usize) -> Shape {
    let ([tokens, n], [rows, m]) = (axes("block_diagonal", "x", x), axes("block_diagonal", "dy", dy));
    let fits = rows == tokens && blocks > 0 && n.is_multiple_of(blocks) && m.is_multiple_of(blocks);
    assert!(fits, "block_diagonal: x {x:?} and dy {dy:?} do not fit {blocks} blocks");
    Shape::new([blocks, m / blocks, n / blocks])
}
