//! One product to compute: sizes and random operands, in f64.

use crate::backends::{Scope, StructuredBackend, TestBackend};
use burn::tensor::DType;

#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub tokens: usize,
    pub b1: usize,
    pub b2: usize,
    pub p: usize,
    pub q: usize,
    pub r: usize,
}

/// `(tokens, b1, b2, p, q, r)` around the edges of tiles, vectors and groups, and where everything is 1.
const SHAPES: [[usize; 6]; 12] = [
    [1, 1, 1, 1, 1, 1],
    [1, 3, 2, 5, 7, 3],
    [2, 2, 2, 16, 15, 17],
    [3, 16, 16, 3, 2, 20],
    [4, 1, 5, 70, 9, 33],
    [5, 3, 1, 9, 70, 64],
    [15, 1, 4, 31, 8, 16],
    [16, 2, 3, 17, 13, 7],
    [17, 4, 4, 8, 8, 48],
    [127, 2, 2, 21, 32, 15],
    [129, 5, 3, 7, 11, 126],
    [130, 2, 4, 64, 16, 128],
];

pub fn shapes() -> impl Iterator<Item = Sizes> {
    SHAPES.into_iter().map(Sizes::from)
}

impl From<[usize; 6]> for Sizes {
    fn from([tokens, b1, b2, p, q, r]: [usize; 6]) -> Self {
        Self { tokens, b1, b2, p, q, r }
    }
}

impl Sizes {
    pub fn m(&self) -> usize {
        self.b1 * self.p
    }

    pub fn n(&self) -> usize {
        self.b2 * self.q
    }
}

/// The operands and the gradient `g` of the output, each row by row.
#[derive(Clone, Debug)]
pub struct Case {
    pub sizes: Sizes,
    pub x: Vec<f64>,
    pub u: Vec<f64>,
    pub s: Vec<f64>,
    pub v: Vec<f64>,
    pub bias: Vec<f64>,
    pub g: Vec<f64>,
}

impl Case {
    /// Operands in (-1, 1) that `dtype` can hold exactly.
    pub fn random(sizes: Sizes, seed: u64, dtype: DType) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut draw = |count: usize| -> Vec<f64> {
            (0..count)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    quantise((state >> 11) as f64 / (1u64 << 52) as f64 - 1.0, dtype)
                })
                .collect()
        };
        let Sizes { tokens, b1, b2, p, q, r } = sizes;
        Self {
            sizes,
            x: draw(tokens * b2 * q),
            u: draw(b1 * p * r),
            s: draw(b1 * b2 * r),
            v: draw(b2 * q * r),
            bias: draw(b1 * p),
            g: draw(tokens * b1 * p),
        }
    }

    /// The same product with every token equal to the first.
    pub fn repeat_first_token(mut self) -> Self {
        let n = self.sizes.n();
        for token in 1..self.sizes.tokens {
            self.x.copy_within(0..n, token * n);
        }
        self
    }
}

/// `value` with no more significant bits than `dtype` keeps.
fn quantise(value: f64, dtype: DType) -> f64 {
    let bits = match dtype {
        DType::F64 => return value,
        DType::F32 => return value as f32 as f64,
        DType::F16 => 11,
        DType::BF16 => 8,
        other => panic!("{other:?} is not a float"),
    };
    let scale = 2f64.powi(bits - 1 - value.abs().log2().floor() as i32);
    if value == 0.0 || !scale.is_finite() { 0.0 } else { (value * scale).round() / scale }
}

impl<B: StructuredBackend> TestBackend<B> {
    /// The BLAST shapes to try, each with a number to seed its operands with.
    pub fn shapes(&self) -> impl Iterator<Item = (u64, Sizes)> {
        let chosen: &[u64] = match self.scope {
            Scope::Native => &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
            Scope::Kernels => &[1, Self::USUAL_SHAPE, 10, 11],
            Scope::Fused => &[Self::USUAL_SHAPE],
        };
        (0..).zip(shapes()).filter(move |(index, _)| chosen.contains(index))
    }

    /// The shapes to try a whole product on, matmuls included.
    pub fn product_shapes(&self) -> impl Iterator<Item = (u64, Sizes)> {
        let native = self.scope == Scope::Native;
        self.shapes().filter(move |(index, _)| native || [1, Self::USUAL_SHAPE].contains(index))
    }

    /// Several blocks, vectors and tokens, and no size that is a tile's.
    pub const USUAL_SHAPE: u64 = 8;
}
