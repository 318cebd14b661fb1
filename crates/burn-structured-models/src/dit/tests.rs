use super::*;
use crate::testing::reference::{self, Rows, add, assert_close, map, normalised, rows};
use crate::testing::{devices, every_structure, structures_on, with_noise};
use burn::tensor::{Device, Distribution, TensorData, Tolerance};

fn tiny() -> DitConfig {
    DitConfig::new(3).with_image_size(8).with_d_model(16).with_depth(2).with_heads(2).with_frequencies(8)
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

/// The noise in one image, in `f64`.
fn reference(model: &Dit, image: &[f64], time: f64, class: usize) -> Vec<f64> {
    let d_model = 16;
    let waves: Vec<f64> = (0..8)
        .map(|index| {
            let angle = time / 10_000f64.powf((index % 4) as f64 / 4.0);
            if index < 4 { angle.cos() } else { angle.sin() }
        })
        .collect();
    let hidden = map(&reference::structured(&model.condition.up, &vec![waves]), silu);
    let times = reference::structured(&model.condition.down, &hidden);
    let condition = map(&add(&times, &vec![rows(model.condition.classes.weight.val())[class].clone()]), silu);
    let parts = |layer: &StructuredLinear| -> Rows {
        reference::structured(layer, &condition)[0].chunks(d_model).map(<[f64]>::to_vec).collect()
    };
    let modulate = |x: &Rows, shift: &[f64], scale: &[f64]| -> Rows {
        let one = |x: Vec<f64>| (0..d_model).map(|index| x[index] * (1.0 + scale[index]) + shift[index]).collect();
        normalised(x, 1e-6).into_iter().map(one).collect()
    };
    let gated = |x: &Rows, branch: &Rows, gate: &[f64]| -> Rows {
        let gate = |row: &Vec<f64>| row.iter().zip(gate).map(|(value, gate)| value * gate).collect();
        add(x, &branch.iter().map(gate).collect())
    };
    let mut x = reference::linear(&model.embedding, &reference::patches(image, 8, 4));
    x = add(&x, &rows(model.positions.val()));
    for block in &model.blocks {
        let p = parts(&block.modulation);
        let qkv = reference::structured(&block.attention.qkv, &modulate(&x, &p[0], &p[1]));
        let attended = reference::structured(&block.attention.proj, &reference::attention(&qkv, 2));
        x = gated(&x, &attended, &p[2]);
        let hidden = map(&reference::structured(&block.mlp.up, &modulate(&x, &p[3], &p[4])), gelu_tanh);
        x = gated(&x, &reference::structured(&block.mlp.down, &hidden), &p[5]);
    }
    let p = parts(&model.last.modulation);
    let patches = reference::linear(&model.last.output, &modulate(&x, &p[0], &p[1]));
    let mut image = vec![0.0; 3 * 64];
    for (token, patch) in patches.iter().enumerate() {
        for (index, value) in patch.iter().enumerate() {
            let (channel, row, column) = (index / 16, index % 16 / 4 + token / 2 * 4, index % 4 + token % 2 * 4);
            image[(channel * 8 + row) * 8 + column] = *value;
        }
    }
    image
}

#[test]
fn forward_equals_the_reference() {
    for (name, device) in devices() {
        let structures = ["blast:b=2,r=3", "dense", "low-rank:r=2", "monarch:b=2,r=2", "ss1:c=2,k=2,n=4"];
        for structure in structures_on(name, &structures) {
            device.seed(7);
            let model = with_noise(tiny().with_structure(structure.parse().unwrap()).init(&device));
            let images = Tensor::<4>::random([3, 3, 8, 8], Distribution::Normal(0.0, 1.0), &device);
            let (times, classes) = ([999.0, 0.0, 12.0], [2, model.null_class(), 0]);
            let values: Vec<f64> = images.to_data().iter::<f64>().collect();
            let expected: Rows = values
                .chunks(3 * 64)
                .zip(times.into_iter().zip(classes))
                .map(|(image, (time, class))| reference(&model, image, time, class))
                .collect();
            // Four products of up to 64 terms in each of two blocks, with norms between them, the condition, and both ends.
            assert_close(
                model.forward(images, &times, &classes),
                &expected,
                12 * 64,
                &format!("{structure} on {name}"),
            );
        }
    }
}

#[test]
fn fresh_blocks_are_the_identity() {
    let device = Device::flex();
    for structure in ["dense", "blast:b=2,r=3", "low-rank:r=2", "monarch:b=2,r=2", "ss1:c=2,k=2,n=4", "kronecker:r=2"] {
        let model = tiny().with_structure(structure.parse().unwrap()).init(&device);
        let x = Tensor::<3>::random([2, 4, 16], Distribution::Normal(0.0, 1.0), &device);
        let condition = Tensor::<2>::random([2, 16], Distribution::Normal(0.0, 1.0), &device);
        let y = model.blocks[1].forward(x.clone(), condition);
        y.into_data().assert_eq(&x.into_data(), true);
    }
}

#[test]
fn fresh_modulation_of_any_structure_learns() {
    let device = Device::flex().autodiff();
    for name in ["dense", "blast:b=2,r=3", "low-rank:r=2", "monarch:b=2,r=2", "kronecker:r=2"] {
        let model = tiny().with_structure(name.parse().unwrap()).init(&device);
        let x = Tensor::<3>::random([2, 4, 16], Distribution::Normal(0.0, 1.0), &device);
        let condition = Tensor::<2>::random([2, 16], Distribution::Normal(0.0, 1.0), &device);
        let loss = (model.blocks[0].forward(x.clone(), condition) - x * 2.0).square().sum();
        let gradients = burn::optim::GradientsParams::from_grads(loss.backward(), &model.blocks[0].modulation);
        let layer = &model.blocks[0].modulation;
        let largest = match layer {
            StructuredLinear::Dense(layer) => {
                gradients.get::<2>(layer.weight.id).unwrap().abs().max().into_scalar::<f32>()
            }
            _ => {
                let largest = |id| gradients.get::<3>(id).map(|gradient| gradient.abs().max().into_scalar::<f32>());
                let flat = |id| gradients.get::<2>(id).map(|gradient| gradient.abs().max().into_scalar::<f32>());
                let ids = layer.factors().into_iter().map(|factor| factor.id);
                match name {
                    "low-rank:r=2" => ids.filter_map(flat).fold(0.0, f32::max),
                    _ => ids.filter_map(largest).fold(0.0, f32::max),
                }
            }
        };
        assert!(largest > 0.0, "{name}");
    }
}

#[test]
fn every_structure_gives_images() {
    let device = Device::flex();
    for structure in every_structure() {
        let config = tiny().with_frequencies(16).with_structure(structure);
        let images = Tensor::random([1, 3, 8, 8], Distribution::Normal(0.0, 1.0), &device);
        let noise = with_noise(config.init(&device)).forward(images, &[5.0], &[1]);
        assert_eq!(noise.dims(), [1, 3, 8, 8]);
        assert!(noise.into_data().iter::<f32>().all(f32::is_finite), "{structure}");
    }
}

#[test]
fn sinusoids_have_cosines_first() {
    let waves = sinusoidal(2.0, 4);
    let expected = [2f64.cos(), 0.02f64.cos(), 2f64.sin(), 0.02f64.sin()];
    assert!(waves.iter().zip(expected).all(|(wave, expected)| (wave - expected).abs() < 1e-15), "{waves:?}");
}

#[test]
fn positions_tell_rows_from_columns() {
    let positions = tiny().init(&Device::flex()).positions.val().reshape([4, 2, 8]).into_data();
    let values: Vec<f32> = positions.iter::<f32>().collect();
    let half = |token: usize, half: usize| &values[token * 16 + half * 8..][..8];
    // Tokens 0 and 1 are in one row, 0 and 2 in one column.
    assert!(half(0, 0) == half(1, 0) && half(0, 1) != half(1, 1));
    assert!(half(0, 0) != half(2, 0) && half(0, 1) == half(2, 1));
}

#[test]
fn time_and_class_change_the_output() {
    let device = Device::flex();
    device.seed(2);
    let model = with_noise(tiny().init(&device));
    let images = Tensor::<4>::random([1, 3, 8, 8], Distribution::Normal(0.0, 1.0), &device);
    let noise = |time, class| model.forward(images.clone(), &[time], &[class]).into_data();
    assert_ne!(noise(3.0, 0), noise(4.0, 0));
    assert_ne!(noise(3.0, 0), noise(3.0, model.null_class()));
}

#[test]
fn linears_are_all_that_take_a_structure() {
    let mut model = tiny().init(&Device::flex());
    let names: Vec<String> = model.linears().map(|(name, _)| name).collect();
    assert_eq!((names.len(), names[2].as_str()), (2 + 2 * 5 + 1, "blocks.0.attention.qkv"));
    assert_eq!(model.linears_mut().map(|(name, _)| name).collect::<Vec<_>>(), names);
    let structured = tiny().with_structure("low-rank:r=2".parse().unwrap()).init(&Device::flex());
    assert!(structured.linears().all(|(_, layer)| matches!(layer, StructuredLinear::LowRank(_))));
}

#[test]
fn costs_add_up() {
    let device = Device::flex();
    let dense = tiny().init(&device).cost();
    let block = 2 * 4 * (16 * 48 + 16 * 16 + 2 * 16 * 64) + 4 * (48 + 16 + 64 + 16) + (2 * 16 + 1) * 96;
    let condition = 2 * (8 * 16 + 16 * 16) + 2 * 16 + (2 * 16 + 1) * 32;
    assert_eq!(dense.replaced_flops, 2 * block + condition);
    assert_eq!(dense.other_flops, 2 * 2 * 2 * 4 * 4 * 16 + 2 * 2 * 4 * 48 * 16);
    assert_eq!((dense.replaced_flops_ratio(), dense.dense_replaced_params), (1.0, dense.replaced_params));
    let blast = tiny().with_structure("blast:b=2,r=2".parse().unwrap()).init(&device).cost();
    assert_eq!(blast.dense_model_flops(), dense.model_flops());
    assert!(blast.params < dense.params && blast.model_flops() < dense.model_flops());
}

#[test]
fn images_of_a_batch_do_not_mix() {
    let device = Device::flex();
    let model = with_noise(tiny().init(&device));
    let images = Tensor::<4>::random([2, 3, 8, 8], Distribution::Normal(0.0, 1.0), &device);
    let both = model.forward(images.clone(), &[7.0, 8.0], &[0, 1]).narrow(0, 1, 1).into_data();
    let alone = model.forward(images.narrow(0, 1, 1), &[8.0], &[1]).into_data();
    both.assert_approx_eq::<f32>(&alone, Tolerance::relative(1e-4).set_absolute(1e-4));
}

#[test]
fn fresh_model_predicts_zero() {
    let device = Device::flex();
    let noise = tiny().init(&device).forward(Tensor::ones([1, 3, 8, 8], &device), &[1.0], &[0]);
    noise.into_data().assert_eq(&TensorData::zeros::<f32, _>([1, 3, 8, 8]), true);
}

#[test]
fn errors_name_the_setting_or_the_layer() {
    let message = |config: DitConfig| config.try_init(&Device::flex()).unwrap_err().to_string();
    assert_eq!(message(tiny().with_frequencies(7)), "frequencies = 7 is odd; half are sines, half cosines");
    assert_eq!(message(tiny().with_heads(3)), "heads = 3 does not divide d_model = 16; choose a divisor of it");
    assert!(message(tiny().with_d_model(6)).starts_with("d_model = 6 is no multiple of 4"));
    let message = message(tiny().with_modulation("blast:b=5,r=2".parse().unwrap()));
    assert!(message.starts_with("modulation (16 → 96, blast:b=5,r=2): "), "{message}");
}
