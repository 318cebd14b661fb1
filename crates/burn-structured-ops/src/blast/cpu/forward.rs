//! The whole product and all gradients: which strategy for which sizes.

use super::coupling::Couplings;
use super::fused::Weights;
use super::tiling::Tiling;
use super::{decode, fused, gradients, into_token_major, staged, token_major};
use crate::EpilogueTensors;
use crate::blast::{BlastCandidate, BlastStrategy, Sizes, reference, shapes};
use crate::cpu::gemm::{Finish, Rows};
use crate::cpu::{
    Matrix, Output, Scalar, ThreadTeam, alloc_uninit_with, contiguous, dense_slice, from_native, gemv, on_pool,
    to_native, with_native, with_rows,
};
use crate::operands::check;
use burn::backend::Flex;
use burn::tensor::Shape;
use burn_flex::FlexTensor;

/// Tokens from which packing the factors pays.
const MIN_FUSED_TOKENS: usize = 9;
/// The same in the backward pass, which has products over the tokens as well.
const MIN_FUSED_TOKENS_BACKWARD: usize = 3;

/// The strategy that computes the product.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Strategy {
    Reference,
    Staged,
    Fused,
    Decode,
}

impl Strategy {
    fn choose(tokens: usize, strategy: BlastStrategy) -> Self {
        match strategy {
            BlastStrategy::Reference => Self::Reference,
            BlastStrategy::Staged | BlastStrategy::Candidate(BlastCandidate::TiledGemm) => Self::Staged,
            BlastStrategy::Fused => Self::Fused,
            BlastStrategy::Decode => Self::Decode,
            _ if tokens < MIN_FUSED_TOKENS => Self::Decode,
            _ => Self::Fused,
        }
    }

    /// The strategy of the backward pass.
    fn choose_backward(tokens: usize, strategy: BlastStrategy) -> Self {
        match Self::choose(tokens, strategy) {
            Self::Decode if tokens < MIN_FUSED_TOKENS_BACKWARD => Self::Staged,
            Self::Decode => Self::Fused,
            other => other,
        }
    }
}

/// `y [tokens, m]`, and `z [b2, tokens, r]` if it is kept.
pub(super) fn forward(
    x: FlexTensor,
    u: FlexTensor,
    s: FlexTensor,
    v: FlexTensor,
    epilogue: EpilogueTensors<Flex>,
    strategy: BlastStrategy,
    keep: bool,
) -> (FlexTensor, Option<FlexTensor>) {
    check(shapes::product, [&x, &u, &s, &v]);
    let sizes = Sizes::new(&x, &u, &v);
    epilogue.check([sizes.tokens, sizes.b1 * sizes.p], x.dtype());
    let strategy = Strategy::choose(sizes.tokens, strategy);
    if strategy == Strategy::Reference || sizes.is_empty() {
        let (y, z) = reference::forward::<Flex>(x, u, s, v, epilogue);
        return (y, keep.then_some(z));
    }
    let dtype = x.dtype();
    let epilogue = epilogue.into_native();
    let [x, u, s, v] = [x, u, s, v].map(to_native);
    let product = || {
        with_native!(x.dtype(), E => {
            forward_native::<E>(sizes, x, &u, s, &v, epilogue.finish(), strategy, keep)
        })
    };
    let (y, z) = on_pool(sizes.tokens, product);
    (from_native(y, dtype), z.map(|z| from_native(z, dtype)))
}

#[allow(clippy::too_many_arguments)]
fn forward_native<E: Scalar>(
    sizes: Sizes,
    x: FlexTensor,
    u: &FlexTensor,
    s: FlexTensor,
    v: &FlexTensor,
    finish: Finish<'_, E>,
    strategy: Strategy,
    keep: bool,
) -> (FlexTensor, Option<FlexTensor>) {
    let Sizes { tokens, b1, b2, p, r, .. } = sizes;
    if strategy == Strategy::Staged {
        let z = staged::project::<E>(x, v);
        let t = staged::couple::<E>(z.clone(), s);
        return (staged::expand::<E>(t, u, finish), keep.then_some(z));
    }
    // The streamed products read rows of the factors in place; others are packed.
    let decodes = strategy == Strategy::Decode && [u, v].into_iter().all(gemv::reads);
    let s = Couplings::<E>::readable(s);
    let weights = Weights { u, s: Couplings::of(&s), v, finish };
    let x = if decodes { x.to_contiguous() } else { with_rows::<E>(x) };
    let product = |y: Output<'_, E>, z: Option<Output<'_, E>>| {
        let team = ThreadTeam::default();
        if decodes {
            return decode::forward(&team, sizes, dense_slice(&x), weights, y, z);
        }
        let rows = Rows::of(Matrix::of(&x, 0)).expect("contiguous rows");
        let tiling = |tokens| Tiling::forward::<E>(sizes, tokens);
        fused::forward(&team, sizes, rows, weights, y, z, fused::token_chunk::<E>(tokens, b1 * r), tiling);
    };
    let mut z = None;
    // SAFETY: either product writes all of its output, and all projections if they are wanted.
    let y = unsafe {
        alloc_uninit_with(tokens * b1 * p, |y| {
            if keep {
                z = Some(alloc_uninit_with(tokens * b2 * r, |z| product(y, Some(z))));
            } else {
                product(y, None);
            }
        })
    };
    let z = z.map(|z| match decodes {
        true => contiguous(z, Shape::new([b2, tokens, r])),
        false => token_major(z, [b2, tokens, r]),
    });
    (contiguous(y, Shape::new([tokens, b1 * p])), z)
}

