//! `forward(x) = x · to_dense()ᵀ + bias`, and what it costs.

use crate::devices::{devices, dtypes, trigonometry};
use crate::parameters::{absolute, cast, filled};
use crate::table::{D_INPUT, D_OUTPUT, Entry, TABLE};
use burn::module::Module;
use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_structured::nn::StructuredLinear;

/// The memory layout of the input.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Contiguous,
    Permuted,
    Sliced,
    /// One token repeated, at a stride of zero.
    Broadcast,
}

const LAYOUTS: [Layout; 4] = [Layout::Contiguous, Layout::Permuted, Layout::Sliced, Layout::Broadcast];

fn draw<const D: usize>(shape: [usize; D], device: &Device, dtype: DType) -> Tensor<D> {
    let length = shape.iter().product();
    let values: Vec<f64> = (0..length).map(|index| ((index * 37 % 101) as f64 - 50.0) / 64.0).collect();
    Tensor::from_data(TensorData::new(values, shape).convert_dtype(dtype), (device, dtype))
}

/// `[2, tokens, D_INPUT]`.
fn input(tokens: usize, layout: Layout, device: &Device, dtype: DType) -> Tensor<3> {
    let draw = |shape: [usize; 3]| draw(shape, device, dtype);
    match layout {
        Layout::Contiguous => draw([2, tokens, D_INPUT]),
        Layout::Permuted => draw([D_INPUT, tokens, 2]).permute([2, 1, 0]),
        Layout::Sliced => draw([3, tokens + 2, D_INPUT + 1]).slice([1..3, 1..tokens + 1, 1..D_INPUT + 1]),
        Layout::Broadcast => draw([1, 1, D_INPUT]).expand([2, tokens, D_INPUT]),
    }
}

fn f64s<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().try_into_vec().expect("f64 values")
}

/// The unit roundoff of sums, and of what is stored in between.
fn roundoff(dtype: DType) -> (f64, f64) {
    let single = f32::EPSILON as f64 / 2.0;
    match dtype {
        DType::F64 => (f64::EPSILON / 2.0, 0.0),
        DType::F32 => (single, 0.0),
        DType::F16 => (single, 2f64.powi(-11)),
        DType::BF16 => (single, 2f64.powi(-8)),
        other => panic!("{other:?} is no float type"),
    }
}

/// Compares with the product by the dense weight, which is computed in f64 on Flex from the same stored weights. The bound
/// is that of an inner product over the absolute values: `x` by the dense weight of the layer without its signs.
fn check<const D: usize>(what: &str, entry: &Entry, layer: &StructuredLinear, x: Tensor<D>, trigonometry: f64) {
    let dtype = x.dtype();
    let flex = Device::flex();
    let exact = cast(layer.clone().fork(&flex), DType::F64);
    let dense = f64s(exact.to_dense());
    let magnitude = f64s(absolute(exact).to_dense());
    let inputs = f64s(x.clone());
    let outputs = f64s(layer.forward(x));
    assert_eq!(outputs.len(), inputs.len() / D_INPUT * D_OUTPUT, "{what}");

    let (sum, store) = roundoff(dtype);
    // Every product is a sum of at most all features, over at most all components; half precision stores x, the weights,
    // what is in between and the result. Masks add their own sums over the harmonics of either side, whose phases are off
    // by as many roundings as their angle has units.
    let masks = if entry.structure.starts_with("gaudi") { 8 * (D_INPUT + D_OUTPUT) } else { 0 };
    // A weight has two masks, each of sums of products with a sine and a cosine.
    let masks = masks as f64 * sum + if masks > 0 { 4.0 * trigonometry } else { 0.0 };
    let relative = (2 * (D_INPUT + D_OUTPUT)) as f64 * sum + masks + 8.0 * store;
    for (token, x) in inputs.chunks_exact(D_INPUT).enumerate() {
        for output in 0..D_OUTPUT {
            let row = output * D_INPUT..(output + 1) * D_INPUT;
            let expected: f64 = x.iter().zip(&dense[row.clone()]).map(|(x, w)| x * w).sum();
            let size: f64 = x.iter().zip(&magnitude[row]).map(|(x, w)| (x * w).abs()).sum();
            let actual = outputs[token * D_OUTPUT + output];
            let bound = relative * size + store * 1e-3;
            // Written so that NaN fails.
            let close = (actual - expected).abs() <= bound;
            assert!(close, "{what}, token {token}, output {output}: {actual} instead of {expected} (±{bound:e})");
        }
    }
}

