//! Settings, weights and files out of range are errors that name the culprit, never panics.

use super::targets::drawn;
use super::{device, tensor};
use burn::tensor::{DType, Tensor};
use burn_structured_compress::budget::{CurvePoint, LayerCurve, allocate};
use burn_structured_compress::calibrate::{Calibrator, Moment};
use burn_structured_compress::factorize::{
    BlastFactors, FactorizerConfig, Method, NamedMatrix, PrecGd, Relaxed, Schedule, Start, TracePoint,
};
use burn_structured_compress::report::{Curve, Panel, plot_convergence};
use burn_structured_compress::{CompressError, Spectrum, approximate};
use burn_structured_nn::{Blocks, Rank, Structure};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The structures with a closed form for known inputs.
const CLOSED_FORMS: [&str; 3] = ["low-rank", "monarch", "ss1"];

const NOT_SIZES: [f64; 3] = [f64::NAN, f64::INFINITY, -1.0];

fn config() -> FactorizerConfig {
    FactorizerConfig::new().with_blocks(Blocks::Square(2)).with_rank(Rank::Fixed(2)).with_steps(3).with_patience(None)
}

fn weight() -> Tensor<2> {
    drawn([8, 8], 27)
}

/// One structure of every kind that fits a matrix of 8×8.
fn structures() -> Vec<Structure> {
    let texts = [
        "dense",
        "blast:b=2,r=3",
        "low-rank:r=2",
        "monarch:b=2,r=2",
        "ss1:c=2,k=2",
        "block-diagonal:b=2",
        "pixelfly:b=4,r=1",
        "gaudi:r=2",
        "btt:b=2,r=1",
        "kronecker:b=2,r=2",
    ];
    texts.map(|text| text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))).to_vec()
}

/// Whether the moment is part of the problem that is solved.
fn solves(structure: &Structure) -> bool {
    structure.name() == "blast" || CLOSED_FORMS.contains(&structure.name())
}

fn moment(features: usize) -> Moment {
    let mut moment = Moment::new(features);
    moment.add(drawn([4 * features + 4, features], 5)).unwrap();
    moment
}

#[test]
fn huge_time_budget_never_ends_a_run() {
    for seconds in [1e20, f64::MAX] {
        let found = config().with_seconds(Some(seconds)).init().factorize(weight()).unwrap();
        assert_eq!(found.trace.len(), 4, "{seconds}");
    }
}

#[test]
fn invalid_factorizer_setting_is_named() {
    for value in NOT_SIZES {
        let configs = [
            ("seconds", config().with_seconds(Some(value))),
            ("tolerance", config().with_tolerance(value)),
            ("least_improvement", config().with_least_improvement(value)),
        ];
        for (name, config) in configs {
            let error = config.init().factorize(weight()).unwrap_err();
            assert!(matches!(error, CompressError::Setting { name: found, .. } if found == name), "{error}");
        }
    }
}

#[test]
fn invalid_rank_or_grid_is_an_error() {
    let ranks = [Rank::Fixed(0), Rank::Fixed(usize::MAX)].into_iter();
    for rank in ranks.chain([f64::NAN, f64::INFINITY, -1.0, 0.0, 1e-9, 2.0].map(Rank::Ratio)) {
        let error = config().with_rank(rank).init().factorize(weight()).unwrap_err();
        assert!(matches!(error, CompressError::Structure(_)), "{rank:?}: {error}");
    }
    let error = config().with_blocks(Blocks::Square(0)).init().factorize(weight()).unwrap_err();
    assert!(matches!(error, CompressError::Structure(_)), "{error}");
}

