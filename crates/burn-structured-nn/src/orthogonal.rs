//! Random orthonormal vectors, which the factors of BLAST start from.

use rayon::prelude::*;

/// Partial sums of a dot product, so that it fills vector registers.
const LANES: usize = 8;

/// Makes the `count` vectors of `length` in every block `[count, length]` orthonormal, by the modified Gram-Schmidt process. `count` is
/// at most `length`.
///
/// Every vector keeps a positive product with what it was, so that independent Gaussian vectors give a matrix that is uniform among the
/// orthonormal ones (Mezzadri, *How to Generate Random Matrices from the Classical Compact Groups*, 2007). The vectors are orthogonal
/// to the rounding of f64 times the condition of the block, which for Gaussian ones is about the number of vectors.
pub(crate) fn orthonormalize(blocks: &mut [f64], count: usize, length: usize) {
    blocks.par_chunks_exact_mut(count * length).for_each(|block| {
        let mut rest = block;
        while !rest.is_empty() {
            let (vector, others) = rest.split_at_mut(length);
            let norm = dot(vector, vector).sqrt();
            vector.iter_mut().for_each(|value| *value /= norm);
            for other in others.chunks_exact_mut(length) {
                let along = dot(vector, other);
                other.iter_mut().zip(&*vector).for_each(|(value, unit)| *value -= along * unit);
            }
            rest = others;
        }
    });
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    rest + sums.iter().sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use rand_distr::{Distribution, StandardNormal};

    #[test]
    fn orthonormalize_gives_unit_vectors_at_right_angles() {
        let mut rng = StdRng::seed_from_u64(5);
        for [count, length] in [[1, 1], [3, 20], [40, 40], [29, 61]] {
            let drawn: Vec<f64> = (0..2 * count * length).map(|_| StandardNormal.sample(&mut rng)).collect();
            let mut blocks = drawn.clone();
            orthonormalize(&mut blocks, count, length);
            for (block, drawn) in blocks.chunks(count * length).zip(drawn.chunks(count * length)) {
                let vectors: Vec<&[f64]> = block.chunks(length).collect();
                for (i, a) in vectors.iter().enumerate() {
                    for (j, b) in vectors.iter().enumerate() {
                        let expected = if i == j { 1.0 } else { 0.0 };
                        assert!((dot(a, b) - expected).abs() < 1e-11, "{count}×{length}: {i}, {j}");
                    }
                    // The span of the first vectors is kept, and so is the direction.
                    assert!(dot(a, &drawn[i * length..][..length]) > 0.0, "{count}×{length}: {i}");
                    for later in &vectors[i + 1..] {
                        assert!(dot(later, &drawn[i * length..][..length]).abs() < 1e-10, "{count}×{length}: {i}");
                    }
                }
            }
        }
    }
}
