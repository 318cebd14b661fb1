//! Products with int8 weights against their definition in integers, on every device.

use crate::backends::{public_devices, public_dtypes};
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_structured_ops::Epilogue;
use burn_structured_ops::activation::Activation;
use burn_structured_ops::block_diagonal::Order;
use burn_structured_ops::int8::{Int8Factor, Int8Matrix, int8_linear, int8_linear_reference};
use burn_structured_ops::ss1::{Fold, Rotations};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Numbers from −1 to 1 that no two scales have in common.
fn numbers(count: usize, seed: usize) -> Vec<f32> {
    let mut state = seed as u32 * 2 + 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn tensor<const D: usize>(shape: [usize; D], seed: usize, device: &Device, dtype: DType) -> Tensor<D> {
    Tensor::from_data(TensorData::new(numbers(shape.iter().product(), seed), shape), (device, dtype))
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

fn factor(shape: [usize; 3], seed: usize, device: &Device) -> Int8Factor {
    Int8Factor::quantize(tensor(shape, seed, device, DType::F32))
}

/// Matrices of every kind; depths below a register, above one, and odd.
fn matrices(device: &Device) -> Vec<(&'static str, Int8Matrix)> {
    let fold = |rotations, block_n| Fold { d_input: 70, reduction: 2, block_k: 8, block_n, rotations };
    let additive = fold(Rotations::Arithmetic { step: 3 }, 16);
    let drawn = fold(Rotations::Drawn { seed: 1, signs: true }, 16);
    let ss1 = |fold: Fold| Int8Matrix::Ss1 { z: factor([1, 40, fold.width()], 4, device), fold };
    let monarch = |r, l, output| Int8Matrix::Monarch { r: factor(r, 5, device), l: factor(l, 6, device), output };
    vec![
        ("dense", Int8Matrix::BlockDiagonal { w: factor([1, 37, 131], 1, device) }),
        ("block diagonal", Int8Matrix::BlockDiagonal { w: factor([3, 11, 7], 2, device) }),
        ("low rank", monarch([1, 9, 66], [1, 35, 9], Order::Grouped)),
        ("Monarch", monarch([4, 6, 5], [3, 34, 8], Order::Strided)),
        ("block tensor-train", monarch([4, 6, 5], [3, 34, 8], Order::Grouped)),
        (
            "BLAST",
            Int8Matrix::Blast {
                u: factor([4, 33, 13], 7, device),
                s: tensor([4, 3, 13], 8, device, DType::F32),
                v: factor([3, 13, 10], 9, device),
            },
        ),
        ("SS1, additive", ss1(additive)),
        ("SS1, independent", ss1(drawn)),
    ]
}

/// A factor on the host, with its integers.
struct Host {
    groups: usize,
    outputs: usize,
    inputs: usize,
    values: Vec<i64>,
    scales: Vec<f64>,
}

impl Host {
    fn of(factor: &Int8Factor) -> Self {
        let [groups, outputs, inputs] = factor.values.dims();
        let values = factor.values.clone().into_data().iter::<i64>().collect();
        Self { groups, outputs, inputs, values, scales: self::values(factor.scales.clone()) }
    }

    /// The outputs of a group for one token, from the definition, and the largest change that one quantum of one input makes.
    fn product(&self, x: &[f32], group: usize, rows: std::ops::Range<usize>) -> (Vec<f64>, f64) {
        let largest = x.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let to_quanta = if largest > 0.0 { largest.recip() * 127.0 } else { 0.0 };
        let quanta: Vec<i64> = x.iter().map(|x| (x * to_quanta).round_ties_even() as i64).collect();
        let scale = f64::from(largest / 127.0);
        let mut change = 0.0f64;
        let outputs = rows.map(|row| {
            let row = group * self.outputs + row;
            let weights = &self.values[row * self.inputs..][..self.inputs];
            let sum: i64 = weights.iter().zip(&quanta).map(|(w, x)| w * x).sum();
            change = change.max(127.0 * self.scales[row] * scale);
            sum as f64 * self.scales[row] * scale
        });
        (outputs.collect(), change)
    }
}

/// `y` of one token from the definition, and by how much a rounding to the neighbouring integer may change it.
fn definition(matrix: &Int8Matrix, x: &[f32]) -> (Vec<f64>, f64) {
    let mut change = 0.0f64;
    let mut all = |w: &Host, gather: &dyn Fn(usize, usize) -> f32| -> Vec<Vec<f64>> {
        let group = |group: usize| {
            let inputs: Vec<f32> = (0..w.inputs).map(|i| gather(group, i)).collect();
            let (outputs, quantum) = w.product(&inputs, group, 0..w.outputs);
            change = change.max(quantum);
            outputs
        };
        (0..w.groups).map(group).collect()
    };
    let y = match matrix {
        Int8Matrix::BlockDiagonal { w } => {
            let w = Host::of(w);
            all(&w, &|group, i| x[group * w.inputs + i]).concat()
        }
        Int8Matrix::Monarch { r, l, output } => {
            let (r, l) = (Host::of(r), Host::of(l));
            let between = all(&r, &|group, i| x[group * r.inputs + i]).concat();
            let y = all(&l, &|group, i| between[i * l.groups + group] as f32);
            match output {
                Order::Grouped => y.concat(),
                Order::Strided => {
                    (0..l.groups * l.outputs).map(|feature| y[feature % l.groups][feature / l.groups]).collect()
                }
            }
        }
        Int8Matrix::Blast { u, s, v } => {
            let (u, v, s) = (Host::of(u), Host::of(v), values(s.clone()));
            let z = all(&v, &|group, i| x[group * v.inputs + i]);
            let coupled = |group: usize, i: usize| -> f64 {
                (0..v.groups).map(|j| z[j][i] * s[(group * v.groups + j) * u.inputs + i]).sum()
            };
            all(&u, &|group, i| coupled(group, i) as f32).concat()
        }
        Int8Matrix::Ss1 { z, fold } => {
            let z = Host::of(z);
            let blocks = (0..fold.output_blocks(z.outputs)).map(|block| {
                let mut sketch = vec![0.0f64; fold.width()];
                for ((source, negative), x) in fold.sources(block).into_iter().zip(x) {
                    sketch[source] += if negative { -f64::from(*x) } else { f64::from(*x) };
                }
                let sketch: Vec<f32> = sketch.into_iter().map(|a| a as f32).collect();
                let (outputs, quantum) = z.product(&sketch, 0, fold.output_rows(z.outputs, block));
                change = change.max(quantum);
                outputs
            });
            blocks.collect::<Vec<_>>().concat()
        }
    };
    (y, change)
}

#[test]
fn int8_products_are_those_of_the_definition() {
    for device in public_devices() {
        let native = device == Device::flex();
        for (name, matrix) in matrices(&device) {
            let [m, n] = matrix.dims();
            // In place, and out of panels with every height of a tile.
            let counts: &[usize] = if native { &[1, 2, 6, 7, 12, 31, 300] } else { &[7] };
            for tokens in counts {
                let x = tensor([*tokens, n], 3, &device, DType::F32);
                let features = numbers(tokens * n, 3);
                let found = values(int8_linear(x, &matrix, None));
                for (token, found) in found.chunks_exact(m).enumerate() {
                    let (expected, quantum) = definition(&matrix, &features[token * n..][..n]);
                    // The integers of one product are exact. Those of the second may each be off by one, where the first was
                    // rounded to another float; so may those of a device that divides inexactly, and those of a sum.
                    let exact = native && matches!(matrix, Int8Matrix::BlockDiagonal { .. });
                    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                        let bound = if exact { 4.0 * f64::from(f32::EPSILON) * expected.abs() } else { 2.0 * quantum };
                        assert!(
                            (found - expected).abs() <= bound,
                            "{name} on {device:?}, token {token} of {tokens}, output {i}: {found}, not {expected} ± {bound}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn int8_products_take_every_dtype_and_layout() {
    let device = Device::flex();
    for (name, matrix) in matrices(&device) {
        let [m, n] = matrix.dims();
        let x = tensor([5, n], 3, &device, DType::F32);
        for dtype in public_dtypes(&device) {
            let x = x.clone().cast(dtype);
            let expected = values(int8_linear(x.clone().cast(DType::F32), &matrix, None).cast(dtype));
            let y = int8_linear(x.clone(), &matrix, None);
            assert_eq!(y.dtype(), dtype, "{name}");
            assert_eq!(values(y), expected, "{name}, {dtype:?}");
            let transposed = Tensor::<2>::from_data(x.clone().transpose().into_data(), (&device, dtype)).transpose();
            assert_eq!(values(int8_linear(transposed, &matrix, None)), expected, "{name}, {dtype:?}, transposed");
            let batched = int8_linear(x.reshape([1, 5, n]), &matrix, None);
            assert_eq!(batched.dims(), [1, 5, m], "{name}");
        }
    }
}

#[test]
fn int8_epilogues_are_those_of_the_product() {
    let device = Device::flex();
    for (name, matrix) in matrices(&device) {
        let [m, n] = matrix.dims();
        for tokens in [3, 50] {
            let x = tensor([tokens, n], 3, &device, DType::F32);
            let [gate, residual] = [20, 21].map(|seed| tensor([tokens, m], seed, &device, DType::F32));
            let epilogue = Epilogue::new()
                .with_bias(Some(tensor([m], 22, &device, DType::F32)))
                .with_activation(Activation::Gelu)
                .with_gate(gate)
                .with_residual(residual);
            let expected = values(epilogue.clone().apply(int8_linear(x.clone(), &matrix, None)));
            for (found, expected) in values(int8_linear(x, &matrix, epilogue)).iter().zip(expected) {
                let bound = 16.0 * f64::from(f32::EPSILON) * (1.0 + expected.abs());
                assert!((found - expected).abs() <= bound, "{name}, {tokens} tokens: {found}, not {expected}");
            }
        }
    }
}

#[test]
fn int8_gradients_are_those_of_the_dense_matrix() {
    let device = Device::flex().autodiff();
    for (name, matrix) in matrices(&device) {
        let [m, n] = matrix.dims();
        let (x, dy) = (tensor([5, n], 3, &device, DType::F32), tensor([5, m], 23, &device, DType::F32));
        let x = x.require_grad();
        let y = int8_linear(x.clone(), &matrix, None);
        let expected = values(int8_linear_reference(x.clone().inner(), &inner(&matrix)));
        for (found, expected) in values(y.clone()).iter().zip(expected) {
            assert!((found - expected).abs() <= 1e-4 * (1.0 + expected.abs()), "{name}: {found}, not {expected}");
        }
        let gradients = (y * dy.clone()).sum().backward();
        let dx = values(x.grad(&gradients).expect("a gradient"));
        let expected = values(dy.matmul(matrix.to_dense()));
        let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        for (found, expected) in dx.iter().zip(expected) {
            // Sums of at most 131 products, twice.
            assert!((found - expected).abs() <= 1e-5 * largest, "{name}: {found}, not {expected}");
        }
    }
}

/// The same matrix without gradients.
fn inner(matrix: &Int8Matrix) -> Int8Matrix {
    let factor = |w: &Int8Factor| Int8Factor { values: w.values.clone().inner(), scales: w.scales.clone().inner() };
    match matrix {
        Int8Matrix::BlockDiagonal { w } => Int8Matrix::BlockDiagonal { w: factor(w) },
        Int8Matrix::Monarch { r, l, output } => Int8Matrix::Monarch { r: factor(r), l: factor(l), output: *output },
        Int8Matrix::Blast { u, s, v } => Int8Matrix::Blast { u: factor(u), s: s.clone().inner(), v: factor(v) },
        Int8Matrix::Ss1 { z, fold } => Int8Matrix::Ss1 { z: factor(z), fold: *fold },
    }
}

#[test]
fn int8_products_are_near_those_of_the_floats() {
    let device = Device::flex();
    for (name, matrix) in matrices(&device) {
        let x = tensor([40, matrix.dims()[1]], 3, &device, DType::F32);
        let exact = x.clone().matmul(matrix.to_dense().transpose());
        let error = (int8_linear(x, &matrix, None) - exact.clone()).square().mean() / exact.square().mean();
        // A quantum is 1/127 of the largest of uniform numbers: an error of about 1/127/√12/0.58 for each rounded operand.
        let error = error.into_scalar::<f32>().sqrt();
        assert!((1e-5..0.02).contains(&error), "{name}: {error}");
    }
}

#[test]
fn int8_products_are_as_deep_as_they_may_be() {
    let device = Device::flex();
    let matrix = Int8Matrix::BlockDiagonal { w: factor([1, 6, 40_000], 1, &device) };
    for tokens in [1, 9] {
        let features = numbers(tokens * 40_000, 3);
        let x = Tensor::<2>::from_data(TensorData::new(features.clone(), [tokens, 40_000]), &device);
        let found = values(int8_linear(x, &matrix, None));
        for (token, found) in found.chunks_exact(6).enumerate() {
            let (expected, _) = definition(&matrix, &features[token * 40_000..][..40_000]);
            for (found, expected) in found.iter().zip(expected) {
                assert!(
                    (found - expected).abs() <= 4.0 * f64::from(f32::EPSILON) * expected.abs(),
                    "{found}, not {expected}"
                );
            }
        }
    }
}

#[test]
fn int8_of_tiny_features_is_zero() {
    for device in public_devices() {
        let matrix = Int8Matrix::BlockDiagonal { w: factor([1, 5, 8], 1, &device) };
        let x = Tensor::<2>::full([7, 8], 1e-37, (&device, DType::F32));
        assert!(values(int8_linear(x, &matrix, None)).iter().all(|y| *y == 0.0), "{device:?}");
    }
}

#[test]
fn int8_of_features_that_are_not_finite_is_not_a_number() {
    let device = Device::flex();
    for (name, matrix) in matrices(&device) {
        let [m, n] = matrix.dims();
        let mut features = numbers(9 * n, 3);
        features[4 * n + 1] = f32::INFINITY;
        let x = Tensor::<2>::from_data(TensorData::new(features, [9, n]), &device);
        let y = values(int8_linear(x, &matrix, None));
        for (i, y) in y.iter().enumerate() {
            assert!(y.is_finite() || i / m == 4, "{name}: output {i} is {y}");
        }
        assert!(y[4 * m..5 * m].iter().any(|y| y.is_nan()), "{name}");
    }
}

#[test]
fn int8_factors_round_trip_and_name_what_does_not_fit() {
    let device = Device::flex();
    let w = tensor([2, 3, 5], 1, &device, DType::F32);
    let quantized = Int8Factor::quantize(w.clone());
    let again = Int8Factor::quantize(quantized.dequantize());
    assert_eq!(again.values.into_data(), quantized.values.clone().into_data());
    let error = (quantized.dequantize() - w).abs().max().into_scalar::<f32>();
    assert!(error <= 0.5 / 127.0 * 1.001, "half a quantum at most, not {error}");

    // Weights that are too small for a scale, and one that is no number.
    let odd = Tensor::<3>::from_data([[[1e-38f32, -1e-38], [f32::NAN, 1.0], [2.0, -1.0]]], &device);
    let odd = Int8Factor::quantize(odd);
    assert_eq!(odd.values.into_data().iter::<i64>().collect::<Vec<_>>(), [0, 0, 0, 127, 127, -64]);
    let scales = values(odd.scales);
    assert!(scales[0] < 1e-39 && scales[1].is_nan() && scales[2] > 0.0, "{scales:?}");

    let message = |matrix: Int8Matrix| {
        let x = Tensor::<2>::zeros([1, 10], &device);
        let panic = catch_unwind(AssertUnwindSafe(|| int8_linear(x, &matrix, None))).expect_err("a panic");
        panic.downcast_ref::<String>().cloned().expect("a message")
    };
    let dense = |shape| Int8Matrix::BlockDiagonal { w: factor(shape, 1, &device) };
    assert!(message(dense([1, 4, 11])).contains("the last axis of `x` must be n = 11"));
    let short = Int8Factor { scales: Tensor::ones([1, 3], &device), ..factor([1, 4, 10], 1, &device) };
    assert!(message(Int8Matrix::BlockDiagonal { w: short }).contains("the scales of `w` must be [1, 4]"));
    let (r, l) = (factor([1, 4, 10], 1, &device), factor([1, 6, 5], 1, &device));
    assert!(message(Int8Matrix::Monarch { r, l, output: Order::Grouped }).contains("`l` must read the 4 features"));
    let wide = Int8Factor::from_values(vec![0; 70_000], vec![0.0], [1, 1, 70_000], &device);
    assert!(message(Int8Matrix::BlockDiagonal { w: wide }).contains("at most 65536 inputs"));
}
