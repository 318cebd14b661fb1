//! BLAST on Flex, straight on the tensors' own storage.
//!
//! Three ways through the product, by size:
//!
//! - **strips** (`strips.rs`): a strip of the rank goes through projection and coupling while its intermediates are in
//!   cache, out of packed panels with kernels of ours; `x` is read and `y` written in place through strides;
//! - **streamed** (`streamed.rs`), for a handful of tokens (decoding): the factors are read once, as they lie;
//! - **staged** (`stages.rs`): each stage over all tokens by the `gemm` crate. The single stages of the backward pass are these,
//!   and whole products by request.
//!
//! Intermediates are laid out token by token (`[tokens, b, r]` in memory, `[b, tokens, r]` by shape): a tile of tokens
//! is then one contiguous chunk, which rayon can hand to a thread without any unsafe sharing.
//!
//! f32 and f64 are native. f16 and bf16 are converted to f32 and back, which also accumulates in f32.

mod coupling;
mod cut;
mod expansion;
mod forward;
mod gradients;
mod layout;
mod projection;
mod stages;
mod streamed;
mod strips;
mod turned;

use super::backward::staged_gradients;
use super::{BlastBackend, BlastStrategy, Sizes, reference, shapes};
use crate::Bias;
use crate::cpu::panel::Rows;
use crate::cpu::{
    Crew, Matrix, Scalar, contiguous, dense_slice, from_native, in_native, to_native, with_native, with_rows,
};
use crate::operands::check;
use burn::backend::Flex;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Bytes, Shape};
use burn_flex::{FlexTensor, Layout};
use coupling::Couplings;

impl BlastBackend for Flex {
    fn blast_forward(
        x: FloatTensor<Self>,
        u: FloatTensor<Self>,
        s: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: Bias<Self>,
        strategy: BlastStrategy,
    ) -> FloatTensor<Self> {
        forward(x, u, s, v, bias, strategy, false).0
    }

    fn blast_forward_saving(
        x: FloatTensor<Self>,
        u: FloatTensor<Self>,
        s: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: Bias<Self>,
        strategy: BlastStrategy,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (y, z) = forward(x, u, s, v, bias, strategy, true);
        (y, z.expect("the projections were asked for"))
    }

    fn blast_project(x: FloatTensor<Self>, factor: FloatTensor<Self>, _: BlastStrategy) -> FloatTensor<Self> {
        check(shapes::projection, [&x, &factor]);
        in_native([x, factor], |[x, factor]| with_native!(x.dtype(), E => stages::project::<E>(&x, &factor)))
    }

    fn blast_couple(z: FloatTensor<Self>, s: FloatTensor<Self>) -> FloatTensor<Self> {
        check(shapes::coupling, [&z, &s]);
        in_native([z, s], |[z, s]| with_native!(z.dtype(), E => stages::couple::<E>(z, s)))
    }

    fn blast_expand(t: FloatTensor<Self>, factor: FloatTensor<Self>, _: BlastStrategy) -> FloatTensor<Self> {
        check(shapes::expansion, [&t, &factor]);
        in_native([t, factor], |[t, factor]| with_native!(t.dtype(), E => stages::expand::<E>(t, &factor, None)))
    }

    fn blast_coupling_gradient(t_grad: FloatTensor<Self>, z: FloatTensor<Self>) -> FloatTensor<Self> {
        check(shapes::coupling_gradient, [&t_grad, &z]);
        in_native([t_grad, z], |[t_grad, z]| with_native!(z.dtype(), E => stages::coupling_gradient::<E>(t_grad, z)))
    }

    fn blast_factor_gradient(x: FloatTensor<Self>, z: FloatTensor<Self>, _: BlastStrategy) -> FloatTensor<Self> {
        check(shapes::factor_gradient, [&x, &z]);
        in_native([x, z], |[x, z]| with_native!(z.dtype(), E => stages::factor_gradient::<E>(&x, &z)))
    }

    fn blast_gradients(
        x: FloatTensor<Self>,
        u: FloatTensor<Self>,
        s: FloatTensor<Self>,
        v: FloatTensor<Self>,
        z: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        strategy: BlastStrategy,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        check(shapes::gradients, [&x, &u, &s, &v, &z, &dy]);
        match gradients(&x, &u, &s, &v, &z, &dy, strategy) {
            Some([dx, du, ds, dv]) => (dx, du, ds, dv),
            None => staged_gradients::<Self>(x, u, s, v, z, dy, strategy),
        }
    }
}