#[test]
fn forward_is_the_product_with_to_dense() {
    for (name, device) in devices() {
        for dtype in dtypes(name) {
            for entry in &TABLE {
                let config = entry.config().with_bias(false);
                let layer = cast(filled(config.init(&device), 2), dtype);
                let native = ["flex", "ndarray"].contains(&name);
                let layouts = if native { &LAYOUTS[..] } else { &LAYOUTS[..2] };
                for layout in layouts {
                    for tokens in if native { &[1, 7, 65][..] } else { &[7][..] } {
                        let what = format!("{name}, {dtype:?}, {}, {layout:?}, {tokens} tokens", entry.structure);
                        check(&what, entry, &layer, input(*tokens, *layout, &device, dtype), trigonometry(name));
                    }
                }
            }
        }
    }
}

/// No reshape stands between such an input and the kernels.
#[test]
fn input_of_two_axes_is_read_in_place() {
    for (name, device) in devices() {
        let draw = |shape: [usize; 2]| draw(shape, &device, DType::F32);
        for entry in &TABLE {
            let layer = filled(entry.config().with_bias(false).init(&device), 2);
            for tokens in if ["flex", "ndarray"].contains(&name) { &[1, 7, 65][..] } else { &[7][..] } {
                for layout in LAYOUTS {
                    let x = match layout {
                        Layout::Contiguous => draw([*tokens, D_INPUT]),
                        Layout::Permuted => draw([D_INPUT, *tokens]).swap_dims(0, 1),
                        Layout::Sliced => draw([tokens + 2, D_INPUT + 1]).slice([1..tokens + 1, 1..D_INPUT + 1]),
                        Layout::Broadcast => draw([1, D_INPUT]).expand([*tokens, D_INPUT]),
                    };
                    let what = format!("{name}, {}, {layout:?}, {tokens} tokens", entry.structure);
                    check(&what, entry, &layer, x, trigonometry(name));
                }
            }
        }
    }
}

/// With fusion, the products run between element-wise operations that a device may merge.
#[test]
fn forward_mixes_with_element_wise_operations() {
    for (name, device) in devices() {
        for entry in &TABLE {
            let layer = entry.layer(&device);
            let x = input(5, Layout::Contiguous, &device, DType::F32);
            let mixed = layer.forward(x.clone() * 2.0 - 1.0) + 0.5;
            let separate = layer.forward(Tensor::<3>::from_data((x * 2.0 - 1.0).into_data(), &device));
            let separate: Vec<f32> = separate.into_data().iter::<f32>().map(|value| value + 0.5).collect();
            let mixed: Vec<f32> = mixed.into_data().iter::<f32>().collect();
            for (mixed, separate) in mixed.iter().zip(&separate) {
                assert!((mixed - separate).abs() < 1e-5, "{name}, {}: {mixed} and {separate}", entry.structure);
            }
        }
    }
}

#[test]
fn forward_adds_bias() {
    for entry in &TABLE {
        let layer = entry.layer(&Device::flex());
        let zero = Tensor::<2>::zeros([1, D_INPUT], &Device::flex());
        let bias = layer.forward(zero).into_data();
        assert!(bias.iter::<f32>().any(|value| value != 0.0), "{}", entry.structure);
        assert_eq!(layer.num_params() - entry.weights, D_OUTPUT, "{}", entry.structure);
    }
}

#[test]
fn cost_follows_the_formulas() {
    for entry in &TABLE {
        let layer = entry.layer(&Device::flex());
        let cost = layer.cost();
        assert_eq!(cost.params, layer.num_params(), "{}", entry.structure);
        assert_eq!(cost.params, entry.weights + D_OUTPUT, "{}", entry.structure);
        assert_eq!(cost.flops_per_token, entry.flops + D_OUTPUT, "{}", entry.structure);
        assert_eq!(cost.dense_params, D_INPUT * D_OUTPUT + D_OUTPUT, "{}", entry.structure);
        assert_eq!(cost.bytes_per_token, 4 * (cost.params + D_INPUT + D_OUTPUT), "{}", entry.structure);
    }
}

#[test]
fn init_keeps_the_output_variance() {
    let device = Device::flex();
    device.seed(3);
    let (d_input, d_output, draws) = (96, 64, 60);
    let x = Tensor::<2>::random([128, d_input], burn::tensor::Distribution::Normal(0.0, 1.0), &device);
    for entry in TABLE.iter().filter(|entry| !entry.structure.starts_with("btt")) {
        let name = entry.structure.split(':').next().unwrap_or_default();
        let structure = if name == "pixelfly" { "pixelfly:b=8,stride=4" } else { name };
        let structure = structure.parse().expect("a structure");
        let config = burn_structured::nn::StructuredLinearConfig::new(d_input, d_output, structure).with_bias(false);
        let variance = || config.init(&device).forward(x.clone()).powf_scalar(2.0).mean().into_scalar::<f64>();
        let mean = (0..draws).map(|_| variance()).sum::<f64>() / draws as f64;
        // A dense layer's uniform weights in ±√(1/d) give 1/3.
        assert!((mean * 3.0 - 1.0).abs() < 0.2, "{name}: {mean}");
    }
}
