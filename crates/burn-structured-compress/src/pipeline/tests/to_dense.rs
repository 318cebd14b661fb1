//! Back to dense checkpoints.

use super::*;
use burn_structured_checkpoint::dense_layer;

#[test]
fn to_dense_has_the_original_names_shapes_and_types() {
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let scene = Scene::new(dtype);
        let done = scene.compress(&mixed_plan(), &scene.output("small")).unwrap();
        let small = Checkpoint::open(&done.path).unwrap();
        let path = to_dense(&small, &scene.output("dense"), &device(), &mut quiet).unwrap();
        let dense = Checkpoint::open(&path).unwrap();
        let describe = |checkpoint: &Checkpoint| -> Vec<(String, Dtype, Vec<usize>)> {
            checkpoint.tensors().map(|tensor| (tensor.name.clone(), tensor.dtype, tensor.shape.clone())).collect()
        };
        assert_eq!(describe(&dense), describe(&scene.source));
        assert_eq!(dense.metadata(), scene.source.metadata());
        assert!(dense.manifest().unwrap().is_none());
        let layers = small.manifest().unwrap().unwrap().layers;
        for tensor in scene.source.tensors() {
            let layer = tensor.name.strip_suffix(".weight").filter(|layer| layers.contains_key(*layer));
            let same = dense.bytes(&tensor.name).unwrap() == scene.source.bytes(&tensor.name).unwrap();
            assert_eq!(same, layer.is_none(), "{}", tensor.name);
        }
        for layer in checkpoint::linears(&dense) {
            let (weight, bias) = dense_layer(&dense, &layer, &device()).unwrap();
            let expected = checkpoint::layer(&small, &layer.name, &device()).unwrap();
            let error = tensors::weight_error(&expected.to_dense().into_data(), &weight.into_data()).unwrap();
            let tolerance = match dtype {
                Dtype::F32 => 0.0,
                Dtype::F16 => 1e-3,
                _ => 1e-2,
            };
            assert!(error <= tolerance, "{}: {error}", layer.name);
            assert_eq!(bias.is_some(), expected.bias().is_some());
        }
        assert!(path.join("config.json").exists() && !path.join("report.json").exists());
    }
}

#[test]
fn to_dense_continues_where_it_was_interrupted() {
    let scene = Scene::new(Dtype::F32);
    let done = scene.compress(&mixed_plan(), &scene.output("small")).unwrap();
    let small = Checkpoint::open(&done.path).unwrap();
    let whole = to_dense(&small, &scene.output("whole"), &device(), &mut quiet).unwrap();
    let output = scene.output("dense");
    let mut finished = 0;
    for attempt in 0..4 {
        let stopped = to_dense(&small, &output, &device(), &mut |event| match event {
            Event::UnitFinished { .. } => ControlFlow::Break(()),
            Event::Resumed { finished: before, .. } => {
                finished = *before;
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Continue(()),
        });
        assert!(stopped.is_err());
        assert_eq!(finished, attempt);
    }
    let path = to_dense(&small, &output, &device(), &mut quiet).unwrap();
    assert_eq!(contents(&path), contents(&whole));
}

#[test]
fn to_dense_takes_compressed_checkpoints_only() {
    let scene = Scene::new(Dtype::F32);
    let error = to_dense(&scene.source, &scene.output("dense"), &device(), &mut quiet).unwrap_err().to_string();
    assert!(error.contains("is not compressed"), "{error}");
    assert_eq!(fs::read_dir(scene.folder.path()).unwrap().count(), 1);
}
