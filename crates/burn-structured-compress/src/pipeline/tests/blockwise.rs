//! Blocks one after another.

use super::*;
use crate::distill::DistillConfig;
use crate::optimize::Budget;
use crate::refine::RefineConfig;
use crate::sequential::SequentialConfig;
use crate::toy::{batches, parameters};
use burn::tensor::Tensor;

pub(super) fn config() -> BlockwiseConfig {
    let factorizer = crate::factorize::FactorizerConfig::new().with_steps(4);
    BlockwiseConfig::new()
        .with_sequential(SequentialConfig::new().with_alphas(vec![0.0, 0.5]).with_factorizer(factorizer))
        .with_refine(Some(RefineConfig::new().with_budget(Budget::Steps(6)).with_learning_rate(2e-3)))
        .with_distill(Some(DistillConfig::new().with_budget(Budget::Steps(5)).with_similarity(1.0)))
}

/// Runs with the observer, on the same batches every time.
pub(super) fn run(
    scene: &Scene,
    config: &BlockwiseConfig,
    output: &Output,
    observer: &mut Observer<'_>,
) -> Result<Finished, CompressError> {
    let (calibration, held_out): (Vec<Tensor<3>>, Vec<Tensor<3>>) = (batches(6, 1), batches(2, 2));
    let texts = Texts {
        calibration: &calibration,
        held_out: &held_out,
        distillation: &calibration,
        fingerprint: "batches 1 and 2".into(),
    };
    let format = BlockFormat {
        save: &|model, block| Ok(save(model, block)),
        load: &|model, block, shard| Ok(load(model, block, shard)?),
    };
    let plan = plan("blocks.0.up blast:b=3,r=3\nblocks.2.(up|down) low-rank:r=4\nblocks.1.gate monarch:b=2,r=2");
    compress_model(&scene.source, &scene.model, &format, &texts, &plan, config, output, &device(), observer)
}

#[test]
fn compress_model_trains_what_it_compresses() {
    for dtype in [Dtype::F32, Dtype::BF16] {
        let scene = Scene::new(dtype);
        let done = run(&scene, &config(), &scene.output("out"), &mut quiet).unwrap();
        let report = &done.report;
        assert_eq!((report.executor.as_str(), report.blocks.len()), ("blockwise", 3));
        for block in &report.blocks {
            let refined = block.refinement.unwrap();
            assert_eq!(refined.steps, 6);
            assert!(block.alpha.is_some() && block.output_error > 0.0);
        }
        let distilled = report.distillation.unwrap();
        assert_eq!(distilled.steps, 5);
        // Layers that stay dense are trained with their block, and so are biases.
        let changed = |name: &str| report.changed.iter().any(|changed| changed == name);
        assert!(changed("blocks.1.up.weight") && changed("blocks.0.up.bias"), "{:?}", report.changed);
        assert!(!changed("embeddings.word.weight"));
        assert!(report.compressed().all(|layer| layer.output_error.is_some() && layer.weight_error.is_some()));
        // The output is the model that was trained.
        let found = Checkpoint::open(&done.path).unwrap();
        assert_eq!(found.tensor("blocks.0.up.u").unwrap().dtype, dtype);
        assert_eq!(found.tensor("blocks.1.up.weight").unwrap().dtype, dtype);
        let mut model = scene.model.clone();
        for block in 0..3 {
            load(&mut model, block, &found).unwrap();
        }
        let error = crate::distill::output_error(&model, &scene.model, &batches(2, 2));
        let tolerance = if dtype == Dtype::F32 { 1e-6 } else { 0.02 };
        assert!((error - distilled.after).abs() < tolerance, "{error} against {}", distilled.after);
        let verification = verify(&found, Some(&scene.source), &device()).unwrap();
        assert!(verification.passed(), "{verification:?}");
    }
}

