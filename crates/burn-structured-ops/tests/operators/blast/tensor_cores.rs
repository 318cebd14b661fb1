//! Products on tensor cores, where a device has some that kernels can feed: every tile, more blocks than one takes, every layout.

use super::case::{Case, Sizes};
use super::reference::{Reference, check};
use super::run::{Tracked, forward_backward};
use crate::backends::{
    BackendTest, Scope, StructuredBackend, TestBackend, every_backend, public_devices, public_dtypes,
};
use crate::tensors::Layout;
use burn::tensor::{DType, Tensor};
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_structured_ops::BlastStrategy;
use burn_structured_ops::blast::BlastCandidate;
use burn_structured_ops::blast::blast_unsupported;

/// Fewer tokens, rows, columns and ranks than a tile has, and more; blocks that are coupled in ordinary arithmetic (few, and more
/// than sixteen) and in tiles.
const SIZES: [[usize; 6]; 9] = [
    [1, 1, 1, 8, 8, 8],
    [15, 2, 3, 24, 40, 16],
    [17, 3, 2, 72, 8, 136],
    [129, 2, 2, 136, 72, 264],
    [16, 16, 16, 8, 16, 72],
    [136, 2, 1, 16, 24, 16],
    [9, 8, 9, 16, 8, 40],
    [300, 17, 4, 8, 16, 24],
    [260, 1, 1, 520, 64, 328],
];

struct TensorCores;

impl BackendTest for TensorCores {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        for dtype in backend.dtypes().into_iter().filter(|dtype| has_tensor_cores(*dtype)) {
            for sizes in SIZES.into_iter().map(Sizes::from) {
                for layout in [Layout::Contiguous, Layout::Permuted, Layout::Sliced, Layout::Broadcast] {
                    if backend.scope == Scope::Fused && (layout != Layout::Contiguous || sizes.tokens > 33) {
                        continue;
                    }
                    let mut case = Case::random(sizes, 7, dtype);
                    let (strategy, mut tracked) = (BlastStrategy::Candidate(BlastCandidate::TensorCore), Tracked::ALL);
                    if layout == Layout::Broadcast {
                        case = case.repeat_first_token();
                        // The gradient of the one token behind all is Burn's sum over the expansion, not ours.
                        tracked.x = false;
                    }
                    let outcome = forward_backward::<B, NoCheckpointing>(
                        &case,
                        dtype,
                        layout,
                        strategy,
                        tracked,
                        &backend.device,
                    );
                    let what = format!("{}, {dtype:?}, {layout:?}, {sizes:?}", backend.name);
                    check(&what, dtype, sizes, &outcome, &Reference::of(&case));
                }
            }
        }
    }
}

/// Whether any of the devices under test multiplies `dtype` on tensor cores.
fn has_tensor_cores(dtype: DType) -> bool {
    if !matches!(dtype, DType::F16 | DType::BF16) {
        return false;
    }
    let mut computing = public_devices().into_iter().filter(|device| public_dtypes(device).contains(&dtype));
    let found = computing.any(|device| {
        let zeros = |shape: [usize; 3]| Tensor::<3>::zeros(shape, (&device, dtype));
        let x = Tensor::<2>::zeros([9, 16], (&device, dtype));
        let (u, s, v) = (zeros([2, 8, 8]), zeros([2, 2, 8]), zeros([2, 8, 8]));
        blast_unsupported(&x, &u, &s, &v, BlastStrategy::Candidate(BlastCandidate::TensorCore)).is_none()
    });
    if !found {
        eprintln!("skipped: no device under test has tensor cores for {dtype:?}");
    }
    found
}

#[test]
fn tensor_cores_match_the_reference() {
    every_backend(&TensorCores);
}
