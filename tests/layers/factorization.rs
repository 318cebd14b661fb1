//! Factorization does the same on every device: traces against those of the CPU in f64, from one start.

use super::devices::{devices, dtypes};
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_structured::compress::calibrate::Moment;
use burn_structured::compress::factorize::{Factorization, FactorizerConfig, Method};
use burn_structured::nn::{Blocks, Rank};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const MATRICES: usize = 2;
const ROWS: usize = 12;
const COLUMNS: usize = 15;

/// The same values on every device.
fn drawn<const D: usize>(shape: [usize; D], seed: u64, device: &Device, dtype: DType) -> Tensor<D> {
    let mut rng = StdRng::seed_from_u64(seed);
    let values: Vec<f64> =
        (0..shape.iter().product()).map(|_| 2.0 * (f64::from(rng.next_u32()) / f64::from(u32::MAX)) - 1.0).collect();
    Tensor::from_data(TensorData::new(values, shape).convert_dtype(dtype), (device, dtype))
}

fn run(method: Method, moment: Option<&Moment>, device: &Device, dtype: DType) -> Factorization {
    let config = FactorizerConfig::new()
        .with_blocks(Blocks::Square(3))
        .with_rank(Rank::Fixed(4))
        .with_method(method)
        .with_steps(8)
        .with_patience(None);
    let mut factorizer = config.init();
    if let Some(moment) = moment {
        factorizer = factorizer.with_moment(moment.to_tensor(device));
    }
    factorizer.factorize_batch(drawn([MATRICES, ROWS, COLUMNS], 3, device, dtype)).expect("a factorization")
}

#[test]
fn every_device_takes_the_same_steps() {
    let reference = Device::flex();
    let mut moment = Moment::new(COLUMNS);
    moment.add(drawn([60, COLUMNS], 5, &reference, DType::F64)).expect("finite inputs");
    let moment = moment.regularized(0.05);
    // Levenberg-Marquardt is not among them: forty conjugate gradients grow rounding beyond any bound on a step.
    let methods = [(Method::Auto, 2e-4), (Method::PREC_GD, 2e-3), (Method::GD, 2e-4)];
    for (method, tolerance) in methods {
        for moment in [None, Some(&moment)] {
            let expected = run(method, moment, &reference, DType::F64);
            for (name, device) in devices() {
                // A kernel for every shape of every operation takes the CubeCL CPU minutes to compile.
                if name == "cpu" {
                    println!("cpu: not run, its kernels take minutes to compile");
                    continue;
                }
                for dtype in dtypes(name).into_iter().filter(|dtype| matches!(dtype, DType::F32 | DType::F64)) {
                    let found = run(method, moment, &device, dtype);
                    assert_eq!(found.trace.len(), expected.trace.len());
                    let tolerance = if dtype == DType::F64 { 1e-5 * tolerance } else { tolerance };
                    for (point, expected) in found.trace.iter().zip(&expected.trace) {
                        for (error, expected) in point.errors.iter().zip(&expected.errors) {
                            assert!(
                                (error / expected - 1.0).abs() < tolerance,
                                "{name}, {dtype:?}, {method:?}, step {}: {error} against {expected}",
                                point.step
                            );
                        }
                    }
                    let layer = found.layer(1, None);
                    let weight =
                        drawn([MATRICES, ROWS, COLUMNS], 3, &device, dtype).narrow(0, 1, 1).squeeze_dim::<2>(0);
                    let norm = |matrix: Tensor<2>| {
                        matrix.into_data().iter::<f64>().map(|entry| entry.powi(2)).sum::<f64>().sqrt()
                    };
                    if moment.is_none() {
                        let error = norm(layer.to_dense() - weight.clone()) / norm(weight);
                        assert!((error - found.errors()[1]).abs() < 1e-5, "{name}, {method:?}: {error}");
                    }
                }
            }
        }
    }
}
