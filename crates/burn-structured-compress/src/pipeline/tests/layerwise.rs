//! Layers by themselves.

use super::*;
use crate::calibrate::Calibrator;
use crate::toy::{FEATURES, HIDDEN};
use burn::tensor::{Distribution, Tensor};

#[test]
fn compress_checkpoint_makes_a_whole_folder() {
    for dtype in [Dtype::F32, Dtype::BF16] {
        let scene = Scene::new(dtype);
        let output = scene.output("out").with_command("the command");
        let done = scene.compress(&mixed_plan(), &output).unwrap();
        assert_eq!(fs::read_dir(scene.folder.path()).unwrap().count(), 2, "nothing else is left");
        let found = Checkpoint::open(&done.path).unwrap();
        let names: Vec<String> = contents(&done.path).into_keys().collect();
        let expected =
            ["1_Pooling/config.json", "LICENSE", "config.json", "model.safetensors", "report.json", "tokenizer.json"];
        assert_eq!(names, expected);

        // Compressed layers in place of their weights; all else as it was.
        let manifest = found.manifest().unwrap().unwrap();
        assert_eq!(manifest.source.as_deref(), Some(scene.source.fingerprint().as_str()));
        assert_eq!(found.metadata()["format"], "pt");
        let layers: Vec<&str> = manifest.layers.keys().map(String::as_str).collect();
        assert_eq!(layers, ["blocks.0.down", "blocks.0.up", "blocks.1.gate", "blocks.1.up"]);
        assert_eq!(entry(&manifest.layers, "blocks.0.up").structure, "blast:b=3x3,r=3");
        for tensor in scene.source.tensors() {
            let layer = tensor.name.strip_suffix(".weight").filter(|layer| manifest.layers.contains_key(*layer));
            assert_eq!(found.tensor(&tensor.name).is_none(), layer.is_some(), "{}", tensor.name);
            if layer.is_none() {
                assert_eq!(found.bytes(&tensor.name).unwrap(), scene.source.bytes(&tensor.name).unwrap());
                assert_eq!(found.tensor(&tensor.name).unwrap().shape, tensor.shape);
            }
        }
        assert_eq!(found.tensor("blocks.0.up.u").unwrap().dtype, dtype);

        // The report is of what is in the file.
        let report = &done.report;
        assert_eq!(report.layers.len(), 9);
        assert_eq!(report.compressed().count(), 4);
        assert!(report.changed.is_empty() && report.blocks.is_empty());
        assert_eq!(report.file.after.bytes, found.tensors().map(|tensor| tensor.byte_len()).sum::<usize>());
        assert_eq!(report.linear.before.params, 3 * 3 * FEATURES * HIDDEN);
        assert!(report.linear.after.params < report.linear.before.params);
        let errors = report.mean_weight_error().unwrap();
        assert!((0.05..0.9).contains(&errors), "{errors}");
        assert_eq!(Finished::load(&done.path).unwrap().run.command.as_deref(), Some("the command"));
        assert_eq!(crate::report::Report::load(&done.path).unwrap().files, report.files);
        assert!(verify(&found, Some(&scene.source), &device()).unwrap().passed());
    }
}

#[test]
fn the_same_run_makes_the_same_files() {
    let scene = Scene::new(Dtype::F32);
    let first = scene.compress(&mixed_plan(), &scene.output("first")).unwrap();
    let second = scene.compress(&mixed_plan(), &scene.output("second")).unwrap();
    assert_eq!(contents(&first.path), contents(&second.path));
    let config = LayerwiseConfig::new().with_seed(1);
    let output = scene.output("third");
    let other =
        compress_checkpoint(&scene.source, &mixed_plan(), None, &config, &output, &device(), &mut quiet).unwrap();
    assert_ne!(other.report.run, first.report.run);
    assert_eq!(other.report.seed, 1);
}

#[test]
fn calibration_lowers_the_errors_of_outputs() {
    let scene = Scene::new(Dtype::F32);
    let plan = plan("up$ low-rank:r=3");
    let sizes: Vec<f32> = (0..FEATURES).map(|at| 4.0 / (1.0 + at as f32)).collect();
    let sizes = Tensor::<1>::from_data(sizes.as_slice(), &device()).unsqueeze::<2>();
    let inputs = Tensor::<2>::random([300, FEATURES], Distribution::Normal(0.0, 1.0), &device()) * sizes;
    let mut calibration = Calibrator::new();
    // As a calibration of a model behind a prefix names it.
    calibration.observe("model.blocks.1.up", inputs).unwrap();
    let run = |calibration: Option<&Calibrator>, name: &str| {
        let config = LayerwiseConfig::new();
        compress_checkpoint(&scene.source, &plan, calibration, &config, &scene.output(name), &device(), &mut quiet)
            .unwrap()
    };
    let (plain, calibrated) = (run(None, "plain"), run(Some(&calibration), "calibrated"));
    let layer = |done: &Finished| done.report.layers.iter().find(|layer| layer.name == "blocks.1.up").unwrap().clone();
    let (plain, calibrated) = (layer(&plain), layer(&calibrated));
    assert_eq!(plain.output_error, None);
    assert!(calibrated.output_error.unwrap() < plain.weight_error.unwrap());
    assert!(calibrated.weight_error > plain.weight_error);
}

