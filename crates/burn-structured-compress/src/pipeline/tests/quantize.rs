//! Int8 weights, of whole checkpoints and at the end of a compression.

use super::*;
use burn::tensor::Tensor;
use burn_structured_checkpoint::linears;

/// `‖a − b‖ / ‖b‖`.
fn error(found: Tensor<2>, expected: Tensor<2>) -> f64 {
    tensors::weight_error(&expected.into_data(), &found.into_data()).unwrap()
}

fn compress_int8(scene: &Scene, plan: &Plan, output: &Output) -> Result<Finished, CompressError> {
    let config = LayerwiseConfig::new().with_int8(true);
    compress_checkpoint(&scene.source, plan, None, &config, output, &device(), &mut quiet)
}

#[test]
fn quantize_changes_the_weights_of_linear_layers_alone() {
    for dtype in [Dtype::F32, Dtype::BF16] {
        let scene = Scene::new(dtype);
        let done = scene.compress(&mixed_plan(), &scene.output("small")).unwrap();
        for source in [scene.source.path(), done.path.as_path()] {
            let source = Checkpoint::open(source).unwrap();
            let name = source.path().file_name().unwrap().to_string_lossy().into_owned();
            let path = quantize(&source, &scene.output(&format!("{name}-int8")), &device(), &mut quiet).unwrap();
            let small = Checkpoint::open(&path).unwrap();
            let manifest = small.manifest().unwrap().unwrap();
            assert_eq!(manifest.source, Some(scene.source.fingerprint()), "{name}");
            let dense = linears(&scene.source);
            assert_eq!(manifest.layers.len(), dense.len());
            for (layer, entry) in &manifest.layers {
                assert!(entry.int8, "{layer}");
                let (found, before) =
                    [&small, &source].map(|file| checkpoint::layer(file, layer, &device()).unwrap()).into();
                assert_eq!(found.structure(), before.structure(), "{layer}");
                let error = error(found.to_dense(), before.to_dense());
                assert!(error > 1e-4 && error < 0.02, "{layer}: {error}");
                let known = before.structure() == Some(burn_structured_nn::Structure::Dense);
                assert_eq!(entry.relative_error.is_some(), known, "{layer}");
            }
            let factors = |file: &Checkpoint| -> Vec<String> {
                let of_layer = |tensor: &str| {
                    let (layer, factor) = tensor.rsplit_once('.').unwrap_or((tensor, ""));
                    factor != "bias" && manifest.layers.contains_key(layer)
                };
                file.tensors().map(|tensor| tensor.name.clone()).filter(|name| !of_layer(name)).collect()
            };
            assert_eq!(factors(&small), factors(&source), "{name}");
            for other in factors(&source) {
                assert_eq!(small.bytes(&other).unwrap(), source.bytes(&other).unwrap(), "{other}");
            }
            assert!(path.join("config.json").exists());
            let report = Finished::load(&path).unwrap().report;
            assert_eq!(report.source, scene.source.fingerprint());
            assert!(report.layers.len() == dense.len() && report.layers.iter().all(|layer| layer.after.bytes > 0));
            assert!(report.linear.after.bytes < report.linear.before.bytes, "{report:?}");
            assert!(report.file.after.bytes < report.file.before.bytes);
            let checks = verify(&small, Some(&scene.source), &device()).unwrap();
            assert!(checks.passed(), "{checks:?}");
            // A changed byte is found.
            let file = path.join("model.safetensors");
            let whole = fs::read(&file).unwrap();
            let mut changed = whole.clone();
            *changed.last_mut().unwrap() ^= 1;
            fs::write(&file, changed).unwrap();
            assert!(!verify(&Checkpoint::open(&path).unwrap(), None, &device()).unwrap().passed());
            fs::write(&file, whole).unwrap();
            // And back to floats.
            let dense = to_dense(&small, &scene.output(&format!("{name}-dense")), &device(), &mut quiet).unwrap();
            let names =
                |file: &Checkpoint| -> Vec<String> { file.tensors().map(|tensor| tensor.name.clone()).collect() };
            assert_eq!(names(&Checkpoint::open(dense).unwrap()), names(&scene.source));
        }
    }
}

