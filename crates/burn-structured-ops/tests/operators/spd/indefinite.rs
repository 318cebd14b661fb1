//! Matrices that are not positive definite, and operands that do not fit.

use super::case::{Case, strategies};
use crate::backends::{BackendTest, StructuredBackend, TestBackend, every_backend, public_devices};
use crate::tensors::{Layout, place, read};
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_structured_ops::spd::{SpdError, spd_solve, try_spd_solve};

const SIZES: [usize; 3] = [5, 11, 2];

/// Batches with one matrix spoilt, and how: `(matrix, row, column, value)`.
fn spoilt() -> Vec<(Case, usize)> {
    let spoil = |matrix: usize, row: usize, col: usize, value: f64| {
        let mut case = Case::new(SIZES, DType::F32);
        case.a[(matrix * SIZES[1] + row) * SIZES[1] + col] = value;
        (case, matrix)
    };
    vec![
        spoil(2, 0, 0, -1.0),
        spoil(2, 0, 0, 0.0),
        spoil(1, 9, 9, -1.0),
        spoil(4, 10, 10, -1.0),
        spoil(2, 6, 3, f64::NAN),
        spoil(0, 8, 8, f64::INFINITY),
        spoil(2, 10, 0, 100.0),
    ]
}

struct NaNOfOneMatrix;

impl BackendTest for NaNOfOneMatrix {
    fn check<B: StructuredBackend>(&self, backend: &TestBackend<B>) {
        for strategy in strategies(backend) {
            for (mut case, spoilt) in spoilt() {
                let [batch, n, k] = SIZES;
                let a = place::<B>(&case.a, &[batch, n, n], DType::F32, Layout::Contiguous, &backend.device);
                let b = place::<B>(&case.b, &[batch, n, k], DType::F32, Layout::Contiguous, &backend.device);
                let factor = B::spd_factor(a.clone(), strategy);
                let mut x = read::<B>(B::spd_solve(a, factor, b, strategy));
                let what = format!("{}, {strategy:?}", backend.name);
                let of_spoilt = spoilt * n * k..(spoilt + 1) * n * k;
                assert!(x[of_spoilt.clone()].iter().all(|value| value.is_nan()), "{what}: {:?}", &x[of_spoilt.clone()]);
                x.drain(of_spoilt.clone());
                case.b.drain(of_spoilt);
                case.a.drain(spoilt * n * n..(spoilt + 1) * n * n);
                case.batch -= 1;
                case.assert_solution(&format!("{what}: the others"), &x, &case.b);
            }
        }
    }
}

#[test]
fn indefinite_matrices_have_nan_solutions() {
    every_backend(&NaNOfOneMatrix);
}

#[test]
fn try_spd_solve_names_indefinite_matrices() {
    for device in public_devices() {
        let a = Tensor::<3>::from_data([[[4.0]], [[-1.0]], [[1.0]], [[f32::NAN]]], (&device, DType::F32));
        let b = Tensor::<3>::ones([4, 1, 2], (&device, DType::F32));
        let error = try_spd_solve(a.clone(), b.clone()).unwrap_err();
        assert_eq!(error, SpdError::NotPositiveDefinite { matrices: vec![1, 3], batch: 4 });
        assert_eq!(
            error.to_string(),
            "spd: 2 of 4 matrices not positive definite (index 1, 3); add to their diagonal, as `spd_solve_damped` does"
        );
        let x = try_spd_solve(a.narrow(0, 0, 1), b.narrow(0, 0, 1)).expect("a positive definite matrix");
        assert_eq!(x.into_data().try_into_vec::<f32>().unwrap(), [0.25, 0.25]);
    }
}

#[test]
fn empty_systems_have_empty_solutions() {
    for device in public_devices() {
        for [batch, n, k] in [[0, 3, 2], [2, 0, 3], [2, 3, 0], [0, 0, 0]] {
            let options = (&device, DType::F32);
            let (a, b) = (Tensor::<3>::zeros([batch, n, n], options), Tensor::<3>::zeros([batch, n, k], options));
            assert_eq!(spd_solve(a.clone(), b.clone()).dims(), [batch, n, k]);
            assert_eq!(try_spd_solve(a, b).expect("nothing to solve").dims(), [batch, n, k]);
        }
    }
}

#[test]
fn unfit_operands_are_an_error() {
    let device = Device::flex();
    let zeros = |dims: [usize; 3]| Tensor::<3>::zeros(dims, (&device, DType::F32));
    for (a, b) in [([2, 3, 4], [2, 3, 1]), ([2, 3, 3], [2, 4, 1]), ([2, 3, 3], [3, 3, 1])] {
        assert_eq!(try_spd_solve(zeros(a), zeros(b)).unwrap_err(), SpdError::Shapes { a, b });
    }
    let b = Tensor::<3>::from_data(TensorData::new(vec![0.0; 6], [2, 3, 1]), (&device, DType::F64));
    let error = try_spd_solve(zeros([2, 3, 3]), b).unwrap_err();
    assert_eq!(error, SpdError::DTypes { a: DType::F32, b: DType::F64 });
}

#[test]
#[should_panic(expected = "`a` must be [batch, n, n] and `b` [batch, n, k], got [2, 3, 3] and [2, 4, 1]")]
fn unfit_operands_panic() {
    let device = Device::flex();
    spd_solve(Tensor::zeros([2, 3, 3], &device), Tensor::zeros([2, 4, 1], &device));
}
