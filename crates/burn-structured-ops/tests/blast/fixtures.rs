//! Reference tensors from files: the crate's own, or those of the folder named by `BURN_STRUCTURED_FIXTURES`.

use crate::case::{Case, Sizes};
use crate::oracle::{Oracle, Values, check};
use crate::run::{Layout, Outcome, Tracked, forward_backward};
use crate::subjects::{Promise, Scope, Subject, every_backend};
use burn::tensor::DType;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_structured_ops::BlastStrategy;
use burn_structured_ops::blast::BlastBackend;
use safetensors::SafeTensors;
use std::path::PathBuf;

struct Fixture {
    name: String,
    case: Case,
    oracle: Oracle,
}

fn read_fixtures() -> Vec<Fixture> {
    let folder = std::env::var_os("BURN_STRUCTURED_FIXTURES")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"));
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    paths.sort();
    let fixtures: Vec<Fixture> = paths.iter().filter_map(read_fixture).collect();
    assert!(!fixtures.is_empty(), "no BLAST fixture in {}", folder.display());
    fixtures
}

/// The file's contents, if its metadata says that it is about BLAST.
fn read_fixture(path: &PathBuf) -> Option<Fixture> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let structure = metadata.metadata().as_ref()?.get("structure")?;
    if structure.trim_matches('"') != "blast" {
        return None;
    }
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let tensor = |name: &str| {
        let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{}: {name}: {error}", path.display()));
        assert_eq!(tensor.dtype(), safetensors::Dtype::F64, "{}: {name}", path.display());
        let values = tensor.data().chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().expect("8 bytes")));
        (tensor.shape().to_vec(), values.collect::<Vec<_>>())
    };
    let (u_shape, u) = tensor("u");
    let (v_shape, v) = tensor("v");
    let (x_shape, x) = tensor("x");
    let sizes =
        Sizes { tokens: x_shape[0], b1: u_shape[0], b2: v_shape[0], p: u_shape[1], q: v_shape[1], r: u_shape[2] };
    let values = |name: &str| tensor(name).1;
    let case = Case { sizes, x, u, v, s: values("s"), bias: values("bias"), g: values("g") };
    let magnitudes = Oracle::of(&case).magnitudes;
    let expected = Values {
        y: values("y"),
        dx: values("dx"),
        du: values("du"),
        ds: values("ds"),
        dv: values("dv"),
        dbias: values("dbias"),
    };
    let name = path.file_stem().expect("a file name").to_string_lossy().into_owned();
    Some(Fixture { name, case, oracle: Oracle { values: expected, magnitudes } })
}

struct EveryFixture(Vec<Fixture>);

impl Promise for EveryFixture {
    fn check<B: BlastBackend>(&self, subject: &Subject<B>) {
        let (name, device) = (&subject.name, &subject.device);
        let dtypes = subject.product_dtypes();
        for fixture in &self.0 {
            for dtype in [DType::F64, DType::F32].into_iter().filter(|dtype| dtypes.contains(dtype)) {
                let fused = subject.scope == Scope::Fused;
                for layout in [Layout::Contiguous, Layout::Permuted].into_iter().take(if fused { 1 } else { 2 }) {
                    let plain = subject.scope == Scope::Kernels && layout == Layout::Contiguous;
                    let plain = plain.then_some(&BlastStrategy::Reference);
                    for strategy in subject.strategies().iter().chain(plain) {
                        let what = format!("{name}, {}, {dtype:?}, {layout:?}, {strategy:?}", fixture.name);
                        let outcome = forward_backward::<B, NoCheckpointing>(
                            &fixture.case,
                            dtype,
                            layout,
                            *strategy,
                            Tracked::ALL,
                            device,
                        );
                        match dtype {
                            DType::F64 => assert_equal(&what, &outcome, &fixture.oracle.values),
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
    let gradient = |gradient: &Option<Vec<f64>>| gradient.clone().expect("all gradients were asked for");
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
    check(what, DType::F32, sizes, outcome, &fixture.oracle);
}

#[test]
fn every_fixture_is_reproduced() {
    every_backend(&EveryFixture(read_fixtures()));
}
