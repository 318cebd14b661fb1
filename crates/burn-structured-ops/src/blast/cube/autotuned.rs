//! The strategy that is fastest on the device, measured by CubeCL's autotune.
//!
//! The first product of a kind is computed by every strategy that supports it, and timed; the winner is remembered for the
//! device, and on disk where CubeCL keeps such results. The key is everything that matters for the choice: the tokens (rounded up
//! to a power of two), every size of the layer, the dtype, whether `z` is kept, and whether the operands are contiguous. (The key
//! of Burn's own matmul has no batch count; here `b1` and `b2` are part of it.)

use super::run;
use super::strategy::{Problem, Resolved, unsupported};
use crate::OptionalTensor;
use crate::blast::BlastCandidate::{TensorCore, TiledGemm};
use crate::blast::BlastStrategy::{self, Candidate, Decode, Fused, Staged};
use crate::cube::Limits;
use burn_cubecl::cubecl::tune::{LocalTuner, Tunable, TunableSet, local_tuner};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeTuneId};
use std::sync::{Arc, Mutex, PoisonError};

/// The candidates, the one that can always run first.
const CANDIDATES: [(&str, Resolved, BlastStrategy); 5] = [
    ("staged", Resolved::Staged, Staged),
    ("tensor core", Resolved::TensorCore, Candidate(TensorCore)),
    ("fused", Resolved::Fused, Fused),
    ("tiled GEMM", Resolved::TiledGemm, Candidate(TiledGemm)),
    ("decode", Resolved::Decode, Decode),
];

/// The operands of a product, and where its output goes.
#[derive(Clone)]
struct Product {
    x: CubeTensor,
    u: CubeTensor,
    s: CubeTensor,
    v: CubeTensor,
    bias: OptionalTensor<CubeBackend>,
    problem: Problem,
    output: Arc<Mutex<Option<Output>>>,
}

/// `y`, and `z` if it is kept.
type Output = (CubeTensor, Option<CubeTensor>);

impl Product {
    fn compute(self, strategy: Resolved) {
        let Self { x, u, s, v, bias, problem, output } = self;
        let result = run(strategy, x, u, s, v, bias, problem);
        *output.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    }

    fn key(&self) -> String {
        let contiguous = [&self.x, &self.u, &self.s, &self.v].into_iter().all(CubeTensor::is_contiguous);
        key(self.problem, contiguous)
    }
}

/// What one measurement holds for.
fn key(problem: Problem, contiguous: bool) -> String {
    let Problem { sizes, dtype, keeps_projections } = problem;
    let tokens = sizes.tokens.next_power_of_two();
    format!(
        "BLAST of up to {tokens} tokens, {} × {} blocks of {} × {}, rank {}, {dtype:?}{}{}",
        sizes.b1,
        sizes.b2,
        sizes.p,
        sizes.q,
        sizes.r,
        if keeps_projections { ", keeping z" } else { "" },
        if contiguous { "" } else { ", strided" },
    )
}

/// The product by the fastest strategy, measured first if need be.
pub(super) fn forward(
    x: CubeTensor,
    u: CubeTensor,
    s: CubeTensor,
    v: CubeTensor,
    bias: OptionalTensor<CubeBackend>,
    problem: Problem,
) -> Output {
    static TUNER: LocalTuner<String, CubeTuneId> = local_tuner!();

    let client = x.client.clone();
    let id = CubeTuneId::new(&client, &x.device);
    let limits = Limits::of(&client);
    let candidates = TUNER.init(&id, move || {
        let inputs = |_: &String, product: &Product| {
            // Burn's matmuls tune themselves on first use, which must not happen while a candidate is timed.
            let measured = Product { output: Arc::default(), ..product.clone() };
            measured.clone().compute(Resolved::Staged);
            measured
        };
        CANDIDATES.into_iter().fold(TunableSet::new(Product::key, inputs), |set, (name, resolved, strategy)| {
            set.with(Tunable::new(name, move |product: Product| {
                // Known, and measuring would take seconds of spinning threads.
                if limits.processor && matches!(resolved, Resolved::Fused | Resolved::Decode) {
                    return Err("on a CPU, barriers between units cost more than they save".to_string());
                }
                if let Some(reason) = unsupported(strategy, product.problem, limits) {
                    return Err(reason.to_string());
                }
                product.compute(resolved);
                Ok(())
            }))
        })
    });
    let output = Arc::new(Mutex::new(None));
    TUNER.execute(&id, &client, candidates, Product { x, u, s, v, bias, problem, output: output.clone() });
    let result = output.lock().unwrap_or_else(PoisonError::into_inner).take();
    result.expect("the chosen strategy stores its output")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blast::Sizes;
    use burn::tensor::DType;

    #[test]
    fn key_distinguishes_every_size() {
        let problem = |tokens| {
            let sizes = Sizes { tokens, b1: 4, b2: 2, p: 192, q: 96, r: 144 };
            Problem { sizes, dtype: DType::F32, keeps_projections: false }
        };
        let of = |tokens| key(problem(tokens), true);
        assert_eq!(of(33), "BLAST of up to 64 tokens, 4 × 2 blocks of 192 × 96, rank 144, F32");
        assert_eq!(of(33), of(64));
        assert_ne!(of(8), of(9));
        assert_ne!(of(64), key(problem(64), false));
        assert_ne!(of(64), key(Problem { keeps_projections: true, ..problem(64) }, true));
    }
}
