//! Epilogues and activations: fused with a product as by themselves, on every backend, and their gradients.

use crate::backends::{function_dtypes, public_devices};
use crate::tensors::draw;
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_structured_ops::activation::{Activation, activate};
use burn_structured_ops::blast::blast_linear_with;
use burn_structured_ops::block_diagonal::{Order, Orders, block_diagonal_linear};
use burn_structured_ops::dense::dense_linear;
use burn_structured_ops::kronecker::kronecker_linear;
use burn_structured_ops::low_rank::low_rank_linear;
use burn_structured_ops::monarch::monarch_linear;
use burn_structured_ops::pixelfly::pixelfly_linear;
use burn_structured_ops::ss1::{Fold, Rotations, Ss1Strategy, ss1_linear_with};
use burn_structured_ops::{BlastStrategy, Epilogue};
use std::panic::{AssertUnwindSafe, catch_unwind};

const N: usize = 24;
const M: usize = 40;

type Product = Box<dyn Fn(Tensor<2>, Epilogue<2>) -> Tensor<2>>;

fn drawn<const D: usize>(shape: [usize; D], salt: usize, device: &Device, dtype: DType) -> Tensor<D> {
    Tensor::from_data(TensorData::new(draw(shape.iter().product(), salt), shape), (device, dtype))
}

/// Every product `[tokens, N]` to `[tokens, M]`.
fn products(device: &Device, dtype: DType) -> Vec<(String, Product)> {
    let mut products: Vec<(String, Product)> = Vec::new();
    let mut add = |name: &str, product: Product| products.push((name.to_string(), product));
    let (w, v, ut) =
        (drawn([N, M], 2, device, dtype), drawn([N, 9], 3, device, dtype), drawn([9, M], 4, device, dtype));
    let (v_of_low_rank, ut_of_low_rank) = (v.clone(), ut.clone());
    add("dense", Box::new(move |x, epilogue| dense_linear(x, w.clone(), epilogue)));
    add(
        "low rank",
        Box::new(move |x, epilogue| low_rank_linear(x, v_of_low_rank.clone(), ut_of_low_rank.clone(), epilogue)),
    );
    for order in [Order::Grouped, Order::Strided] {
        let w = drawn([4, M / 4, N / 4], 5, device, dtype);
        let orders = Orders { input: Order::Grouped, output: order };
        add(
            &format!("block diagonal, {order:?}"),
            Box::new(move |x, epilogue| block_diagonal_linear(x, w.clone(), epilogue, orders)),
        );
    }
    let (r, l) = (drawn([4, 5, N / 4], 6, device, dtype), drawn([2, M / 2, 10], 7, device, dtype));
    add("Monarch", Box::new(move |x, epilogue| monarch_linear(x, r.clone(), l.clone(), epilogue, Order::Strided)));
    for strategy in [
        BlastStrategy::Auto,
        BlastStrategy::Reference,
        BlastStrategy::Staged,
        BlastStrategy::Fused,
        BlastStrategy::Decode,
    ] {
        let u = drawn([4, M / 4, 11], 8, device, dtype);
        let (s, v) = (drawn([4, 3, 11], 9, device, dtype), drawn([3, N / 3, 11], 10, device, dtype));
        let product =
            move |x, epilogue: Epilogue<2>| blast_linear_with(x, u.clone(), s.clone(), v.clone(), epilogue, strategy);
        add(&format!("BLAST, {strategy:?}"), Box::new(product));
    }
    for strategy in [Ss1Strategy::Auto, Ss1Strategy::Reference, Ss1Strategy::Staged] {
        let rotations = Rotations::Drawn { seed: 1, signs: true };
        let fold = Fold { d_input: N, reduction: 2, block_k: 4, block_n: 16, rotations };
        let z = drawn([fold.width(), M], 11, device, dtype);
        add(
            &format!("SS1, {strategy:?}"),
            Box::new(move |x, epilogue| ss1_linear_with(x, z.clone(), epilogue, fold, strategy)),
        );
    }
    let sparse = drawn([4, M / 4, 2 * N / 4], 12, device, dtype);
    add("Pixelfly", Box::new(move |x, epilogue| pixelfly_linear(x, sparse.clone(), v.clone(), ut.clone(), epilogue)));
    let (a, b) = (drawn([2, 8, 4], 13, device, dtype), drawn([2, M / 8, N / 4], 14, device, dtype));
    add("Kronecker", Box::new(move |x, epilogue| kronecker_linear(x, a.clone(), b.clone(), epilogue)));
    products
}

