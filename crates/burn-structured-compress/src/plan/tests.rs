//! Plans on checkpoints.

use super::*;
use crate::CompressError;
use crate::calibrate::Calibrator;
use burn::tensor::{Device, Distribution, Tensor};
use burn_structured_checkpoint::{self as checkpoint, Checkpoint, Dtype, Orientation, TensorData, linears};
use proptest::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

fn linear(name: &str, d_input: usize, d_output: usize) -> LinearInfo {
    LinearInfo {
        name: name.into(),
        weight: format!("{name}.weight"),
        bias: None,
        d_input,
        d_output,
        orientation: Orientation::OutIn,
        block: None,
        fused: false,
    }
}

#[test]
fn resolve_takes_the_first_rule() {
    let plan = Plan::from_toml(
        "format = 1\n\
         [[rule]]\npattern = 'h\\.0\\.'\nkeep = true\n\
         [[rule]]\npattern = \"fc\"\nstructure = \"blast:b=2,ratio=0.5\"\n\
         [[rule]]\npattern = '^h.1.fc'\nstructure = 'low-rank:r=2'\n\
         [[rule]]\npattern = 'proj'\nstructure = 'dense'",
    )
    .unwrap();
    let layers = ["h.0.fc", "h.1.fc", "h.1.proj", "other"].map(|name| linear(name, 16, 24));
    let planned = plan.resolve(&layers).unwrap();
    let structures: Vec<Option<String>> =
        planned.iter().map(|planned| planned.structure.map(|structure| structure.to_string())).collect();
    assert_eq!(structures, [None, Some("blast:b=2x2,r=4".into()), None, None]);
    let rules: Vec<Option<usize>> = planned.iter().map(|planned| planned.rule).collect();
    assert_eq!(rules, [Some(0), Some(1), Some(3), None]);
    assert_eq!(planned[1].before.params, 384);
    assert_eq!(planned[1].after, Weights { params: 4 * 44, flops_per_token: 2 * 4 * 44 });
    assert_eq!(plan.unused(&layers), [2]);
    assert!(check_replaces_something(&planned).is_ok());
    let error = check_replaces_something(&planned[2..]).unwrap_err().to_string();
    assert!(error.contains("none of the 2 linear layers, such as h.1.proj, other"), "{error}");
}

#[test]
fn resolve_names_the_rule_and_the_layer() {
    let plan = Plan::from_toml("format = 1\n\n[[rule]]\npattern = 'fc'\nstructure = 'blast:b=5'").unwrap();
    let error = plan.resolve(&[linear("h.0.fc", 16, 24)]).unwrap_err().to_string();
    assert!(
        error.starts_with("rule 1, line 3: blast:b=5,ratio=0.5 does not fit the layer h.0.fc (16 → 24): "),
        "{error}"
    );
    assert!(error.contains("block counts that work"), "{error}");
}

