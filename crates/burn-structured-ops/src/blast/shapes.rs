//! Output shapes of the stages, from operands that are checked to fit: what fusion needs before anything is computed, and
//! what every kernel relies on.
//!
//! All functions panic if a shape does not fit the others.

use crate::operands::axes;
use burn::tensor::Shape;

/// `y [tokens, m]` of `x [tokens, n]` and the factors.
pub(super) fn product([x, u, s, v]: [&Shape; 4]) -> Shape {
    let z = projection([x, v]);
    let t = coupling([&z, s]);
    expansion([&t, u])
}

/// `[b, tokens, r]` of `x [tokens, b q]` and `factor [b, q, r]`.
pub(super) fn projection([x, factor]: [&Shape; 2]) -> Shape {
    let [tokens, n] = axes("blast projection", "x", x);
    let [blocks, q, r] = axes("blast projection", "factor", factor);
    assert_eq!(n, blocks * q, "blast projection: x {x:?} and factor {factor:?} do not fit");
    Shape::new([blocks, tokens, r])
}

/// `t [b1, tokens, r]` of `z [b2, tokens, r]` and `s [b1, b2, r]`.
pub(super) fn coupling([z, s]: [&Shape; 2]) -> Shape {
    let [in_blocks, tokens, r] = axes("blast coupling", "z", z);
    let [out_blocks, columns, rank] = axes("blast coupling", "s", s);
    assert!(columns == in_blocks && rank == r, "blast coupling: z {z:?} and s {s:?} do not fit");
    Shape::new([out_blocks, tokens, r])
}

/// `y [tokens, b p]` of `t [b, tokens, r]` and `factor [b, p, r]`.
pub(super) fn expansion([t, factor]: [&Shape; 2]) -> Shape {
    let [blocks, tokens, r] = axes("blast expansion", "t", t);
    let [factors, p, rank] = axes("blast expansion", "factor", factor);
    assert!(factors == blocks && rank == r, "blast expansion: t {t:?} and factor {factor:?} do not fit");
    Shape::new([tokens, blocks * p])
}

/// `ds [b1, b2, r]` of `dt [b1, tokens, r]` and `z [b2, tokens, r]`.
pub(super) fn coupling_gradient([t_grad, z]: [&Shape; 2]) -> Shape {
    let [out_blocks, tokens, r] = axes("blast coupling gradient", "dt", t_grad);
    let [in_blocks, z_tokens, rank] = axes("blast coupling gradient", "z", z);
    assert!(z_tokens == tokens && rank == r, "blast coupling gradient: dt {t_grad:?} and z {z:?} do not fit");
    Shape::new([out_blocks, in_blocks, r])
}

/// `ds [b1, b2, r]` of `dt [b1, tokens, r]`, `z [b2, tokens, r]` and `s [b1, b2, r]`.
pub(super) fn coupling_backward([t_grad, z, s]: [&Shape; 3]) -> Shape {
    let s_grad = coupling_gradient([t_grad, z]);
    assert_eq!(*s, s_grad, "blast coupling gradient: dt {t_grad:?}, z {z:?} and s do not fit");
    s_grad
}

/// `[b, q, r]` of `x [tokens, b q]` and `z [b, tokens, r]`.
pub(super) fn factor_gradient([x, z]: [&Shape; 2]) -> Shape {
    let [tokens, n] = axes("blast factor gradient", "x", x);
    let [blocks, z_tokens, r] = axes("blast factor gradient", "z", z);
    let fits = z_tokens == tokens && blocks > 0 && n.is_multiple_of(blocks);
    assert!(fits, "blast factor gradient: x {x:?} and z {z:?} do not fit");
    Shape::new([blocks, n / blocks, r])
}

/// `y [tokens, m]` of a whole product, whose projections `z` and gradient `dy` have to fit as well.
#[cfg(any(feature = "flex", test))]
pub(super) fn gradients([x, u, s, v, z, dy]: [&Shape; 6]) -> Shape {
    let y = product([x, u, s, v]);
    assert!(*z == projection([x, v]) && *dy == y, "blast gradients: z {z:?} and dy {dy:?} do not fit the product");
    y
}