#[test]
fn invalid_method_setting_is_named() {
    for value in NOT_SIZES {
        let method = |step_scale, damping| Method::PrecGd { step_scale, damping, schedule: Schedule::Linear };
        for (name, method) in [("step_scale", method(value, 0.1)), ("damping", method(2.0, value))] {
            let error = config().with_method(method).init().factorize(weight()).unwrap_err();
            assert!(matches!(error, CompressError::Setting { name: found, .. } if found == name), "{error}");
        }
        let stepper = PrecGd { step_scale: value, ..PrecGd::default() };
        let error = config().init().with_stepper(stepper).factorize(weight()).unwrap_err().to_string();
        assert!(error.contains("step_scale"), "{error}");
    }
    for relaxation in [f64::NAN, f64::INFINITY, -1.0, 0.0, 2.0] {
        let error = config().init().with_stepper(Relaxed::fixed(relaxation)).factorize(weight()).unwrap_err();
        assert!(error.to_string().contains("relaxation"), "{error}");
    }
}

#[test]
fn invalid_start_is_named() {
    let fails = |start: Start| config().init().with_start(start).factorize(weight()).unwrap_err().to_string();
    let spectrum = Arc::new(Spectrum::new(&weight(), None).unwrap());
    for value in NOT_SIZES {
        assert!(fails(Start::Random { scale: value }).contains("scale"), "{value}");
        assert!(fails(Start::Spectral { noise: value }).contains("noise"), "{value}");
        assert!(fails(Start::Decomposed { spectrum: spectrum.clone(), noise: value }).contains("noise"), "{value}");
    }
    assert!(fails(Start::Random { scale: 0.0 }).contains("scale"));
    let mut values = vec![1.0; 16];
    values[5] = f64::NAN;
    let factors =
        BlastFactors { u: drawn([1, 2, 4, 2], 1), s: drawn([1, 2, 2, 2], 1), v: tensor(values, [1, 2, 4, 2]) };
    let error = fails(Start::Given(factors));
    assert!(error.contains("starting factor v"), "{error}");
}

#[test]
fn moment_that_is_a_vector_is_an_error() {
    let error = config().init().with_moment(drawn([8], 1)).factorize(weight()).unwrap_err();
    assert!(matches!(error, CompressError::MomentShape { .. }), "{error}");
}

#[test]
fn moment_that_is_not_positive_definite_is_an_error() {
    for share in [f64::NAN, f64::INFINITY, -2.0] {
        let moment = moment(8).regularized(share);
        // Structures without a closed form for known inputs only measure their error, in any finite moment.
        let solved = |structure: &Structure| share >= 0.0 || share.is_nan() || solves(structure);
        for structure in structures().into_iter().filter(solved) {
            let found = approximate(structure, weight(), None, Some(&moment), &config());
            let error = found.err().unwrap_or_else(|| panic!("{structure}, share {share}"));
            let singular = matches!(error, CompressError::Moment | CompressError::Singular(_));
            assert!(singular, "{structure}, share {share}: {error}");
        }
    }
}

#[test]
fn bias_of_another_length_is_an_error() {
    let moment = moment(8);
    for structure in structures() {
        for moment in [None, Some(&moment)] {
            let bias = Tensor::zeros([7], &device());
            let error = approximate(structure, weight(), Some(bias), moment, &config()).unwrap_err().to_string();
            assert!(error.contains("bias") && error.contains("[7]"), "{structure}: {error}");
        }
    }
}

#[test]
fn weight_that_is_not_finite_is_an_error() {
    let moment = moment(8);
    let mut values = vec![1.0; 64];
    values[19] = f64::NEG_INFINITY;
    for structure in structures().into_iter().filter(|structure| *structure != Structure::Dense) {
        for moment in [None, Some(&moment)] {
            let weight = tensor(values.clone(), [8, 8]);
            let error = approximate(structure, weight, None, moment, &config()).unwrap_err().to_string();
            assert!(error.contains("row 2, column 3"), "{structure}: {error}");
        }
    }
}