#[test]
fn toml_is_read_back() {
    let plan = Plan {
        rules: vec![
            Rule::keep(Pattern::new(r#"it's "quoted"\."#).unwrap()),
            Rule::new(Pattern::exactly("encoder.layer.0.output.dense").unwrap(), "blast:b=6,r=92".parse().unwrap()),
            Rule::new(Pattern::new("a\tb").unwrap(), "low-rank:ratio=0.25".parse().unwrap()),
        ],
    };
    let text = plan.to_toml();
    assert!(text.contains(r"pattern = '^encoder\.layer\.0\.output\.dense$'"), "{text}");
    let read = Plan::from_toml(&text).unwrap();
    assert_eq!(read.to_toml(), text);
    assert_eq!(read.rules.len(), 3);
    for (read, written) in read.rules.iter().zip(&plan.rules) {
        assert_eq!((&read.pattern, read.action), (&written.pattern, written.action));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    plan.save(&path).unwrap();
    assert_eq!(Plan::load(&path).unwrap(), read);
    assert_eq!(Plan::from_toml("format = 1").unwrap(), Plan::default());
}

#[test]
fn errors_name_the_rule_and_the_line() {
    for (text, message) in [
        ("", "line 1: the plan's format is missing; begin with `format = 1`"),
        ("format = 2\nnew = true", "the plan has format 2, but this version reads format 1; update burn-structured"),
        ("format = 1\nrules = []", "line 2: unknown field `rules`"),
        (
            "format = 1\n[[rule]]\npattern = 'a'\nkeep = true\nstrcture = 'ss1'",
            "rule 1, line 5: unknown field `strcture`",
        ),
        ("format = 1\n[[rule]]\nkeep = true", "rule 1, line 2: missing field `pattern`"),
        ("format = 1\n[[rule]]\npattern = 'a'", "rule 1, line 2: give one of `structure"),
        ("format = 1\n[[rule]]\npattern = 'a'\nkeep = false", "rule 1, line 2: give one of"),
        ("format = 1\n[[rule]]\npattern = 'a'\nkeep = true\nstructure = 'ss1'", "rule 1, line 2: give one of"),
        (
            "format = 1\n[[rule]]\npattern = 'a'\nkeep = true\n\n[[rule]]\npattern = '('\nkeep = true",
            "rule 2, line 7: the pattern `(` is no regular expression: unclosed group",
        ),
        (
            "format = 1\n[[rule]]\npattern = 'a'\nstructure = 'blast:x=1'",
            "rule 1, line 4: `blast` has no setting `x`; its settings are b, r, ratio",
        ),
        ("format = 1\n[[rule]]\npattern = 3\nkeep = true", "rule 1, line 3: invalid type"),
        ("format = 1\n[[rule]\npattern = 3", "line 2: "),
        ("format = 1\nformat = 1", "line 2: duplicate key"),
    ] {
        let error = Plan::from_toml(text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error:?} instead of {message:?}");
    }
}

#[test]
fn hostile_texts_are_errors() {
    let rules = "[[rule]]\npattern = 'a'\nkeep = true\n".repeat(5000);
    for text in [
        format!("format = 1\n{rules}"),
        format!("format = 1\na = {}", "[".repeat(200_000)),
        format!("format = 1\n{}", "a.".repeat(100_000)),
        format!("format = 1\n#{}", "x".repeat(2 << 20)),
        format!("format = 1\n[[rule]]\npattern = '{}'\nkeep = true", r"(\w{50}){50}"),
        "format = 99999999999999999999".into(),
        "format = 1\n[[rule]]\npattern = 'a'\nstructure = 'blast:b=99999999999999999999'".into(),
        "format = 1\n[[rule]]\npattern = '\u{0}'".into(),
    ] {
        let error = Plan::from_toml(&text).unwrap_err().to_string();
        assert!(error.len() < 1000, "{} bytes of error", error.len());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.toml");
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    let error = Plan::load(&path).unwrap_err().to_string();
    assert!(error.contains("plan.toml: byte 1: the plan is no UTF-8 text"), "{error}");
    let error = Plan::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains(&folder.path().display().to_string()), "{error}");
}

/// A checkpoint of an unknown family, whose layers compress differently well.
fn model(device: &Device) -> Checkpoint {
    let mut tensors = Vec::new();
    let mut add = |name: &str, shape: [usize; 2], rank: usize, noise: f64| {
        let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), device);
        let weight = random([shape[0], rank]).matmul(random([rank, shape[1]])) + random(shape) * noise;
        let bytes: Vec<u8> = weight.into_data().iter::<f32>().flat_map(f32::to_le_bytes).collect();
        tensors.push(TensorData {
            name: format!("{name}.weight"),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: Cow::Owned(bytes),
        });
    };
    for block in 0..2 {
        add(&format!("blocks.{block}.easy"), [96, 64], 6, 0.05);
        add(&format!("blocks.{block}.hard"), [64, 96], 64, 1.0);
    }
    add("embeddings.word", [50, 64], 4, 1.0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    checkpoint::write(&path, &tensors, &BTreeMap::new()).unwrap();
    Checkpoint::read(&path).unwrap()
}

fn no_observer(_: PlanProgress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn propose_hits_the_target() {
    let device = Device::flex();
    device.seed(4);
    let model = model(&device);
    assert_eq!(linears(&model).len(), 4);
    for (target, structures) in [
        (0.5, vec!["low-rank"]),
        (0.3, vec!["blast:b=4"]),
        (0.5, vec!["blast:b=4", "low-rank", "ss1:k=4"]),
        (0.7, vec!["low-rank", "blast:b=2"]),
    ] {
        let structures = structures.iter().map(|text| text.parse().unwrap()).collect();
        let config = PlanConfig::new(target).with_structures(structures);
        let proposal = propose(&model, &config, None, &device, &mut no_observer).unwrap();
        let Change { before, after } = proposal.table.totals.linear;
        let share = after.params as f64 / before.params as f64;
        assert!((share - proposal.share).abs() < 1e-12);
        assert!((share / target - 1.0).abs() <= 0.01, "{share} instead of {target}");
        // What is easy to compress is compressed more.
        let params = |name: &str| {
            let rows = proposal.table.rows.iter().filter(|row| row.layer.ends_with(name));
            rows.map(|row| row.after.params).sum::<usize>()
        };
        assert!(params("easy") < params("hard"), "{:?}", proposal.table);
        // The plan as a file says the same.
        let read = Plan::from_toml(&proposal.plan.to_toml()).unwrap();
        let mut table = table(&model, &read).unwrap();
        for (row, proposed) in table.rows.iter_mut().zip(&proposal.table.rows) {
            row.predicted_error = proposed.predicted_error;
            assert_eq!(row.predicted_error.is_some(), row.structure.is_some());
        }
        assert_eq!(table, proposal.table);
        assert_eq!(read.unused(&linears(&model)), Vec::<usize>::new());
    }
}

#[test]
fn uniform_plan_takes_the_best_structure_of_one_share() {
    let device = Device::flex();
    device.seed(4);
    let model = model(&device);
    let structures = ["low-rank", "ss1:k=4"].map(|text| text.parse().unwrap()).to_vec();
    let config = PlanConfig::new(0.5).with_structures(structures).uniform();
    let proposal = propose(&model, &config, None, &device, &mut no_observer).unwrap();
    for row in &proposal.table.rows {
        let share = row.after.params as f64 / row.before.params as f64;
        // What is left of the budget goes to some layers, a rank each.
        let rank = (row.d_input + row.d_output) as f64 / (row.d_input * row.d_output) as f64;
        assert!((0.45..=0.5 + rank).contains(&share), "{row:?}");
        let low_rank = matches!(row.structure, Some(Structure::LowRank { .. }));
        assert!(low_rank || !row.layer.ends_with("easy"), "{row:?}");
    }
}

#[test]
fn propose_leaves_skipped_layers_out() {
    let device = Device::flex();
    let model = model(&device);
    let config = PlanConfig::new(0.25).with_skip(vec![Pattern::new(r"\.0\.").unwrap()]);
    let mut seen = Vec::new();
    let proposal = propose(&model, &config, None, &device, &mut |progress: PlanProgress<'_>| {
        seen.push(progress.layer.to_string());
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(seen, ["blocks.1.easy", "blocks.1.hard"]);
    assert!((proposal.share / 0.25 - 1.0).abs() <= 0.03, "{}", proposal.share);
    assert!(proposal.table.rows.iter().all(|row| row.structure.is_some() == row.layer.contains(".1.")));
    let totals = proposal.table.totals;
    assert_eq!(totals.file.before.params, 4 * 96 * 64 + 50 * 64);
    assert_eq!(
        totals.linear.before.params - totals.linear.after.params,
        totals.file.before.params - totals.file.after.params
    );
    assert_eq!(totals.file.before.bytes, 4 * totals.file.before.params);
}

#[test]
fn propose_uses_the_inputs_and_the_sensitivities() {
    let device = Device::flex();
    device.seed(9);
    let model = model(&device);
    let structures = vec!["low-rank".parse().unwrap()];
    let config = PlanConfig::new(0.4).with_structures(structures);
    let params = |proposal: &Proposal, name: &str| {
        proposal.table.rows.iter().find(|row| row.layer == name).unwrap().after.params
    };
    let sensitivities = BTreeMap::from([("blocks.0.hard".to_string(), 100.0), ("blocks.1.hard".to_string(), 1.0)]);
    let config_sensitive = config.clone().with_sensitivities(sensitivities);
    let sensitive = propose(&model, &config_sensitive, None, &device, &mut no_observer).unwrap();
    assert!(params(&sensitive, "blocks.0.hard") > params(&sensitive, "blocks.1.hard"));
    // Inputs that vary in four directions only: four ranks are enough for the layer that receives them.
    let mut calibration = Calibrator::new();
    let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &device);
    calibration.observe("blocks.0.hard", random([500, 4]).matmul(random([4, 96]))).unwrap();
    let calibrated = propose(&model, &config, Some(&calibration), &device, &mut no_observer).unwrap();
    assert!(params(&calibrated, "blocks.0.hard") < params(&calibrated, "blocks.1.hard"));
}

#[test]
fn propose_explains_what_is_impossible() {
    let device = Device::flex();
    let model = model(&device);
    let fails = |config: &PlanConfig| propose(&model, config, None, &device, &mut no_observer).unwrap_err().to_string();
    for target in [0.0, 1.0, -1.0, f64::NAN] {
        assert!(fails(&PlanConfig::new(target)).contains("use a share of the weights above 0 and below 1"));
    }
    let error = fails(&PlanConfig::new(0.5).with_structures(vec!["blast:b=5".parse().unwrap()]));
    assert!(error.contains("blocks.0.easy (64 → 96)") && error.contains("skip the layer"), "{error}");
    let low_rank = |target: f64| PlanConfig::new(target).with_structures(vec!["low-rank".parse().unwrap()]);
    let error = fails(&low_rank(0.01));
    assert!(error.contains("is 0.01 of the weights") && error.contains("take 0.0261 at least"), "{error}");
    for config in [low_rank(0.0261), low_rank(0.0261).uniform()] {
        let smallest = propose(&model, &config, None, &device, &mut no_observer).unwrap();
        assert_eq!(smallest.table.totals.linear.after.params, 4 * (96 + 64));
    }
    let error = fails(&PlanConfig::new(0.5).with_structures(Vec::new()));
    assert!(error.contains("offer one"), "{error}");
    let error = fails(&PlanConfig::new(0.5).with_skip(vec![Pattern::new("").unwrap()]));
    assert!(error.contains("none of the 4 linear layers"), "{error}");
    let stopped = propose(&model, &PlanConfig::new(0.5), None, &device, &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(CompressError::Interrupted)));
}

/// Texts that are nearly plans.
fn nearly_plan() -> impl Strategy<Value = String> {
    let parts = [
        "format = 1\n",
        "[[rule]]\n",
        "[rule]\n",
        "pattern = 'h'\n",
        "pattern = \"a.*\"\n",
        "keep = true\n",
        "keep = false\n",
        "structure = 'blast:b=2,r=1'\n",
        "structure = 'low-rank:ratio=0.5'\n",
        "structure = ''\n",
        "rule = []\n",
        "\\",
        "'",
        "\"",
        "\n",
        "=",
        "[",
        "{",
        "0x",
        "1e9",
        "\u{e9}",
        "#",
    ];
    prop::collection::vec(prop::sample::select(parts.to_vec()), 0..12)
        .prop_map(|parts| format!("format = 1\n{}", parts.concat()))
}

proptest! {
    #[test]
    fn any_text_is_a_plan_or_an_error(text in prop_oneof![nearly_plan(), any::<String>()]) {
        if let Ok(plan) = Plan::from_toml(&text) {
            let written = plan.to_toml();
            let read = Plan::from_toml(&written).unwrap();
            prop_assert_eq!(read.to_toml(), written);
            let _ = plan.resolve(&[linear("h.0.fc", 16, 24)]);
        }
    }
}