/// `f(x)` and `f'(x)` from their definitions.
fn reference(activation: Option<Activation>, x: f64) -> (f64, f64) {
    let sigmoid = 1.0 / (1.0 + (-x).exp());
    let scale = (2.0 / std::f64::consts::PI).sqrt();
    match activation {
        None => (x, 1.0),
        Some(Activation::Relu) => (x.max(0.0), f64::from(u8::from(x > 0.0))),
        Some(Activation::Gelu) => {
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            // `(Φ(x) - 1/2) / φ(x) = Σ x^(2k+1) / (1 · 3 · … · (2k+1))` (Abramowitz and Stegun, 26.2.11).
            let (mut term, mut sum) = (x, 0.0);
            for k in 1..400 {
                sum += term;
                term *= x * x / (2 * k + 1) as f64;
            }
            let distribution = 0.5 + density * sum;
            (x * distribution, distribution + x * density)
        }
        Some(Activation::GeluTanh) => {
            let tanh = (scale * (x + 0.044715 * x.powi(3))).tanh();
            let slope = scale * (1.0 + 3.0 * 0.044715 * x * x);
            (0.5 * x * (1.0 + tanh), 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * slope)
        }
        Some(Activation::Silu) => (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid))),
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// The unit roundoff, four times: an activation is within two, and the product is rounded before and after it.
fn roundings(dtype: DType) -> f64 {
    4.0 * match dtype {
        DType::F64 => f64::EPSILON,
        DType::F32 => f64::from(f32::EPSILON),
        DType::F16 => 2f64.powi(-10),
        DType::BF16 => 2f64.powi(-7),
        other => panic!("{other:?} is not a float"),
    }
}

fn every_activation() -> impl Iterator<Item = Option<Activation>> {
    std::iter::once(None).chain(Activation::ALL.map(Some))
}