#[test]
fn weight_without_entries_is_an_error() {
    for shape in [[0, 8], [8, 0], [0, 0]] {
        let weight = || Tensor::<2>::zeros(shape, &device());
        let moment = moment(shape[1]);
        for structure in structures() {
            for moment in [None, Some(&moment)] {
                let found = approximate(structure, weight(), None, moment, &config());
                assert!(found.is_err(), "{structure}, {shape:?}");
            }
        }
        assert!(config().init().factorize(weight()).is_err(), "{shape:?}");
        assert!(config().stream([NamedMatrix::new("a", weight())]).all(|found| found.is_err()), "{shape:?}");
        assert!(Spectrum::new(&weight(), None).is_err(), "{shape:?}");
    }
}

#[test]
fn inputs_without_entries_add_nothing() {
    let mut calibrator = Calibrator::new();
    calibrator.observe("a", Tensor::<3>::zeros([2, 0, 4], &device())).unwrap();
    calibrator.observe("b", Tensor::<2>::zeros([3, 0], &device())).unwrap();
    assert_eq!(calibrator.moment("a"), Some(&Moment::new(4)));
}

#[test]
fn inputs_that_are_not_finite_leave_no_layer() {
    let mut calibrator = Calibrator::new();
    assert!(calibrator.observe("a", Tensor::<2>::full([2, 4], f32::NAN, &device())).is_err());
    assert_eq!(calibrator.moments().count(), 0);
}

#[test]
fn token_counts_saturate() {
    let mut moment = Moment::from_sum(1, u64::MAX, vec![1.0]);
    moment.merge(&Moment::from_sum(1, 2, vec![1.0])).unwrap();
    moment.add(Tensor::ones([3, 1], &device())).unwrap();
    assert_eq!((moment.tokens(), moment.sum()), (u64::MAX, &[5.0][..]));
}

#[test]
fn squares_that_overflow_leave_the_moment_unchanged() {
    let mut moment = Moment::from_sum(1, 1, vec![f64::MAX]);
    let before = moment.clone();
    assert!(moment.add(tensor(vec![1e154], [1, 1])).is_err());
    assert_eq!(moment, before);
    assert!(moment.merge(&before.clone()).is_err());
    assert_eq!(moment, before);
}

fn curve(params: usize, layers: usize) -> LayerCurve {
    let point = |params: usize, squared_error: f64| CurvePoint {
        structure: Structure::Dense,
        params,
        squared_error,
        relative_error: 0.1,
    };
    LayerCurve { layers, ..LayerCurve::new(vec![point(1, 2.0), point(params, 1.0)]) }
}

#[test]
fn parameter_counts_that_overflow_do_not_fit() {
    let allocation = allocate(&[curve(usize::MAX, 3), curve(10, 1)], 20).unwrap();
    assert_eq!((allocation.choices, allocation.params), (vec![0, 1], 13));
    let error = allocate(&[curve(2, usize::MAX), curve(2, 2)], usize::MAX - 1).unwrap_err();
    assert!(matches!(error, CompressError::Budget { .. }), "{error}");
}

#[test]
fn sensitivity_that_is_not_finite_is_an_error() {
    for sensitivity in NOT_SIZES {
        let error = allocate(&[curve(2, 1), curve(2, 1).with_sensitivity(sensitivity)], 9).unwrap_err();
        assert!(matches!(error, CompressError::Curve { layer: 1 }), "{sensitivity}: {error}");
    }
}

/// A folder of its own for each test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("burn-structured-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn saving_leaves_other_files_alone() {
    let folder = Folder::new("other-files");
    let other = folder.0.join("moments.part");
    std::fs::write(&other, "of another program").unwrap();
    Calibrator::new().save(&folder.0.join("moments.safetensors")).unwrap();
    let point = TracePoint { step: 0, seconds: 0.0, errors: vec![1.0] };
    let curve = Curve { name: "GD".into(), trace: vec![point] };
    plot_convergence(&[Panel { title: String::new(), curves: vec![curve] }], &folder.0.join("moments.svg")).unwrap();
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "of another program");
    assert_eq!(std::fs::read_dir(&folder.0).unwrap().count(), 3);
}

