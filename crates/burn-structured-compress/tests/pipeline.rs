//! From a dense checkpoint to a small one and back, through the public interface only.

use burn::tensor::{Device, Distribution, Tensor};
use burn_structured_checkpoint::{self as checkpoint, Checkpoint, Dtype, TensorData, linears};
use burn_structured_compress::pipeline::{Event, LayerwiseConfig, Output, compress_checkpoint, to_dense, verify};
use burn_structured_compress::plan::{Plan, PlanConfig, propose};
use burn_structured_compress::report::{Page, RunInfo, Score, html, model_card, spectra};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

fn quiet(_: &Event<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A GPT-2 of two blocks, with weights `[d_input, d_output]`, behind a prefix and in half precision.
fn write_gpt2(path: &Path, device: &Device) {
    let mut tensors = Vec::new();
    let mut add = |name: String, shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        let values = Tensor::<1>::random([count], Distribution::Normal(0.0, 0.05), device).into_data();
        let values: Vec<half::bf16> = values.iter::<f32>().map(half::bf16::from_f32).collect();
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        tensors.push(TensorData { name, dtype: Dtype::BF16, shape: shape.to_vec(), bytes: Cow::Owned(bytes) });
    };
    add("transformer.wte.weight".into(), &[50, 32]);
    for block in 0..2 {
        let at = |name: &str| format!("transformer.h.{block}.{name}");
        for (layer, d_input, d_output) in
            [("attn.c_attn", 32, 96), ("attn.c_proj", 32, 32), ("mlp.c_fc", 32, 128), ("mlp.c_proj", 128, 32)]
        {
            add(at(&format!("{layer}.weight")), &[d_input, d_output]);
            add(at(&format!("{layer}.bias")), &[d_output]);
        }
        add(at("ln_1.weight"), &[32]);
    }
    std::fs::create_dir_all(path).unwrap();
    std::fs::write(path.join("config.json"), "{}").unwrap();
    checkpoint::write(&path.join("model.safetensors"), &tensors, &BTreeMap::new()).unwrap();
}

#[test]
fn a_checkpoint_goes_the_whole_way() {
    let (device, folder) = (Device::flex(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    write_gpt2(&at("model"), &device);
    let dense = Checkpoint::open(at("model")).unwrap();
    let layers = linears(&dense);
    assert_eq!(layers.len(), 8);

    let structures = vec!["blast:b=4".parse().unwrap(), "low-rank".parse().unwrap()];
    let config = PlanConfig::new(0.5).with_structures(structures);
    let proposal = propose(&dense, &config, None, &device, &mut |_| ControlFlow::Continue(())).unwrap();
    proposal.plan.save(&at("plan.toml")).unwrap();
    let plan = Plan::load(&at("plan.toml")).unwrap();

    let output = Output::new(at("small")).with_command("the command");
    let done = compress_checkpoint(&dense, &plan, None, &LayerwiseConfig::new(), &output, &device, &mut quiet).unwrap();
    let share = done.report.linear.params_share();
    assert!((share - proposal.share).abs() < 1e-9 && (share - 0.5).abs() < 0.02, "{share}");
    assert_eq!(done.report.model, "model");
    let small = Checkpoint::open(&done.path).unwrap();
    let verification = verify(&small, Some(&dense), &device).unwrap();
    assert!(verification.passed(), "{verification:?}");

    let back = to_dense(&small, &Output::new(at("back")), &device, &mut quiet).unwrap();
    let back = Checkpoint::open(back).unwrap();
    let describe = |checkpoint: &Checkpoint| -> Vec<_> {
        checkpoint.tensors().map(|tensor| (tensor.name.clone(), tensor.dtype, tensor.shape.clone())).collect()
    };
    assert_eq!(describe(&back), describe(&dense));
    assert_eq!(linears(&back), layers);

    let mut run = RunInfo::load(&done.path).unwrap();
    run.add_score(Score { name: "perplexity".into(), higher_is_better: false, dense: Some(3.0), compressed: 3.5 });
    run.save(&done.path).unwrap();
    let spectra = spectra(&dense, &done.report, &device).unwrap();
    assert_eq!(spectra.len(), done.report.compressed().count());
    let page = html(&Page { report: &done.report, run: Some(&run), spectra: &spectra, others: &[] });
    assert!(page.contains("transformer.h.1.mlp.c_proj") && page.contains("perplexity"));
    assert!(model_card(&done.report, Some(&run)).contains("| perplexity | 3.0000 | 3.5000 |"));
    // Scores are no part of what is verified.
    assert!(verify(&small, Some(&dense), &device).unwrap().passed());
}