/// Every gradient by rank blocks, or `None` where the stages serve better.
pub(super) fn gradients(
    x: &FlexTensor,
    u: &FlexTensor,
    s: &FlexTensor,
    v: &FlexTensor,
    z: &FlexTensor,
    dy: &FlexTensor,
    strategy: BlastStrategy,
) -> Option<[FlexTensor; 4]> {
    let sizes = Sizes::new(x, u, v);
    if Strategy::choose_backward(sizes.tokens, strategy) != Strategy::Fused || sizes.is_empty() {
        return None;
    }
    let Sizes { tokens, b1, b2, r, .. } = sizes;
    let dtype = x.dtype();
    let [x, u, s, v, z, dy] = [x, u, s, v, z, dy].map(|tensor| to_native(tensor.clone()));
    let gradients = with_native!(x.dtype(), E => {
        let dy = with_rows::<E>(dy);
        let s = Couplings::<E>::readable(s);
        let z = into_token_major(z);
        let dy = Matrix::<E>::of(&dy, 0);
        let operands = gradients::Operands {
            x: Matrix::of(&x, 0),
            u: &u,
            s: Couplings::of(&s),
            v: &v,
            z: dense_slice(&z),
            dy,
            dy_rows: Rows::of(dy)?,
        };
        let token_chunk = fused::token_chunk::<E>(tokens, (b1 + b2) * r);
        let gradients =
            on_pool(tokens, || gradients::gradients(&ThreadTeam::default(), sizes, operands, token_chunk));
        let mut shapes = [&x, &u, &s, &v].map(|tensor| tensor.layout().shape().clone()).into_iter();
        gradients.map(|values| contiguous(values, shapes.next().expect("a shape for every gradient")))
    });
    Some(gradients.map(|gradient| from_native(gradient, dtype)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_decodes_few_tokens_and_fuses_more() {
        let choose = |tokens| Strategy::choose(tokens, BlastStrategy::Auto);
        assert_eq!([1, MIN_FUSED_TOKENS - 1].map(choose), [Strategy::Decode; 2]);
        assert_eq!(choose(MIN_FUSED_TOKENS), Strategy::Fused);
        assert_eq!(Strategy::choose(1, BlastStrategy::Fused), Strategy::Fused);
        assert_eq!(Strategy::choose(1, BlastStrategy::Candidate(BlastCandidate::Autotuned)), Strategy::Decode);
    }

    #[test]
    fn backward_is_fused_from_three_tokens_on() {
        let choose = |tokens, strategy| Strategy::choose_backward(tokens, strategy);
        assert_eq!(choose(2, BlastStrategy::Auto), Strategy::Staged);
        assert_eq!(choose(3, BlastStrategy::Auto), Strategy::Fused);
        assert_eq!(choose(1, BlastStrategy::Fused), Strategy::Fused);
        assert_eq!(choose(100, BlastStrategy::Staged), Strategy::Staged);
        assert_eq!(choose(100, BlastStrategy::Reference), Strategy::Reference);
    }

    /// The streamed products beside packed ones, of few enough tokens for Miri.
    #[test]
    fn strategies_agree_on_two_threads() {
        let [tokens, b1, b2, p, q, r] = [7, 2, 3, 3, 5, 5];
        let tensor = |dims: &[usize]| {
            // Whole numbers, so that no order of summation rounds.
            let values = (0..dims.iter().product()).map(|at: usize| (at * 7 % 19) as f32 - 9.0).collect();
            contiguous(values, Shape::from(dims.to_vec()))
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("a pool");
        let product = |strategy| {
            let [x, u, s] = [&[tokens, b2 * q][..], &[b1, p, r], &[b1, b2, r]].map(tensor);
            let (v, bias) = (tensor(&[b2, q, r]), crate::OptionalTensor::Some(tensor(&[b1 * p])).into());
            let (y, z) = pool.install(|| forward(x, u, s, v, bias, strategy, true));
            [y, z.expect("projections")].map(|tensor| dense_slice::<f32>(&tensor.to_contiguous()).to_vec())
        };
        let staged = product(BlastStrategy::Staged);
        assert_eq!(product(BlastStrategy::Decode), staged);
        assert_eq!(product(BlastStrategy::Fused), staged);
    }
}
