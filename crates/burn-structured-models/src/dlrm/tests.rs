use super::*;
use crate::testing::reference::{self, Rows, assert_close, dot, map, rows};
use crate::testing::{devices, every_structure, structures_on, with_noise};
use burn::tensor::{Device, Distribution};

const TABLES: [usize; 3] = [3, 5, 2];

fn tiny() -> DlrmConfig {
    DlrmConfig::new(4, TABLES.to_vec()).with_d_embedding(8).with_bottom(vec![16]).with_top(vec![32, 16])
}

/// The logit of one example in `f64`.
fn reference(model: &Dlrm, numbers: &[f64], categories: &[usize]) -> f64 {
    let mlp = |layers: &[StructuredLinear], x: Rows| {
        layers.iter().fold(x, |x, layer| map(&reference::structured(layer, &x), |value| value.max(0.0)))
    };
    let embeddings = rows(model.embeddings.val());
    let first = mlp(&model.bottom, vec![numbers.to_vec()])[0].clone();
    let mut vectors = vec![first.clone()];
    let mut start = 0;
    for (size, category) in TABLES.into_iter().zip(categories) {
        vectors.push(embeddings[start + category].clone());
        start += size;
    }
    let mut interactions = first;
    for row in 1..vectors.len() {
        interactions.extend((0..row).map(|column| dot(&vectors[row], &vectors[column])));
    }
    interactions.resize(16, 0.0);
    reference::linear(&model.output, &mlp(&model.top, vec![interactions]))[0][0]
}

#[test]
fn forward_equals_the_reference() {
    for (name, device) in devices() {
        let structures = ["blast:b=2,r=3", "dense", "low-rank:r=2", "monarch:b=2,r=2", "ss1:c=2,k=2,n=4"];
        for structure in structures_on(name, &structures) {
            device.seed(4);
            let structure = structure.parse().unwrap();
            let model = with_noise(tiny().with_top_structure(structure).with_bottom_structure(structure).init(&device));
            let numbers = Tensor::<2>::random([3, 4], Distribution::Normal(0.0, 1.0), &device);
            let categories = [[0, 4, 1], [2, 0, 0], [1, 3, 1]];
            let values = rows(numbers.clone());
            let expected = values.iter().zip(categories).map(|(row, categories)| reference(&model, row, &categories));
            let expected = vec![expected.collect::<Vec<f64>>()];
            let categories = categories.map(|row| row.map(|category| category as i64));
            let found = model.forward(numbers, Tensor::<2, Int>::from_data(categories, &device));
            // Five products of up to 32 terms, and the pairs.
            assert_close(found, &expected, 6 * 32, &format!("{structure} on {name}"));
        }
    }
}

#[test]
fn every_structure_gives_logits() {
    let device = Device::flex();
    for structure in every_structure() {
        let model = tiny().with_top_structure(structure).init(&device);
        let logits = model.forward(Tensor::ones([2, 4], &device), Tensor::zeros([2, 3], &device));
        assert!(logits.dims() == [2] && logits.into_data().iter::<f32>().all(f32::is_finite), "{structure}");
    }
}

#[test]
fn components_are_the_forward() {
    let device = Device::flex();
    let model = tiny().init(&device);
    let numbers = Tensor::<2>::random([5, 4], Distribution::Normal(0.0, 1.0), &device);
    let categories = Tensor::<2, Int>::zeros([5, 3], &device);
    let interactions = model.interact(model.bottom(numbers.clone()), model.embed(categories.clone()));
    assert_eq!(interactions.dims(), [5, tiny().d_interaction()]);
    model.top(interactions).into_data().assert_eq(&model.forward(numbers, categories).into_data(), true);
}

#[test]
fn costs_add_up() {
    let device = Device::flex();
    let dense = tiny().init(&device);
    let cost = dense.cost();
    // 8 numbers and 6 pairs, padded to 16.
    assert_eq!(cost.replaced_flops, 2 * (16 * 32 + 32 * 16) + 32 + 16);
    assert_eq!(cost.other_flops, 2 * (4 * 16 + 16 * 8) + 16 + 8 + 2 * 4 * 4 * 8 + 2 * 16 + 1);
    assert_eq!(dense.top_params(), 16 * 32 + 32 + 32 * 16 + 16 + 16 + 1);
    assert_eq!(cost.params, dense.top_params() + 10 * 8 + 4 * 16 + 16 + 16 * 8 + 8);
    let blast = tiny().with_top_structure("blast:b=2,r=2".parse().unwrap()).init(&device);
    assert_eq!(blast.cost().dense_model_flops(), cost.model_flops());
    assert!(blast.top_params() < dense.top_params() && blast.cost().other_flops == cost.other_flops);
}

#[test]
fn errors_name_the_setting_or_the_layer() {
    let message = |config: DlrmConfig| config.try_init(&Device::flex()).unwrap_err().to_string();
    assert_eq!(message(DlrmConfig::new(4, Vec::new())), "tables = [] must have at least one size");
    assert_eq!(message(tiny().with_top(vec![4, 0])), "top = [4, 0] must have sizes of at least 1");
    assert_eq!(message(DlrmConfig::new(0, TABLES.to_vec())), "numbers = 0 must be at least 1");
    let message = message(tiny().with_top_structure("blast:b=5,r=2".parse().unwrap()));
    assert!(message.starts_with("top (16 → 32, blast:b=5,r=2): "), "{message}");
}