#[test]
fn blocks_in_front_of_the_first_compressed_one_stay_as_they_are() {
    let scene = Scene::new(Dtype::F32);
    let (calibration, held_out) = (batches(4, 1), batches(2, 2));
    let texts = Texts { calibration: &calibration, held_out: &held_out, distillation: &[], fingerprint: String::new() };
    let format = BlockFormat {
        save: &|model, block| Ok(save(model, block)),
        load: &|model, block, shard| Ok(load(model, block, shard)?),
    };
    let config = config().with_distill(None);
    let plan = plan("blocks.1.up low-rank:r=4");
    let output = scene.output("out");
    let done =
        compress_model(&scene.source, &scene.model, &format, &texts, &plan, &config, &output, &device(), &mut quiet)
            .unwrap();
    let blocks = &done.report.blocks;
    assert_eq!((blocks[0].alpha, blocks[0].output_error, blocks[0].refinement), (None, 0.0, None));
    assert!(blocks[1].alpha.is_some() && blocks[1].refinement.is_some());
    assert!(blocks[2].alpha.is_none() && blocks[2].output_error > 0.0 && blocks[2].refinement.is_some());
    let found = Checkpoint::open(&done.path).unwrap();
    let mut model = scene.model.clone();
    load(&mut model, 0, &found).unwrap();
    assert_eq!(parameters(&model.blocks()[0]), parameters(&scene.model.blocks()[0]));
    assert!(done.report.changed.iter().all(|name| !name.starts_with("blocks.0.")), "{:?}", done.report.changed);
}

#[test]
fn a_time_becomes_steps_once() {
    let scene = Scene::new(Dtype::F32);
    let timed = |budget| {
        let config = config();
        let refine = config.refine.clone().map(|refine| refine.with_budget(budget));
        config.with_refine(refine).with_distill(None)
    };
    let config = timed(Budget::Seconds(0.3));
    let output = scene.output("out");
    let mut steps = Vec::new();
    // Interrupted at the first step of the second block.
    let stopped = run(&scene, &config, &output, &mut |event| {
        if let Event::Refine { block, step } = event {
            steps.push(step.steps);
            if *block == 1 {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    });
    assert!(stopped.unwrap_err().to_string().contains("interrupted with 1 of 3 parts finished"));
    let done = run(&scene, &config, &output, &mut |event| {
        if let Event::Refine { step, .. } = event {
            steps.push(step.steps);
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(steps.iter().all(|count| *count == steps[0]), "{steps:?}");
    assert_eq!(done.report.settings["refine.steps"], steps[0].to_string());
    // The same number of steps, given outright, makes the same tensors.
    let again = run(&scene, &timed(Budget::Steps(steps[0])), &scene.output("again"), &mut quiet).unwrap();
    let model = |done: &Finished| fs::read(done.path.join("model.safetensors")).unwrap();
    assert_eq!(model(&done), model(&again));
}

#[test]
fn a_model_and_a_checkpoint_have_to_belong_together() {
    let scene = Scene::new(Dtype::F32);
    let format = BlockFormat {
        save: &|model, block| Ok(save(model, block)),
        load: &|model, block, shard| Ok(load(model, block, shard)?),
    };
    let (calibration, held_out) = (batches(2, 1), batches(1, 2));
    let texts = Texts { calibration: &calibration, held_out: &held_out, distillation: &[], fingerprint: String::new() };
    let fails = |model: &Toy, format: &BlockFormat<'_, Toy>, texts: &Texts<'_, Tensor<3>>, name: &str| {
        let config = config().with_distill(None);
        let (plan, output) = (plan("up low-rank:r=4"), scene.output(name));
        compress_model(&scene.source, model, format, texts, &plan, &config, &output, &device(), &mut quiet)
            .unwrap_err()
            .to_string()
    };
    let message = fails(&Toy::new(4, 5), &format, &texts, "a");
    assert!(message.contains("no linear layer blocks.3.up of block 3"), "{message}");
    let message = fails(&Toy::new(2, 5), &format, &texts, "a");
    assert!(message.contains("blocks.2.up") && message.contains("keep it dense"), "{message}");
    let empty = Texts { calibration: &[], held_out: &[], distillation: &[], fingerprint: String::new() };
    assert!(fails(&scene.model, &format, &empty, "a").contains("no batches"));
    assert!(!scene.output("a").partial().unwrap().exists(), "refused before anything is written");
    let broken = BlockFormat { save: &|_, _| Err("no room".into()), load: format.load };
    assert_eq!(fails(&scene.model, &broken, &texts, "a"), "block 0: no room");
}