#[test]
fn bad_requests_are_refused_before_anything_is_written() {
    let scene = Scene::new(Dtype::F32);
    let fails = |plan: &Plan, output: &Output| scene.compress(plan, output).unwrap_err().to_string();
    let output = scene.output("out");
    let message = fails(&plan("nothing low-rank:r=2"), &output);
    assert!(message.contains("replaces none of the 9 linear layers, such as blocks.0."), "{message}");
    let message = fails(&plan("up blast:b=5"), &output);
    assert!(message.contains("rule 1, line 2") && message.contains("blocks.0.up"), "{message}");
    let mut calibration = Calibrator::new();
    calibration.observe("h.0.fc", Tensor::<2>::ones([1, 3], &device())).unwrap();
    let config = LayerwiseConfig::new();
    let known = Some(&calibration);
    let other = compress_checkpoint(&scene.source, &mixed_plan(), known, &config, &output, &device(), &mut quiet);
    let message = other.unwrap_err().to_string();
    assert!(
        message.contains("none of the 4 layers, such as blocks.0.down; it knows h.0.fc; pass one of the same model"),
        "{message}"
    );
    // The model itself, forced or not.
    let model = Output::new(scene.path("model"));
    assert!(fails(&mixed_plan(), &model).contains("the model itself"));
    assert!(fails(&mixed_plan(), &model.clone().with_force(true)).contains("the model itself"));
    let above = Output::new(scene.folder.path()).with_force(true);
    assert!(fails(&mixed_plan(), &above).contains("the model itself"));
    assert_eq!(fs::read_dir(scene.folder.path()).unwrap().count(), 1);
    // Inside of the model's folder is possible, and is no part of it.
    let inside = scene.output("model/small");
    let done = scene.compress(&mixed_plan(), &inside).unwrap();
    assert!(!done.path.join("small").exists() && done.path.join("config.json").exists());
    let compressed = Checkpoint::open(&done.path).unwrap();
    let config = LayerwiseConfig::new();
    let again = compress_checkpoint(&compressed, &mixed_plan(), None, &config, &output, &device(), &mut quiet);
    let message = again.unwrap_err().to_string();
    assert!(message.contains("compressed already") && message.contains("to-dense"), "{message}");
}

#[test]
fn a_weight_that_is_not_finite_is_named() {
    let scene = Scene::new(Dtype::F32);
    let path = scene.path("model/model.safetensors");
    let mut tensors: Vec<TensorData<'static>> = Vec::new();
    for tensor in scene.source.tensors() {
        let mut bytes = scene.source.bytes(&tensor.name).unwrap().to_vec();
        if tensor.name == "blocks.1.gate.weight" {
            bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        let (name, dtype, shape) = (tensor.name.clone(), tensor.dtype, tensor.shape.clone());
        tensors.push(TensorData { name, dtype, shape, bytes: Cow::Owned(bytes) });
    }
    checkpoint::write(&path, &tensors, &BTreeMap::new()).unwrap();
    let source = Checkpoint::open(scene.path("model")).unwrap();
    let output = scene.output("out");
    let config = LayerwiseConfig::new();
    let failed = compress_checkpoint(&source, &mixed_plan(), None, &config, &output, &device(), &mut quiet);
    let message = failed.unwrap_err().to_string();
    assert!(message.contains("blocks.1.gate") && message.contains("NaN"), "{message}");
    assert!(!output.path.exists());
}

#[test]
fn one_file_among_others_takes_none_of_them() {
    let scene = Scene::new(Dtype::F32);
    let downloads = scene.path("downloads");
    fs::create_dir(&downloads).unwrap();
    fs::copy(scene.path("model/model.safetensors"), downloads.join("some.safetensors")).unwrap();
    fs::write(downloads.join("letter.txt"), "private").unwrap();
    let source = Checkpoint::open(downloads.join("some.safetensors")).unwrap();
    let config = LayerwiseConfig::new();
    let output = scene.output("out");
    let done = compress_checkpoint(&source, &mixed_plan(), None, &config, &output, &device(), &mut quiet).unwrap();
    assert_eq!(contents(&done.path).into_keys().collect::<Vec<_>>(), ["model.safetensors", "report.json"]);
    assert_eq!(done.report.model, "some.safetensors");
}
