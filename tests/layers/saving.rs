//! Records: a layer saved and loaded in either format is the same layer.

use crate::parameters::{filled, perturbed, values};
use crate::table::{D_INPUT, TABLE};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::store::{BurnToPyTorchAdapter, BurnpackStore, ModuleSnapshot, SafetensorsStore};
use burn::tensor::{Device, Distribution, Tensor};
use burn_structured::checkpoint::{Checkpoint, Orientation, layer, linears};

#[test]
fn layers_survive_burnpack_and_safetensors() {
    let device = Device::flex();
    let folder = tempfile::tempdir().expect("a folder");
    let x = Tensor::<2>::random([3, D_INPUT], Distribution::Default, &device);
    for entry in &TABLE {
        // Every parameter has to be brought along: none has the value it starts with.
        let layer = (0..values(&entry.layer(&device)).len())
            .fold(entry.layer(&device), |layer, parameter| perturbed(layer, parameter, 0, 0.07));
        let expected = layer.forward(x.clone()).into_data();
        let other = || {
            let layer = filled(entry.config().init(&device), 7);
            assert_ne!(layer.forward(x.clone()).into_data(), expected, "{}", entry.structure);
            layer
        };

        let path = folder.path().join("layer.bpk");
        layer.clone().into_record().save(&path).expect("saved");
        let loaded = other().load_record(burn::store::ModuleRecord::load(&path).expect("loaded"));
        loaded.forward(x.clone()).into_data().assert_eq(&expected, true);
        std::fs::remove_file(&path).expect("removed");

        let mut store = BurnpackStore::from_file(&path);
        layer.save_into(&mut store).expect("saved");
        let mut loaded = other();
        loaded.load_from(&mut BurnpackStore::from_file(&path)).expect("loaded");
        loaded.forward(x.clone()).into_data().assert_eq(&expected, true);
        std::fs::remove_file(&path).expect("removed");

        let path = folder.path().join("layer.safetensors");
        layer.save_into(&mut SafetensorsStore::from_file(&path)).expect("saved");
        let mut loaded = other();
        loaded.load_from(&mut SafetensorsStore::from_file(&path)).expect("loaded");
        loaded.forward(x.clone()).into_data().assert_eq(&expected, true);
        for (loaded, saved) in values(&loaded).iter().zip(values(&layer)) {
            loaded.assert_eq(&saved, true);
        }
        std::fs::remove_file(&path).expect("removed");
    }
}

/// Two layers as a program without this crate has them; the axes of the second one are of one length, and it has no bias.
#[derive(Module, Debug)]
struct Plain {
    wide: Linear,
    square: Linear,
}

#[test]
fn files_that_burn_wrote_are_read_as_burn_s() {
    let device = Device::flex();
    let model = Plain {
        wide: LinearConfig::new(6, 8).init(&device),
        square: LinearConfig::new(6, 6).with_bias(false).init(&device),
    };
    let x = Tensor::<2>::random([3, 6], Distribution::Default, &device);
    for adapted in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        let store = SafetensorsStore::from_file(&path);
        let mut store = if adapted { store.with_to_adapter(BurnToPyTorchAdapter) } else { store };
        model.save_into(&mut store).expect("saved");
        let file = Checkpoint::open(&path).expect("a checkpoint");
        let found: Vec<_> = linears(&file).iter().map(|linear| (linear.d_input, linear.d_output)).collect();
        assert_eq!(found, [(6, 6), (6, 8)], "{adapted}");
        let expected = if adapted { Orientation::OutIn } else { Orientation::InOut };
        assert!(linears(&file).iter().all(|linear| linear.orientation == expected), "{adapted}");
        for (name, linear) in [("wide", &model.wide), ("square", &model.square)] {
            let read = layer(&file, name, &device).expect("a layer").forward(x.clone());
            read.into_data().assert_eq(&linear.forward(x.clone()).into_data(), true);
        }
    }
}
