//! Factorization does the same on every device: traces against those of the CPU in f64, from one start.

use super::devices::{devices, dtypes};
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_structured::compress::calibrate::Moment;
use burn_structured::compress::factorize::{Factorization, FactorizerConfig, Method};
use burn_structured::nn::{Blocks, Rank};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// How much of it a device does.
struct Extent {
    matrices: usize,
    shape: [usize; 2],
    blocks: usize,
    steps: usize,
    /// Methods, and by how much errors may differ in f32.
    ///
    /// Levenberg-Marquardt is not among them: forty conjugate gradients grow rounding beyond any bound on a step.
    methods: &'static [(Method, f64)],
    metrics: &'static [bool],
}

const METHODS: [(Method, f64); 3] = [(Method::Auto, 2e-4), (Method::PREC_GD, 2e-3), (Method::GD, 2e-4)];

impl Extent {
    fn of(device: &str) -> Self {
        let all =
            Self { matrices: 2, shape: [12, 15], blocks: 3, steps: 8, methods: &METHODS, metrics: &[false, true] };
        match device {
            // LLVM takes a minute and a half for the kernels of one method: only that, on a grid whose sides are alike, and a
            // step of each kind (the last ones are exact).
            "cpu" => Self { shape: [12, 12], steps: 4, methods: &METHODS[..1], metrics: &[false], ..all },
            _ => all,
        }
    }
}

/// The same values on every device.
fn drawn<const D: usize>(shape: [usize; D], seed: u64, device: &Device, dtype: DType) -> Tensor<D> {
    let mut rng = StdRng::seed_from_u64(seed);
    let values: Vec<f64> =
        (0..shape.iter().product()).map(|_| 2.0 * (f64::from(rng.next_u32()) / f64::from(u32::MAX)) - 1.0).collect();
    Tensor::from_data(TensorData::new(values, shape).convert_dtype(dtype), (device, dtype))
}

fn targets(extent: &Extent, device: &Device, dtype: DType) -> Tensor<3> {
    drawn([extent.matrices, extent.shape[0], extent.shape[1]], 3, device, dtype)
}

fn run(extent: &Extent, method: Method, moment: Option<&Moment>, device: &Device, dtype: DType) -> Factorization {
    let config = FactorizerConfig::new()
        .with_blocks(Blocks::Square(extent.blocks))
        .with_rank(Rank::Fixed(4))
        .with_method(method)
        .with_steps(extent.steps)
        .with_patience(None);
    let mut factorizer = config.init();
    if let Some(moment) = moment {
        factorizer = factorizer.with_moment(moment.to_tensor(device));
    }
    factorizer.factorize_batch(targets(extent, device, dtype)).expect("a factorization")
}

#[test]
fn every_device_takes_the_same_steps() {
    let host = Device::flex();
    for (name, device) in devices() {
        let extent = Extent::of(name);
        let columns = extent.shape[1];
        let mut moment = Moment::new(columns);
        moment.add(drawn([60, columns], 5, &host, DType::F64)).expect("finite inputs");
        let moment = moment.regularized(0.05);
        for (method, tolerance) in extent.methods {
            for moment in extent.metrics.iter().map(|known| known.then_some(&moment)) {
                let began = std::time::Instant::now();
                let expected = run(&extent, *method, moment, &host, DType::F64);
                for dtype in dtypes(name).into_iter().filter(|dtype| matches!(dtype, DType::F32 | DType::F64)) {
                    let found = run(&extent, *method, moment, &device, dtype);
                    let tolerance = if dtype == DType::F64 { 1e-5 * tolerance } else { *tolerance };
                    let case = format!("{name}, {dtype:?}, {method:?}, known inputs {}", moment.is_some());
                    follows(&found, &expected, tolerance, &case);
                    if moment.is_none() {
                        stands_for_its_errors(&found, targets(&extent, &host, DType::F64), &case);
                    }
                }
                println!("{name}, {method:?}: {:.1} s", began.elapsed().as_secs_f64());
            }
        }
    }
}

/// Every error of the trace is the expected one.
fn follows(found: &Factorization, expected: &Factorization, tolerance: f64, case: &str) {
    assert_eq!(found.trace.len(), expected.trace.len(), "{case}");
    for (point, expected) in found.trace.iter().zip(&expected.trace) {
        for (error, expected) in point.errors.iter().zip(&expected.errors) {
            let difference = (error / expected - 1.0).abs();
            assert!(difference < tolerance, "{case}, step {}: {error} against {expected}", point.step);
        }
    }
}

/// The layers are as far from the matrices as the factorization says.
fn stands_for_its_errors(found: &Factorization, targets: Tensor<3>, case: &str) {
    let norm = |entries: &[f64]| entries.iter().map(|entry| entry.powi(2)).sum::<f64>().sqrt();
    for (matrix, expected) in found.errors().iter().enumerate() {
        let read = |matrix: Tensor<2>| matrix.into_data().iter::<f64>().collect::<Vec<f64>>();
        let target = read(targets.clone().narrow(0, matrix, 1).squeeze_dim::<2>(0));
        let layer = read(found.layer(matrix, None).to_dense());
        let difference: Vec<f64> = layer.iter().zip(&target).map(|(layer, target)| layer - target).collect();
        let error = norm(&difference) / norm(&target);
        assert!((error - expected).abs() < 1e-5, "{case}, matrix {matrix}: {error} against {expected}");
    }
}
