//! What tests of several models use: checkpoints that are taken apart and put together, the inputs of layers, devices, and references.

pub(crate) mod reference;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use burn_store::{ModuleSnapshot, bridge};
use burn_structured_checkpoint::{self as checkpoint, Checkpoint, Dtype};
use burn_structured_nn::{Structure, observe_inputs};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::rc::Rc;

/// Name, type, shape and bytes of a tensor.
pub(crate) type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

type Metadata = BTreeMap<String, String>;

/// The tensors and the metadata of a model folder.
pub(crate) fn read_stored(folder: &Path) -> (Vec<Stored>, Metadata) {
    let file = Checkpoint::open(folder).unwrap();
    let stored = |tensor: &checkpoint::TensorInfo| {
        let bytes = file.bytes(&tensor.name).unwrap().to_vec();
        (tensor.name.clone(), tensor.dtype, tensor.shape.clone(), bytes)
    };
    (file.tensors().map(stored).collect(), file.metadata().clone())
}

fn write(path: &Path, tensors: &[Stored], metadata: &Metadata) {
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| checkpoint::TensorData {
            name: name.clone(),
            dtype: *dtype,
            shape: shape.clone(),
            bytes: Cow::Borrowed(bytes),
        })
        .collect();
    checkpoint::write(path, &tensors, metadata).unwrap();
}

/// Replaces the weights of a model folder.
pub(crate) fn write_stored(folder: &Path, tensors: &[Stored], metadata: &Metadata) {
    write(&folder.join("model.safetensors"), tensors, metadata);
}

/// Distributes the weights of a model folder among several files and an index.
pub(crate) fn write_shards(folder: &Path, count: usize) {
    let (tensors, metadata) = read_stored(folder);
    let mut shards = vec![Vec::new(); count];
    let mut weight_map = BTreeMap::new();
    for (index, tensor) in tensors.into_iter().enumerate() {
        let shard = index % count;
        weight_map.insert(tensor.0.clone(), format!("model-{shard}.safetensors"));
        shards[shard].push(tensor);
    }
    for (shard, tensors) in shards.iter().enumerate() {
        write(&folder.join(format!("model-{shard}.safetensors")), tensors, &metadata);
    }
    let index = serde_json::json!({"metadata": {}, "weight_map": weight_map});
    fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    fs::remove_file(folder.join("model.safetensors")).unwrap();
}

/// Every tensor of a model, in order.
pub(crate) fn parameters(model: &impl ModuleSnapshot) -> Vec<(String, TensorData)> {
    let tensors = model.collect(None, None, true);
    tensors.into_iter().map(|tensor| (tensor.name.clone(), bridge::into_data(tensor).unwrap())).collect()
}

/// A structure of every kind, of sizes that fit layers of 16 features.
pub(crate) fn every_structure() -> impl Iterator<Item = Structure> {
    Structure::NAMES.into_iter().map(|name| {
        let structure = match name {
            "pixelfly" => "pixelfly:b=4,stride=2,r=2",
            "ss1" => "ss1:k=4",
            _ => name,
        };
        structure.parse().unwrap()
    })
}

/// The inputs of the linear layers that `run` applies, in order, and its result.
pub(crate) fn inputs_of<R>(run: impl FnOnce() -> R) -> (Vec<Tensor<2>>, R) {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let shared = seen.clone();
    let result = observe_inputs(move |_, input| shared.borrow_mut().push(input), run);
    (seen.take(), result)
}

/// A model whose parameters are all drawn, those that start as zeros or ones as well; the device's seed decides which.
pub(crate) fn with_noise<M: Module>(model: M) -> M {
    struct Noise;
    impl ModuleMapper for Noise {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| {
                let noise = tensor.random_like(Distribution::Normal(0.0, 0.3));
                tensor + noise
            })
        }
    }
    model.map(&mut Noise)
}

/// The devices of this build on which Burn's own matmul is right; on SwiftShader it returns zeros.
#[allow(clippy::print_stderr, reason = "a skipped test must say so")]
pub(crate) fn devices() -> Vec<(&'static str, Device)> {
    let right = |(name, device): &(&str, Device)| {
        let product = Tensor::<3>::ones([2, 5, 24], device).matmul(Tensor::ones([2, 24, 18], device));
        let right = product.into_data().iter::<f32>().all(|value| value == 24.0);
        if !right {
            eprintln!("skipped: {name}: Burn's own matmul is wrong on this device");
        }
        right
    };
    let backends = burn_structured_ops::device::compiled().into_iter();
    backends.map(|backend| (backend.name, backend.device(0))).filter(right).collect()
}

/// All of the structures on Flex, and the first one elsewhere: kernels take long to compile, and each has tests of its own.
pub(crate) fn structures_on<'a>(device: &str, structures: &'a [&'a str]) -> &'a [&'a str] {
    if device == "flex" { structures } else { &structures[..1] }
}
