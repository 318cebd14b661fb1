//! The full_tile product: choosing a path.

use super::coupling::Couplings;
use super::{decode, fused, staged, token_major};
use crate::blast::{BlastCandidate, BlastStrategy, Sizes};
use crate::cpu::gemm::{Rows, SharedOutput, alloc_uninit_with};
use crate::cpu::{Matrix, Scalar, ThreadTeam, contiguous, dense_slice, gemv, with_rows};
use burn::tensor::Shape;
use burn_flex::FlexTensor;

/// Tokens from which packing the factors pays.
const MIN_STRIP_TOKENS: usize = 9;
/// The same in the backward pass, which has products over the tokens as well.
const MIN_STRIP_TOKENS_BACKWARD: usize = 3;

#[derive(Debug, PartialEq)]
enum Path {
    Staged,
    Strips,
    Streamed,
}

impl Path {
    fn choose(tokens: usize, strategy: BlastStrategy) -> Self {
        match strategy {
            BlastStrategy::Staged | BlastStrategy::Candidate(BlastCandidate::TiledGemm) => Self::Staged,
            BlastStrategy::Fused => Self::Strips,
            BlastStrategy::Decode => Self::Streamed,
            _ if tokens < MIN_STRIP_TOKENS => Self::Streamed,
            _ => Self::Strips,
        }
    }
}

/// Whether the backward pass takes a strip of the rank at a time; else it goes stage by stage.
pub(super) fn goes_back_in_strips(tokens: usize, strategy: BlastStrategy) -> bool {
    match Path::choose(tokens, strategy) {
        _ if strategy == BlastStrategy::Reference => false,
        Path::Staged => false,
        Path::Strips => true,
        Path::Streamed => tokens >= MIN_STRIP_TOKENS_BACKWARD,
    }
}

/// `y [tokens, m]`, and `z [b2, tokens, r]` if `save`.
#[allow(clippy::too_many_arguments)]
pub(super) fn run<E: Scalar>(
    sizes: Sizes,
    x: FlexTensor,
    u: &FlexTensor,
    s: &FlexTensor,
    v: &FlexTensor,
    bias: Option<&FlexTensor>,
    strategy: BlastStrategy,
    save: bool,
) -> (FlexTensor, Option<FlexTensor>) {
    let bias = bias.map(FlexTensor::to_contiguous);
    let bias = bias.as_ref().map(dense_slice::<E>);
    let path = match Path::choose(sizes.tokens, strategy) {
        Path::Streamed if ![u, v].into_iter().all(gemv::reads) => Path::Strips,
        path => path,
    };
    if path == Path::Staged {
        let z = staged::project::<E>(&x, v);
        let t = staged::couple::<E>(z.clone(), s.clone());
        let y = staged::expand::<E>(t, u, bias);
        return (y, save.then_some(z));
    }

    let s = Couplings::<E>::readable(s.clone());
    let s = Couplings::of(&s);
    let m = sizes.b1 * sizes.p;
    let x = with_rows::<E>(x);
    let x = if path == Path::Streamed { x.to_contiguous() } else { x };
    let product = |y: SharedOutput<'_, E>, z: Option<SharedOutput<'_, E>>| {
        let team = ThreadTeam::default();
        if path == Path::Streamed {
            decode::product(&team, sizes, dense_slice(&x), u, s, v, bias, y, z);
        } else {
            let rows = Rows::of(Matrix::of(&x, 0)).expect("contiguous rows");
            let token_chunk = fused::token_chunk::<E>(sizes.tokens, sizes.b1 * sizes.r);
            let cut = |tokens| fused::cut::<E>(sizes, tokens);
            fused::product(&team, sizes, rows, u, s, v, bias, y, z, token_chunk, cut);
        }
    };
    let mut z = None;
    // SAFETY: either product writes all of its output, and all projections if they are wanted.
    let y = unsafe {
        alloc_uninit_with(sizes.tokens * m, |y| {
            if save {
                z = Some(alloc_uninit_with(sizes.tokens * sizes.b2 * sizes.r, |z| product(y, Some(z))));
            } else {
                product(y, None);
            }
        })
    };
    let z = z.map(|z| token_major(z, [sizes.b2, sizes.tokens, sizes.r]));
    (contiguous(y, Shape::new([sizes.tokens, m])), z)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handful_of_tokens_is_streamed_and_more_go_in_strips() {
        assert_eq!(Path::choose(1, BlastStrategy::Auto), Path::Streamed);
        assert_eq!(Path::choose(MIN_STRIP_TOKENS, BlastStrategy::Auto), Path::Strips);
        assert_eq!(Path::choose(1, BlastStrategy::Fused), Path::Strips);
        assert_eq!(Path::choose(512, BlastStrategy::Staged), Path::Staged);
    }

    #[test]
    fn the_backward_pass_goes_in_strips_unless_it_is_told_otherwise_or_of_next_to_nothing() {
        assert!(!goes_back_in_strips(1, BlastStrategy::Auto) && goes_back_in_strips(1, BlastStrategy::Fused));
        assert!(goes_back_in_strips(MIN_STRIP_TOKENS_BACKWARD, BlastStrategy::Auto));
        for strategy in
            [BlastStrategy::Staged, BlastStrategy::Candidate(BlastCandidate::TiledGemm), BlastStrategy::Reference]
        {
            assert!(!goes_back_in_strips(512, strategy), "{strategy:?}");
        }
    }
}
