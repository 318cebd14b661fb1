//! Output shapes, which fusion needs before anything is computed.

use super::Fold;
use burn::tensor::Shape;

pub(super) fn folded(x: &Shape, fold: &Fold) -> Shape {
    Shape::new([x[0], fold.width()])
}

pub(super) fn unfolded(rows: &Shape, fold: &Fold) -> Shape {
    Shape::new([rows[0], fold.d_input])
}

pub(super) fn product(x: &Shape, z: &Shape) -> Shape {
    Shape::new([x[0], z[1]])
}

pub(super) fn weight_gradient(dy: &Shape, fold: &Fold) -> Shape {
    Shape::new([fold.width(), dy[1]])
}
