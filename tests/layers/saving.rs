//! Records: a layer saved and loaded in either format is the same layer.

use crate::parameters::{filled, perturbed, values};
use crate::table::{D_INPUT, TABLE};
use burn::module::Module;
use burn::store::{BurnpackStore, ModuleSnapshot, SafetensorsStore};
use burn::tensor::{Device, Distribution, Tensor};

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
