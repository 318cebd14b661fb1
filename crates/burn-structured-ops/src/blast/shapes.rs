//! Output shapes, which fusion needs before anything is computed.

use burn::tensor::Shape;

pub(super) fn output(x: &Shape, u: &Shape) -> Shape {
    Shape::new([x[0], u[0] * u[1]])
}

pub(super) fn projection(x: &Shape, factor: &Shape) -> Shape {
    Shape::new([factor[0], x[0], factor[2]])
}

pub(super) fn coupling(z: &Shape, s: &Shape) -> Shape {
    Shape::new([s[0], z[1], z[2]])
}

pub(super) fn expansion(t: &Shape, factor: &Shape) -> Shape {
    Shape::new([t[1], factor[0] * factor[1]])
}

pub(super) fn coupling_gradient(t_grad: &Shape, z: &Shape) -> Shape {
    Shape::new([t_grad[0], z[0], z[2]])
}

pub(super) fn factor_gradient(x: &Shape, z: &Shape) -> Shape {
    Shape::new([z[0], x[1] / z[0], z[2]])
}
