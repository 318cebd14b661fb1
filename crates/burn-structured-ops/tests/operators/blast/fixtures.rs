//! Reference tensors from files: the crate's own, or those of the folder named by `BURN_STRUCTURED_FIXTURES`.

use super::case::{Case, Sizes};
use super::reference::{Reference, Values, check};
use super::run::{Outcome, Tracked, forward_backward};
use crate::backends::{BackendTest, Scope, StructuredBackend, TestBackend, every_backend};
use crate::tensors::{Layout, ReferenceFile, reference_files};
use burn::tensor::DType;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_structured_ops::BlastStrategy;
use burn_structured_ops::blast::BlastCandidate;

struct Fixture {
    name: String,
    case: Case,
    reference: Reference,
}

fn read_fixture(file: &ReferenceFile) -> Fixture {
    let shape = |name: &str| file.tensor(name).0;
    let values = |name: &str| file.tensor(name).1;
    let (x, u, v) = (shape("x"), shape("u"), shape("v"));
    let sizes = Sizes { tokens: x[0], b1: u[0], b2: v[0], p: u[1], q: v[1], r: u[2] };
    let case = Case {
        sizes,
        x: values("x"),
        u: values("u"),
        s: values("s"),
        v: values("v"),
        bias: values("bias"),
        g: values("g"),
    };
    let magnitudes = Reference::of(&case).magnitudes;
    let expected = Values {
        y: values("y"),
        dx: values("dx"),
        du: values("du"),
        ds: values("ds"),
        dv: values("dv"),
        dbias: values("dbias"),
    };
    Fixture { name: file.name.clone(), case, reference: Reference { values: expected, magnitudes } }
}

struct EveryFixture(Vec<Fixture>);

impl BackendTest for EveryFixture {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        let (name, device) = (&backend.name, &backend.device);
        let precise = |dtype: DType| [DType::F64, DType::F32].contains(&dtype);
        let products: Vec<_> = backend.products().into_iter().filter(|(dtype, _)| precise(*dtype)).collect();
        for fixture in &self.0 {
            for (dtype, strategies) in &products {
                let fused = backend.scope == Scope::Fused;
                for layout in [Layout::Contiguous, Layout::Permuted].into_iter().take(if fused { 1 } else { 2 }) {
                    // Plain Burn in f64 needs more shared memory than some devices have.
                    let more: &[BlastStrategy] = match (backend.scope, *dtype, layout) {
                        _ if !strategies.contains(&BlastStrategy::Auto) => &[],
                        (Scope::Kernels, DType::F32, Layout::Contiguous) => {
                            &[BlastStrategy::Reference, BlastStrategy::Candidate(BlastCandidate::TiledGemm)]
                        }
                        _ => &[],
                    };
                    for strategy in strategies.iter().chain(more) {
                        let what = format!("{name}, {}, {dtype:?}, {layout:?}, {strategy:?}", fixture.name);
                        let outcome = forward_backward::<B, NoCheckpointing>(
                            &fixture.case,
                            *dtype,
                            layout,
                            *strategy,
                            Tracked::ALL,
                            device,
                        );
                        match dtype {
                            DType::F64 => assert_equal(&what, &outcome, &fixture.reference.values),
                            // The operands are rounded to f32 as well: four more roundings a term.
                            _ => check_rounded(&what, fixture, &outcome),
                        }
                    }
                }
            }
        }
    }
}

fn assert_equal(what: &str, outcome: &Outcome, expected: &Values) {
    let gradient = |gradient: &Option<Vec<f64>>| gradient.clone().expect("all operands are tracked");
    for (name, actual, expected) in [
        ("y", outcome.y.clone(), &expected.y),
        ("dx", gradient(&outcome.dx), &expected.dx),
        ("du", gradient(&outcome.du), &expected.du),
        ("ds", gradient(&outcome.ds), &expected.ds),
        ("dv", gradient(&outcome.dv), &expected.dv),
        ("dbias", gradient(&outcome.dbias), &expected.dbias),
    ] {
        assert_eq!(actual.len(), expected.len(), "{what}: {name}");
        for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
            assert!((actual - expected).abs() <= 1e-10, "{what}: {name}[{index}]: {actual} instead of {expected}");
        }
    }
}

fn check_rounded(what: &str, fixture: &Fixture, outcome: &Outcome) {
    // Five operands enter a term at most, each off by one rounding: count them as five more in every sum.
    let mut sizes = fixture.case.sizes;
    let extra = 5;
    sizes.q += extra;
    sizes.p += extra;
    sizes.tokens += extra;
    check(what, DType::F32, sizes, outcome, &fixture.reference);
}

#[test]
fn every_fixture_is_reproduced() {
    every_backend(&EveryFixture(reference_files("blast").iter().map(read_fixture).collect()));
}