/// Every gradient a strip of the rank at a time, or `None` where the stages serve better.
fn gradients(
    x: &FlexTensor,
    u: &FlexTensor,
    s: &FlexTensor,
    v: &FlexTensor,
    z: &FlexTensor,
    dy: &FlexTensor,
    strategy: BlastStrategy,
) -> Option<[FlexTensor; 4]> {
    let sizes = Sizes::new(x, u, v);
    if !forward::goes_back_in_strips(sizes.tokens, strategy) || sizes.is_empty() {
        return None;
    }
    assert_eq!(
        dy.layout().shape().dims(),
        [sizes.tokens, sizes.b1 * sizes.p],
        "blast: the gradient of y has its shape"
    );
    assert_eq!(z.layout().shape().dims(), [sizes.b2, sizes.tokens, sizes.r], "blast: z is the projections of x");
    let dtype = x.dtype();
    let [x, u, s, v, z, dy] = [x, u, s, v, z, dy].map(|tensor| to_native(tensor.clone()));
    let gradients = with_native!(x.dtype(), E => {
        let dy = with_rows::<E>(dy);
        let s = Couplings::<E>::readable(s);
        let z = into_token_major(z);
        let dy_matrix = Matrix::<E>::of(&dy, 0);
        let operands = gradients::Operands {
            x: Matrix::of(&x, 0),
            u: &u,
            s: Couplings::of(&s),
            v: &v,
            z: dense_slice(&z),
            dy: dy_matrix,
            dy_rows: Rows::of(dy_matrix)?,
        };
        let portion = strips::portion::<E>(sizes.tokens, (sizes.b1 + sizes.b2) * sizes.r);
        let gradients = gradients::run(&Crew::default(), sizes, operands, portion);
        let mut shapes = [&x, &u, &s, &v].map(|tensor| tensor.layout().shape().clone()).into_iter();
        gradients.map(|values| contiguous(values, shapes.next().expect("a shape for every gradient")))
    });
    Some(gradients.map(|gradient| from_native(gradient, dtype)))
}

/// `y`, and `z` if it is asked for.
fn forward(
    x: FlexTensor,
    u: FlexTensor,
    s: FlexTensor,
    v: FlexTensor,
    bias: Bias<Flex>,
    strategy: BlastStrategy,
    save: bool,
) -> (FlexTensor, Option<FlexTensor>) {
    check(shapes::product, [&x, &u, &s, &v]);
    let sizes = Sizes::new(&x, &u, &v);
    bias.check(sizes.b1 * sizes.p, x.dtype());
    if strategy == BlastStrategy::Reference || sizes.is_empty() {
        let (y, z) = reference::forward::<Flex>(x, u, s, v, bias);
        return (y, save.then_some(z));
    }
    let dtype = x.dtype();
    let bias = bias.into_option().map(to_native);
    let [x, u, s, v] = [x, u, s, v].map(to_native);
    let (y, z) = with_native!(x.dtype(), E => {
        forward::run::<E>(sizes, x, &u, &s, &v, bias.as_ref(), strategy, save)
    });
    (from_native(y, dtype), z.map(|z| from_native(z, dtype)))
}

/// A tensor of shape `[blocks, tokens, r]` over `data` in the order `[tokens, blocks, r]`.
fn token_major<E: Scalar>(data: Vec<E>, [blocks, tokens, r]: [usize; 3]) -> FlexTensor {
    let strides = vec![r as isize, (blocks * r) as isize, 1];
    let layout = Layout::new(Shape::new([blocks, tokens, r]), strides, 0);
    FlexTensor::new(Bytes::from_elems(data), layout, E::dtype())
}