#[test]
fn an_epilogue_follows_every_product() {
    for device in public_devices() {
        let native = device == Device::flex();
        let dtypes = function_dtypes(&device);
        let dtypes = if native { dtypes } else { vec![DType::F32] };
        for dtype in dtypes {
            for (name, product) in products(&device, dtype) {
                let tokens: &[usize] = if native { &[1, 7, 61] } else { &[7] };
                for tokens in tokens {
                    let shape = [*tokens, M];
                    let x = drawn([*tokens, N], 1, &device, dtype) * 0.5;
                    let bias = drawn([M], 15, &device, dtype);
                    let [gate, residual] = [16, 17].map(|salt| drawn(shape, salt, &device, dtype));
                    let before = values(product(x.clone(), Some(bias.clone()).into()));
                    let (of_gate, of_residual) = (values(gate.clone()), values(residual.clone()));
                    // Elsewhere the same few operations follow every product.
                    let activations = if native { every_activation().collect() } else { vec![Some(Activation::Gelu)] };
                    let parts = [[true, true], [false, false], [true, false], [false, true]];
                    for activation in activations {
                        for [gated, added] in parts.into_iter().take(if native { 4 } else { 1 }) {
                            let epilogue = Epilogue {
                                bias: Some(bias.clone()),
                                activation,
                                gate: gated.then(|| gate.clone()),
                                residual: added.then(|| residual.clone()),
                            };
                            let found = values(product(x.clone(), epilogue));
                            for (i, found) in found.into_iter().enumerate() {
                                let gate = if gated { of_gate[i] } else { 1.0 };
                                let residual = if added { of_residual[i] } else { 0.0 };
                                let expected = residual + gate * reference(activation, before[i]).0;
                                let size = (gate * before[i]).abs() + residual.abs() + 1.0;
                                assert!(
                                    (found - expected).abs() <= roundings(dtype) * size,
                                    "{name} on {device:?}, {dtype:?}, {tokens} tokens, {activation:?}, gate {gated}, residual \
                                     {added}: element {i} is {found}, not {expected}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn activations_and_their_gradients_are_those_of_their_definitions() {
    for device in public_devices() {
        for dtype in function_dtypes(&device) {
            // More than a task on Flex, with a part that is no vector.
            let count = if device == Device::flex() { 40_003 } else { 403 };
            let xs: Vec<f64> = (0..count).map(|i| (i as f64 / count as f64 - 0.5) * 14.0 + 1e-3).collect();
            let x = Tensor::<1>::from_data(TensorData::new(xs, [count]), (&device, dtype));
            let exact = values(x.clone());
            for activation in Activation::ALL {
                let x = x.clone().autodiff().require_grad();
                let y = activate(x.clone(), activation);
                let gradients = (y.clone() * 2.0).sum().backward();
                let (y, dx) = (values(y), values(x.grad(&gradients).expect("a gradient")));
                for (i, x) in exact.iter().enumerate().step_by(count / 200) {
                    let (value, slope) = reference(Some(activation), *x);
                    let what = format!("{activation:?} of {x} on {device:?}, {dtype:?}");
                    // Burn's functions round more often than ours.
                    let bound = 4.0 * roundings(dtype) * (1.0 + x.abs());
                    assert!((y[i] - value).abs() <= bound, "{what}: {}, not {value}", y[i]);
                    assert!((dx[i] - 2.0 * slope).abs() <= 2.0 * bound, "{what}: slope {}, not {}", dx[i], 2.0 * slope);
                }
            }
        }
    }
}

#[test]
fn gradients_pass_through_every_epilogue() {
    let (device, dtype, tokens) = (Device::flex().autodiff(), DType::F64, 5);
    for (name, product) in products(&device, dtype) {
        for activation in every_activation() {
            let shapes = [[tokens, N], [1, M], [tokens, M], [tokens, M]];
            let weights = drawn([tokens, M], 18, &device, dtype);
            let loss = |[x, bias, gate, residual]: [Tensor<2>; 4]| {
                let epilogue = Epilogue { bias: Some(bias.squeeze_dim(0)), activation, ..Epilogue::new() };
                (product(x, epilogue.with_gate(gate).with_residual(residual)) * weights.clone()).sum()
            };
            let at: [Tensor<2>; 4] =
                std::array::from_fn(|i| (drawn(shapes[i], 20 + i, &device, dtype) * 0.3 + 0.011).require_grad());
            let gradients = loss(at.clone()).backward();
            for (i, operand) in at.iter().enumerate() {
                let direction = drawn(shapes[i], 30 + i, &device, dtype);
                let moved = |step: f64| {
                    let mut at = at.clone().map(Tensor::detach);
                    at[i] = at[i].clone() + direction.clone() * step;
                    loss(at).into_scalar::<f64>()
                };
                let h = 1e-6;
                let expected = (moved(h) - moved(-h)) / (2.0 * h);
                let gradient =
                    Tensor::from_data(operand.grad(&gradients).expect("a gradient").into_data(), (&device, dtype));
                let found = (gradient * direction.clone()).sum().into_scalar::<f64>();
                assert!(
                    (found - expected).abs() <= 1e-7 * (1.0 + expected.abs()),
                    "{name}, {activation:?}, operand {i}: {found}, not {expected}"
                );
            }
        }
    }
}

#[test]
fn an_epilogue_of_another_shape_is_named() {
    let (device, dtype) = (Device::flex(), DType::F32);
    let message = |epilogue: Epilogue<2>, product: &Product| {
        let x = drawn([3, N], 1, &device, dtype);
        let panic = catch_unwind(AssertUnwindSafe(|| product(x, epilogue))).expect_err("a panic");
        panic.downcast_ref::<String>().cloned().expect("a message")
    };
    for (name, product) in products(&device, dtype) {
        let gate = message(Epilogue::new().with_gate(Tensor::zeros([3, M - 1], &device)), &product);
        assert!(gate.contains("`gate` must have the output's shape"), "{name}: {gate}");
        let residual = message(Epilogue::new().with_residual(Tensor::zeros([1, M], &device)), &product);
        assert!(residual.contains("`residual` must have the output's shape"), "{name}: {residual}");
        let wide = Epilogue::new().with_residual(Tensor::zeros([3, M], (&device, DType::F64)));
        assert!(message(wide, &product).contains("`residual` and `x` must have the same dtype"), "{name}");
        let bias = message(Some(Tensor::zeros([M + 1], &device)).into(), &product);
        assert!(bias.contains("`bias` must have m = 40 elements"), "{name}: {bias}");
    }
}
