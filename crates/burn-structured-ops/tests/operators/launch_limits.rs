//! Launches of more cubes than one axis of a GPU's grid holds: 65,535 on most.

use crate::backends::{BackendTest, Scope, StructuredBackend, TestBackend, every_backend};
use crate::tensors::{Layout, place, read};
use burn::tensor::DType;
use burn_structured_ops::BlastStrategy;
use burn_structured_ops::blast::BlastCandidate;
use burn_structured_ops::ss1::{Fold, Rotations};

/// More than an axis holds, and no multiple of it.
const CUBES: usize = 65_535 + 1_111;
/// Units of a cube at most.
const UNITS: usize = 256;

struct ManyCubes;

impl BackendTest for ManyCubes {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        // CubeCL's CPU runs cubes one after the other, milliseconds each, and has no such limit.
        if backend.scope != Scope::Kernels || backend.is_processor() {
            return;
        }
        let of = |values: &[f64], shape: &[usize]| {
            place::<B>(values, shape, DType::F32, Layout::Contiguous, &backend.device)
        };
        // A cube of the tiled GEMM for every block.
        let x: Vec<f64> = (0..CUBES).map(|at| (at % 61) as f64).collect();
        let factor: Vec<f64> = (0..CUBES).map(|at| (at % 7) as f64).collect();
        let z = B::blast_project(
            of(&x, &[1, CUBES]),
            of(&factor, &[CUBES, 1, 1]),
            BlastStrategy::Candidate(BlastCandidate::TiledGemm),
        );
        for (at, z) in read::<B>(z).into_iter().enumerate() {
            assert_eq!(z, x[at] * factor[at], "{}: block {at}", backend.name);
        }
        // A unit of the fold for every element.
        let (width, shift) = (16, 3);
        let rotations = Rotations::Arithmetic { step: shift as u32 };
        let fold = Fold { d_input: 2 * width, reduction: 2, block_k: width, block_n: 1, rotations };
        let tokens = CUBES * UNITS / width;
        let x: Vec<f64> = (0..tokens * 2 * width).map(|at| (at % 509) as f64).collect();
        let a = B::ss1_fold(of(&x, &[tokens, 2 * width]), fold, 0);
        for (at, a) in read::<B>(a).into_iter().enumerate() {
            let (token, q) = (at / width, at % width);
            let x = &x[token * 2 * width..][..2 * width];
            assert_eq!(a, x[q] + x[width + (q + shift) % width], "{}: token {token}, weight {q}", backend.name);
        }
    }
}

#[test]
fn launches_may_exceed_one_grid_axis() {
    every_backend(&ManyCubes);
}