#[test]
fn quantize_continues_where_it_was_interrupted() {
    let scene = Scene::new(Dtype::F32);
    let whole = quantize(&scene.source, &scene.output("whole"), &device(), &mut quiet).unwrap();
    let output = scene.output("int8");
    for attempt in 0..3 {
        let mut begun = Vec::new();
        let stopped = quantize(&scene.source, &output, &device(), &mut |event| match event {
            Event::Unit { index, .. } => {
                begun.push(*index);
                ControlFlow::Continue(())
            }
            Event::UnitFinished { .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        });
        assert!(stopped.is_err());
        assert_eq!(begun, [attempt]);
    }
    let path = quantize(&scene.source, &output, &device(), &mut quiet).unwrap();
    assert_eq!(contents(&path), contents(&whole));
}

#[test]
fn compress_with_int8_is_compress_and_quantize() {
    let scene = Scene::new(Dtype::F32);
    let done = scene.compress(&mixed_plan(), &scene.output("small")).unwrap();
    let small = Checkpoint::open(&done.path).unwrap();
    let expected = quantize(&small, &scene.output("expected"), &device(), &mut quiet).unwrap();
    let expected = Checkpoint::open(expected).unwrap();
    let found = compress_int8(&scene, &mixed_plan(), &scene.output("found")).unwrap();
    let written = Checkpoint::open(&found.path).unwrap();
    let names = |file: &Checkpoint| -> Vec<String> { file.tensors().map(|tensor| tensor.name.clone()).collect() };
    assert_eq!(names(&written), names(&expected));
    for name in names(&written) {
        assert_eq!(written.bytes(&name).unwrap(), expected.bytes(&name).unwrap(), "{name}");
    }
    let layer = &found.report.layers[0];
    assert!(layer.after.bytes * 2 < done.report.layers[0].after.bytes, "{layer:?}");
    let checks = verify(&written, Some(&scene.source), &device()).unwrap();
    assert!(checks.passed(), "{checks:?}");
}

#[test]
fn int8_weights_are_those_that_were_trained() {
    let scene = Scene::new(Dtype::F32);
    let config = blockwise::config();
    let floats = blockwise::run(&scene, &config, &scene.output("floats"), &mut quiet).unwrap();
    // A layer that stays dense is trained with its block.
    assert!(floats.report.changed.iter().any(|changed| changed == "blocks.1.up.weight"));
    let floats = Checkpoint::open(floats.path).unwrap();
    let expected = quantize(&floats, &scene.output("expected"), &device(), &mut quiet).unwrap();
    let expected = Checkpoint::open(expected).unwrap();
    let found = blockwise::run(&scene, &config.with_int8(true), &scene.output("found"), &mut quiet).unwrap();
    let found = Checkpoint::open(found.path).unwrap();
    let names = |file: &Checkpoint| -> Vec<String> { file.tensors().map(|tensor| tensor.name.clone()).collect() };
    assert_eq!(names(&found), names(&expected));
    for name in names(&found) {
        assert_eq!(found.bytes(&name).unwrap(), expected.bytes(&name).unwrap(), "{name}");
    }
    assert!(verify(&found, Some(&scene.source), &device()).unwrap().passed());
}

#[test]
fn what_cannot_be_quantized_is_refused_before_anything_is_computed() {
    let scene = Scene::new(Dtype::F32);
    let path = quantize(&scene.source, &scene.output("int8"), &device(), &mut quiet).unwrap();
    let twice = quantize(&Checkpoint::open(path).unwrap(), &scene.output("twice"), &device(), &mut quiet);
    let message = twice.unwrap_err().to_string();
    assert!(message.contains("is it quantized already?"), "{message}");
    let plan = plan("blocks.0.up blast:b=3,r=3\nblocks.0.down kronecker:r=1");
    let done = scene.compress(&plan, &scene.output("kronecker")).unwrap();
    let source = Checkpoint::open(done.path).unwrap();
    let message = quantize(&source, &scene.output("none"), &device(), &mut quiet).unwrap_err().to_string();
    assert!(message.contains("blocks.0.down") && message.contains("no int8 form"), "{message}");
    assert!(!scene.path("none.partial").exists());
    let message = compress_int8(&scene, &plan, &scene.output("small")).unwrap_err().to_string();
    assert!(message.contains("blocks.0.down") && message.contains("no int8 form"), "{message}");
    assert!(!scene.path("small.partial").exists());
}
