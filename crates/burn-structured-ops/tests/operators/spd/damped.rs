//! Singular systems.

use crate::backends::{public_devices, public_dtypes};
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_structured_ops::spd::{SpdError, spd_solve, spd_solve_damped, try_spd_solve};

/// Gram matrices `[3, 6, 6]` of whole numbers: of full rank, of rank 2, of full rank; and right-hand sides `[3, 6, 2]` in
/// their ranges.
fn gram(dtype: DType, device: &Device) -> (Tensor<3>, Tensor<3>) {
    let (batch, rows, n, k) = (3, 9, 6, 2);
    let root = |matrix: usize, row: usize, col: usize| {
        let rank = if matrix == 1 { 2 } else { rows };
        let index = (matrix * rows + row) * n + col;
        let drawn = (1e4 * (index as f64 + 1.0).sin()).rem_euclid(7.0).floor();
        if row < rank { drawn - 3.0 } else { 0.0 }
    };
    let product = |matrix: usize, row: usize, col: usize| -> f64 {
        (0..rows).map(|j| root(matrix, j, row) * root(matrix, j, col)).sum()
    };
    let mut a = vec![0.0; batch * n * n];
    let mut b = vec![0.0; batch * n * k];
    for matrix in 0..batch {
        for row in 0..n {
            for col in 0..n {
                a[(matrix * n + row) * n + col] = product(matrix, row, col);
                for column in 0..k {
                    let weight = if (col >> column) % 2 == 0 { 1.0 } else { -1.0 };
                    b[(matrix * n + row) * k + column] += product(matrix, row, col) * weight;
                }
            }
        }
    }
    let upload = |values: Vec<f64>, dims: [usize; 3]| {
        Tensor::from_data(TensorData::new(values, dims).convert_dtype(dtype), (device, dtype))
    };
    (upload(a, [batch, n, n]), upload(b, [batch, n, k]))
}

fn values(tensor: Tensor<3>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().try_into_vec().expect("f64 values")
}

#[test]
fn a_singular_gram_matrix_gets_a_usable_solution() {
    for device in public_devices() {
        for dtype in public_dtypes(&device) {
            let (a, b) = gram(dtype, &device);
            let x = values(spd_solve_damped(a.clone(), b.clone()).expect("a damped solution"));
            // The minimiser of `xᵀ a x / 2 − bᵀ x + δ |x|² / 2` is no longer than any solution of `a x = b`, here of length √6,
            // and its residual is `δ x`. `δ` is a few powers of ten above rounding errors.
            let [(a, n), (b, k)] = [(values(a), 6), (values(b), 2)];
            let epsilon = dtype.finfo().expect("a float").epsilon;
            let trace: f64 = (0..n).map(|row| a[(n + row) * n + row]).sum();
            let bound = 100.0 * n as f64 * epsilon * trace;
            for column in 0..k {
                let length = (0..n).map(|row| x[(n + row) * k + column].powi(2)).sum::<f64>().sqrt();
                assert!(length <= 6f64.sqrt() * (1.0 + 100.0 * epsilon) + bound, "{dtype:?}: {length}");
                for row in 0..n {
                    let product: f64 = (0..n).map(|j| a[(n + row) * n + j] * x[(n + j) * k + column]).sum();
                    let residual = (product - b[(n + row) * k + column]).abs();
                    assert!(residual <= bound, "{dtype:?}: residual {residual}, beyond {bound}");
                }
            }
        }
    }
}

#[test]
fn only_the_matrices_that_need_it_are_damped() {
    for device in public_devices() {
        for dtype in public_dtypes(&device) {
            let (a, b) = gram(dtype, &device);
            let damped = values(spd_solve_damped(a.clone(), b.clone()).expect("a damped solution"));
            let plain = values(spd_solve(a, b));
            for part in [0..12, 24..36] {
                assert_eq!(damped[part.clone()], plain[part], "{dtype:?}");
            }
        }
    }
}

#[test]
fn what_damping_cannot_help_is_an_error() {
    for device in public_devices() {
        let options = (&device, DType::F32);
        let a = Tensor::<3>::from_data([[[1.0]], [[f32::NAN]], [[0.0]], [[-1.0]]], options);
        let error = spd_solve_damped(a, Tensor::ones([4, 1, 1], options)).unwrap_err();
        assert_eq!(error, SpdError::NotDamped { matrices: vec![1, 2, 3], batch: 4, limit: 0.1 });
        assert!(error.to_string().contains("3 of 4 matrices singular even with 0.1 of the mean diagonal added"));
        let empty = spd_solve_damped(Tensor::zeros([0, 2, 2], options), Tensor::zeros([0, 2, 5], options));
        assert_eq!(empty.expect("nothing to solve").dims(), [0, 2, 5]);
    }
}

#[test]
fn the_damped_solution_has_gradients() {
    let device = Device::flex().autodiff();
    let (a, b) = gram(DType::F64, &device);
    let gradients = |damped: bool| {
        let (a, b) = (a.clone().require_grad(), b.clone().require_grad());
        let x = if damped { spd_solve_damped(a.clone(), b.clone()) } else { Ok(spd_solve(a.clone(), b.clone())) };
        let grads = x.expect("a solution").sum().backward();
        [values(a.grad(&grads).expect("da")), values(b.grad(&grads).expect("db"))]
    };
    let ([da, db], [plain_da, plain_db]) = (gradients(true), gradients(false));
    assert!(da.iter().chain(&db).all(|value| value.is_finite()));
    assert_eq!((&da[..36], &db[..12]), (&plain_da[..36], &plain_db[..12]));
    assert!(try_spd_solve(a.narrow(0, 0, 1), b.narrow(0, 0, 1)).is_ok());
}