#[test]
fn traces_that_are_not_finite_are_not_drawn() {
    let folder = Folder::new("traces");
    for (seconds, error) in [(f64::INFINITY, 1.0), (f64::NAN, 1.0), (0.0, f64::INFINITY), (0.0, f64::NAN)] {
        let point = TracePoint { step: 1, seconds, errors: vec![error] };
        let curve = Curve { name: "GD".into(), trace: vec![point] };
        let panels = [Panel { title: "exact rank".into(), curves: vec![curve] }];
        let error = plot_convergence(&panels, &folder.0.join("plot.svg")).unwrap_err().to_string();
        assert!(error.contains("GD") && error.contains("exact rank"), "{error}");
    }
}

/// A file of moments with these tensors and these counts of inputs.
fn moments_file(tensors: &[(&str, Dtype, &[usize], Vec<u8>)], tokens: &str) -> Vec<u8> {
    let settings = [("format", "burn-structured-moments"), ("version", "1"), ("tokens", tokens)];
    let metadata: HashMap<String, String> =
        settings.into_iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (*name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap()));
    safetensors::serialize(views, Some(metadata)).unwrap()
}

#[test]
fn hostile_moment_files_are_errors() {
    let f64s = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (good, named) = (f64s(&[1.0, 0.5, 0.5, 1.0]), r#"{"a": 3}"#);
    let square: &[usize] = &[2, 2];
    let header = |json: &str| [&(json.len() as u64).to_le_bytes()[..], json.as_bytes()].concat();
    let huge = r#"{"__metadata__":{"format":"burn-structured-moments","version":"1","tokens":"{\"a\":1}"},
        "a":{"dtype":"F64","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#;
    let files = [
        ("header length", u64::MAX.to_le_bytes().to_vec()),
        ("shape", header(huge)),
        ("not square", moments_file(&[("a", Dtype::F64, &[1, 4], good.clone())], named)),
        ("vector", moments_file(&[("a", Dtype::F64, &[4], good.clone())], named)),
        ("dtype", moments_file(&[("a", Dtype::I64, square, good.clone())], named)),
        ("NaN", moments_file(&[("a", Dtype::F64, square, f64s(&[1.0, f64::NAN, 0.0, 1.0]))], named)),
        ("negative square", moments_file(&[("a", Dtype::F64, square, f64s(&[1.0, 0.0, 0.0, -1.0]))], named)),
        ("count without a tensor", moments_file(&[("a", Dtype::F64, square, good.clone())], r#"{"a": 3, "b": 1}"#)),
        ("tensor without a count", moments_file(&[("a", Dtype::F64, square, good.clone())], "{}")),
        ("negative count", moments_file(&[("a", Dtype::F64, square, good.clone())], r#"{"a": -3}"#)),
        ("counts that are no JSON", moments_file(&[("a", Dtype::F64, square, good.clone())], "{")),
    ];
    let folder = Folder::new("hostile");
    let path = folder.0.join("moments.safetensors");
    for (case, bytes) in files {
        std::fs::write(&path, bytes).unwrap();
        let error = Calibrator::load(&path).err().unwrap_or_else(|| panic!("{case} was read"));
        assert!(error.to_string().contains("moments.safetensors"), "{case}: {error}");
    }
    std::fs::write(&path, moments_file(&[("a", Dtype::F64, square, good)], named)).unwrap();
    assert_eq!(Calibrator::load(&path).unwrap().moment("a").unwrap().tokens(), 3);
}

#[test]
fn closed_form_of_large_half_precision_is_finite() {
    let (weight, moment) = (tensor(vec![6e4; 64], [8, 8]).cast(DType::F16), moment(8));
    for structure in structures().into_iter().filter(|structure| CLOSED_FORMS.contains(&structure.name())) {
        let found = approximate(structure, weight.clone(), None, Some(&moment), &config()).unwrap();
        assert!(found.relative_error.is_finite(), "{structure}");
    }
}
