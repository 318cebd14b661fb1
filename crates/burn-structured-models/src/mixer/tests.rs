use super::*;
use crate::testing::reference::{self, Rows, add, assert_close, transpose};
use crate::testing::{devices, every_structure, structures_on, with_noise};
use burn::tensor::{Device, Distribution, Tolerance};
use burn_structured_nn::StructuredMlp;

fn tiny() -> MixerConfig {
    MixerConfig::new(5).with_image_size(8).with_patch_size(4).with_d_model(16).with_depth(2)
}

/// The logits of one image, patch by patch in `f64`.
fn reference(model: &Mixer, image: &[f64], side: usize, patch: usize) -> Vec<f64> {
    let mlp = |mlp: &StructuredMlp, x: &Rows| {
        let hidden = reference::structured(&mlp.up, x);
        reference::structured(&mlp.down, &reference::map(&hidden, reference::gelu))
    };
    let mut x = reference::linear(&model.embedding, &reference::patches(image, side, patch));
    for block in &model.blocks {
        let mixed = mlp(&block.token_mlp, &transpose(&reference::norm(&block.norm1, &x)));
        x = add(&x, &transpose(&mixed));
        x = add(&x, &mlp(&block.channel_mlp, &reference::norm(&block.norm2, &x)));
    }
    let x = transpose(&reference::norm(&model.norm, &x));
    let mean: Vec<f64> = x.iter().map(|feature| feature.iter().sum::<f64>() / feature.len() as f64).collect();
    reference::linear(&model.head, &vec![mean]).concat()
}

#[test]
fn forward_equals_the_reference() {
    for (name, device) in devices() {
        for structure in
            structures_on(name, &["blast:b=2,r=3", "dense", "low-rank:r=2", "monarch:b=2,r=2", "ss1:c=2,k=2,n=4"])
        {
            device.seed(7);
            let config = tiny().with_structure(structure.parse().unwrap());
            let model = with_noise(config.init(&device));
            let images = Tensor::<4>::random([3, 3, 8, 8], Distribution::Normal(0.0, 1.0), &device);
            let values: Vec<f64> = images.to_data().iter::<f64>().collect();
            let expected: Rows = values.chunks(3 * 64).map(|image| reference(&model, image, 8, 4)).collect();
            // Two products of up to 64 terms in each of four branches, the embedding and the head.
            assert_close(model.forward(images), &expected, 10 * 64, &format!("{structure} on {name}"));
        }
    }
}

#[test]
fn every_structure_gives_logits() {
    let device = Device::flex();
    for structure in every_structure() {
        // 16 tokens, and as many hidden features of the token-mixing MLPs.
        let config = tiny().with_image_size(16).with_token_ratio(1.0).with_structure(structure);
        let model = config.init(&device);
        let logits = model.forward(Tensor::random([3, 3, 16, 16], Distribution::Normal(0.0, 1.0), &device));
        assert_eq!(logits.dims(), [3, 5]);
        assert!(logits.into_data().iter::<f32>().all(f32::is_finite), "{structure}");
    }
}

#[test]
fn images_of_a_batch_do_not_mix() {
    let device = Device::flex();
    let model = tiny().init(&device);
    let images = Tensor::<4>::random([2, 3, 8, 8], Distribution::Normal(0.0, 1.0), &device);
    let both = model.forward(images.clone()).narrow(0, 1, 1).into_data();
    let alone = model.forward(images.narrow(0, 1, 1)).into_data();
    both.assert_approx_eq::<f32>(&alone, Tolerance::absolute(1e-5));
}

#[test]
fn token_mixing_looks_at_all_patches() {
    let device = Device::flex();
    let model = tiny().with_depth(1).init(&device);
    let images = Tensor::<4>::random([1, 3, 8, 8], Distribution::Normal(0.0, 1.0), &device);
    let features = |images: Tensor<4>| {
        let x = model.embedding.forward(to_patches(images, 4));
        model.blocks[0].forward(x).narrow(1, 0, 1).into_data()
    };
    // The last patch changes, the first one's features are looked at.
    let changed = images.clone().slice_fill([0..1, 0..3, 4..8, 4..8], 3.0);
    assert_ne!(features(images), features(changed));
}

#[test]
fn costs_add_up() {
    let device = Device::flex();
    let dense = tiny().init(&device).cost();
    // 4 tokens of 16 features; hidden features 8 and 64; two blocks.
    assert_eq!(dense.replaced_params, 2 * (4 * 8 + 8 + 8 * 4 + 4 + 16 * 64 + 64 + 64 * 16 + 16));
    let multiplied = 16 * (2 * 4 * 8 * 2 + 8 + 4) + 4 * (2 * 16 * 64 * 2 + 64 + 16);
    assert_eq!(dense.replaced_flops, 2 * multiplied);
    assert_eq!(dense.other_flops, 2 * 4 * 48 * 16 + 2 * 16 * 5);
    assert_eq!((dense.replaced_flops_ratio(), dense.model_flops_ratio()), (1.0, 1.0));
    let blast = tiny().with_structure("blast:b=2,r=2".parse().unwrap()).init(&device).cost();
    assert_eq!(blast.dense_model_flops(), dense.model_flops());
    assert!(blast.params < dense.params && blast.model_flops() < dense.model_flops());
}

#[test]
fn presets_have_their_published_sizes() {
    let params = |config: MixerConfig| config.init(&Device::flex()).cost().params;
    assert!((550_000..600_000).contains(&params(MixerConfig::small(10))));
    // Tolstikhin et al., table 1: 19 M.
    let mixer_s = params(MixerConfig::mixer_s(1000));
    assert!((18_000_000..19_500_000).contains(&mixer_s), "{mixer_s}");
}

#[test]
fn display_shows_the_structures_of_both_mlps() {
    let config = tiny().with_depth(1).with_token_up("low-rank:r=2".parse().unwrap());
    let text = config.with_channel_down("monarch:b=2".parse().unwrap()).init(&Device::flex()).to_string();
    for part in ["token_mlp", "channel_mlp", "LowRankLinear", "MonarchLinear"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn errors_name_the_setting_or_the_layer() {
    let message = |config: MixerConfig| config.try_init(&Device::flex()).unwrap_err().to_string();
    assert_eq!(
        message(tiny().with_patch_size(3)),
        "patch_size = 3 does not divide image_size = 8; choose a divisor of it"
    );
    assert_eq!(message(tiny().with_token_ratio(0.0)), "token_ratio = 0 leaves an MLP no hidden features");
    assert_eq!(message(tiny().with_drop_path(1.5)), "drop_path = 1.5 is no probability from 0 to below 1");
    let message = message(tiny().with_token_up("blast:b=3,r=2".parse().unwrap()));
    assert!(message.starts_with("token_up (4 → 8, blast:b=3,r=2): d_output = 8 cannot be cut into 3"), "{message}");
}