/// The same values with their storage in the order `[tokens, blocks, r]`, exactly as long as it needs to be.
fn into_token_major(z: FlexTensor) -> FlexTensor {
    let [blocks, tokens, r] = z.layout().shape().dims();
    let by_token = Flex::float_swap_dims(z, 0, 1);
    let by_token = if by_token.is_contiguous() { by_token } else { by_token.to_contiguous() };
    let start = by_token.layout().start_offset();
    let layout = Layout::new(Shape::new([blocks, tokens, r]), vec![r as isize, (blocks * r) as isize, 1], start);
    by_token.with_layout(layout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::panel::SharedOutput;

    const SIZES: Sizes = Sizes { tokens: 53, b1: 3, b2: 2, p: 5, q: 7, r: 19 };

    fn drawn<const D: usize>(shape: [usize; D], seed: usize) -> FlexTensor {
        let count = shape.iter().product();
        let values: Vec<f64> = (0..count).map(|index| ((index * 31 + seed) % 17) as f64 / 8.0 - 1.0).collect();
        contiguous(values, Shape::new(shape))
    }

    /// `y`, `z` and the four gradients, so many tokens at a time.
    fn outcome(portion: usize) -> [Vec<f64>; 6] {
        let Sizes { tokens, b1, b2, p, q, r } = SIZES;
        let (x, dy) = (drawn([tokens, b2 * q], 1), drawn([tokens, b1 * p], 2));
        let (u, s, v) = (drawn([b1, p, r], 3), drawn([b1, b2, r], 4), drawn([b2, q, r], 5));
        let (x_matrix, dy_matrix) = (Matrix::<f64>::of(&x, 0), Matrix::<f64>::of(&dy, 0));
        let couplings = Couplings::of(&s);
        let rows = Rows::of(x_matrix).expect("contiguous rows");
        let crew = Crew::default();
        let [mut y, mut z] = [tokens * b1 * p, tokens * b2 * r].map(|len| vec![0.0; len]);
        {
            let [y, z] = [&mut y, &mut z].map(|out| SharedOutput::new(out));
            let cut = |tokens| strips::cut::<f64>(SIZES, tokens);
            strips::product(&crew, SIZES, rows, &u, couplings, &v, None, y, Some(z), portion, cut);
        }
        let operands = gradients::Operands {
            x: x_matrix,
            u: &u,
            s: couplings,
            v: &v,
            z: &z,
            dy: dy_matrix,
            dy_rows: Rows::of(dy_matrix).expect("contiguous rows"),
        };
        let [dx, du, ds, dv] = gradients::run(&crew, SIZES, operands, portion);
        [y, z, dx, du, ds, dv]
    }

    #[test]
    fn tokens_may_be_taken_in_portions() {
        let (whole, portions) = (outcome(SIZES.tokens), outcome(20));
        for (whole, portions) in whole.iter().flatten().zip(portions.iter().flatten()) {
            // Sums over tokens are added up in another order.
            assert!((whole - portions).abs() <= 1e-12 * whole.abs().max(1.0), "{whole} and {portions}");
        }
        assert!(whole.iter().all(|values| values.iter().any(|value| *value != 0.0)));
    }

    /// Several tiles of tokens for a task, several runs of terms, and the last strip narrower than the others.
    #[test]
    fn gradients_in_many_tiles_are_those_of_the_stages() {
        let Sizes { tokens, b1, b2, p, q, r } = Sizes { tokens: 700, b1: 3, b2: 2, p: 300, q: 5, r: 261 };
        // Whole numbers, so that no order of summation rounds.
        let drawn = |count: usize, seed: usize| (0..count).map(|at| ((at * 7 + seed) % 19) as f64 - 9.0).collect();
        let tensor = |shape: Shape, seed| contiguous::<f64>(drawn(shape.num_elements(), seed), shape);
        let (x, dy) = (tensor(Shape::new([tokens, b2 * q]), 1), tensor(Shape::new([tokens, b1 * p]), 2));
        let (u, s) = (tensor(Shape::new([b1, p, r]), 3), tensor(Shape::new([b1, b2, r]), 4));
        let v = tensor(Shape::new([b2, q, r]), 5);
        let z = stages::project::<f64>(&x, &v);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
        let strips = pool.install(|| gradients(&x, &u, &s, &v, &z, &dy, BlastStrategy::Fused)).expect("in strips");
        let (dx, du, ds, dv) = staged_gradients::<Flex>(x, u, s, v, z, dy, BlastStrategy::Staged);
        for (name, strips, staged) in [("x", 0, dx), ("u", 1, du), ("s", 2, ds), ("v", 3, dv)]
            .map(|(name, index, staged)| (name, &strips[index], staged.to_contiguous()))
        {
            assert!(dense_slice::<f64>(strips) == dense_slice::<f64>(&staged), "the gradient of {name}");
        }
    }
}
