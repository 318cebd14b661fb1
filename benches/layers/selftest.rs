//! What `cargo test` runs: a few small layers through everything that is written, and the rules of recorded results.

use super::arguments::{Arguments, Pass};
use super::compare::compare;
use super::harness::machine::Machine;
use super::harness::measure::Time;
use super::harness::provenance::{Tree, may_record};
use super::plot_models::{PLOT, write_models};
use super::record::{Candidate, OWN_DENSE, Results, Role, Row, Work};
use super::summary::files::Recorded;
use super::summary::{self, models};
use burn_structured::train::comparison::{FineTuningReport, FineTuningRow, FineTuningRun, Latency};
use burn_structured::train::sentences::FineTuneConfig;
use clap::Parser;
use std::path::Path;

type Check = fn() -> Result<(), String>;

/// Every check, under its name.
///
/// # Errors
///
/// Of the first check that fails.
pub fn run() -> Result<(), String> {
    let checks: [(&str, Check); 6] = [
        ("layers_are_measured_and_written", layers),
        ("rows_beyond_the_ratio_are_marked", flags),
        ("results_take_clean_commits_only", records),
        ("models_are_compared_with_the_best_of_others", models),
        ("fine_tuned_encoders_have_a_page", fine_tuned),
        ("the_page_is_what_the_files_say", page),
    ];
    for (name, check) in checks {
        check().map_err(|error| format!("{name}: {error}"))?;
        println!("{name}: ok");
    }
    Ok(())
}

/// A few small layers, through the table, the file and the plots: whether the program works, not how fast anything is.
fn layers() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let out = folder.path().to_str().ok_or("a folder with a name")?;
    let line = "layers --bench --quick --seconds 0.01 --rotation 0 --strategies --layers 96x192 --tokens 1,16 --out";
    let structures = ["blast:b=4,ratio=0.5", "ss1:c=2", "ss1:c=2,hash=independent", "monarch:b=4,ratio=0.5"];
    let structures = structures.iter().flat_map(|structure| ["--structure", structure]);
    let arguments = Arguments::try_parse_from(line.split(' ').chain([out]).chain(structures));
    super::run(&arguments.map_err(|error| error.to_string())?)?;

    let read = Results::read(&folder.path().join("layers.json"))?;
    let expected = 4 * 2 * 2;
    if read.rows.len() != expected {
        return Err(format!("{} rows instead of {expected}; {:?}", read.rows.len(), read.not_run));
    }
    let own = |row: &Row| row.candidates.iter().any(|candidate| candidate.name.starts_with(OWN_DENSE));
    if !read.rows.iter().all(own) {
        return Err("a dense baseline without this crate's own kernels".into());
    }
    for row in &read.rows {
        let timed = row.candidates.iter().all(|candidate| candidate.time.median_ms > 0.0 && candidate.time.rounds >= 3);
        if !timed || row.speed_up().is_none() || read.roofline(row, row.work).is_none() {
            return Err(format!("a row without figures: {row:?}"));
        }
    }
    for name in ["time-against-tokens.svg", "speed-up-against-parameters.svg"] {
        let text = std::fs::read_to_string(folder.path().join(name)).map_err(|error| format!("{name}: {error}"))?;
        if !text.contains("blast") {
            return Err(format!("{name} does not name the structures"));
        }
    }
    compared(&folder.path().join("layers.json"))?;
    Ok(())
}

/// A file beside itself has not changed.
fn compared(path: &Path) -> Result<(), String> {
    let path = path.to_str().ok_or("a path with a name")?;
    let (text, ratios) = compare(path, &format!("{path},{path}"))?;
    let [variant] = &ratios.variants[..] else { return Err("not one variant".into()) };
    if (variant.geometric_mean - 1.0).abs() > 1e-9
        || variant.spread.abs() > 1e-9
        || !text.contains("| all | all | 16 |")
    {
        return Err(format!("a file differs from itself:\n{text}"));
    }
    Ok(())
}

/// A speed-up above 1.05 / ratio is marked, one below is not.
fn flags() -> Result<(), String> {
    let time =
        |median_ms: f64| Time { median_ms, lower_quartile_ms: median_ms, upper_quartile_ms: median_ms, rounds: 3 };
    let candidate = |role, ms| Candidate { role, name: "any".into(), time: time(ms) };
    let work = Work { flops: 1.0, bytes: 1.0 };
    let row = |dense_ms: f64| Row {
        device: "flex".into(),
        dtype: "f32".into(),
        d_input: 4,
        d_output: 4,
        tokens: 1,
        pass: Pass::Forward,
        structure: "low-rank".into(),
        params_ratio: 0.5,
        work,
        dense_work: work,
        candidates: vec![candidate(Role::Dense, dense_ms), candidate(Role::Structured, 1.0)],
    };
    match (row(2.2).is_beyond_ratio(), row(2.05).is_beyond_ratio()) {
        (true, false) => Ok(()),
        other => Err(format!("flagged {other:?} instead of the first alone")),
    }
}

/// `benches/results` takes a clean commit only, other folders everything.
fn records() -> Result<(), String> {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/layers/../results/some-machine/layers.json");
    let (clean, dirty) = (Tree::Clean("1a2b3c4".into()), Tree::Dirty("1a2b3c4".into()));
    let elsewhere = std::env::temp_dir().join("layers.json");
    let allowed = [(&results, &clean), (&results, &dirty), (&results, &Tree::Unknown), (&elsewhere, &dirty)]
        .map(|(path, tree)| may_record(path, tree).is_ok());
    match allowed {
        [true, false, false, true] => Ok(()),
        other => Err(format!("allowed {other:?}")),
    }
}

/// Every structure stands beside the fastest of PyTorch's variants and beside ONNX Runtime's, in the newest of files that have the model.
fn models() -> Result<(), String> {
    let row = |variant: &str, structure: &str, median_ms: f64| models::recorded::Row {
        workload: "minilm".into(),
        pass: "batch-32".into(),
        device: if variant.is_empty() { "flex" } else { "cpu" }.into(),
        variant: variant.into(),
        structure: structure.into(),
        params: 1,
        flops_ratio: 1.0,
        items: 100,
        unit: "sentences".into(),
        time: Time { median_ms, lower_quartile_ms: median_ms, upper_quartile_ms: median_ms, rounds: 3 },
        peak_bytes: (variant == "pytorch eager").then_some(7 << 20),
    };
    let file = |name: &str, rows| Recorded {
        path: format!("machine/{name}.json"),
        results: models::recorded::Results {
            format: models::recorded::FORMAT,
            program: name.into(),
            command: String::new(),
            measured: String::new(),
            machine: Machine::here(),
            seconds: 1.0,
            not_run: Vec::new(),
            rows,
        },
    };
    let own = [
        file("older", vec![row("", "dense", 900.0)]),
        file("newer", vec![row("", "dense", 2.0), row("", "blast:b=6,ratio=0.5", 1.0)]),
    ];
    let variants =
        [("onnxruntime int8", 1.5), ("pytorch compiled", 3.0), ("onnxruntime f32", 2.0), ("pytorch eager", 2.5)];
    let others = [file("others", variants.map(|(variant, ms)| row(variant, "dense", ms)).to_vec())];
    let text = models::section(&own, &others);
    let expected = "| minilm, sentences | batch-32 | 40000; 7 MiB | 50000 | 66667 | 50000 (1.25, 1.00, 0.75) | 100000 (2.50, 2.00, 1.50) |";
    if !text.contains(expected) || text.contains("older.json") || !text.contains("others.json") {
        return Err(format!("the table is\n{text}"));
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    write_models(&models::passes(&own, &others), folder.path())?;
    let svg = std::fs::read_to_string(folder.path().join(PLOT)).map_err(|error| error.to_string())?;
    let names = [
        "minilm, batch-32",
        "f32",
        "int8 weights",
        "1.2  ONNX Runtime",
        "1.7  ONNX Runtime",
        "1.2  dense",
        "2.5  blast ratio=0.5",
    ];
    match names.iter().find(|name| !svg.contains(**name)) {
        None => Ok(()),
        Some(name) => Err(format!("{PLOT} does not name {name}")),
    }
}

/// What `fine_tune_encoder` records is read and becomes a section.
fn fine_tuned() -> Result<(), String> {
    let run = |seed, spearman| FineTuningRun { seed, epochs: Vec::new(), spearman, seconds: 30.0 };
    let row = |structure: &str, params_ratio, runs| FineTuningRow {
        structure: structure.parse().expect("a structure"),
        dense_layers: vec!["encoder.layer.0.output.dense".into()],
        params: 1000,
        params_ratio,
        flops_ratio: params_ratio,
        layer_error: 0.25,
        before: 0.8,
        runs,
        latencies: vec![Latency {
            sentences: 8,
            median_ms: 40.0,
            lower_quartile_ms: 36.0,
            upper_quartile_ms: 44.0,
            rounds: 20,
        }],
        compression_seconds: 12.0,
    };
    let report = FineTuningReport {
        program: "burn-structured 0.1.0 (1a2b3c4)".into(),
        measured: "2026-11-30 12:00".into(),
        command: "cargo run".into(),
        machine: "a processor".into(),
        model: "encoder".into(),
        pairs: "pairs.csv".into(),
        train_pairs: 100,
        test_pairs: 50,
        split_seed: 0,
        calibration_sentences: 200,
        device: "flex".into(),
        config: FineTuneConfig::new(),
        rows: vec![
            row("blast:b=6,ratio=0.5", 0.5, vec![run(0, 0.86), run(1, 0.87)]),
            row("dense", 1.0, vec![run(0, 0.88)]),
        ],
    };
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let recorded = folder.path().join("tuned");
    std::fs::create_dir(&recorded).map_err(|error| error.to_string())?;
    report.save(&recorded).map_err(|error| error.to_string())?;
    let pages = summary::pages(folder.path())?;
    let [(_, page), (_, index)] = &pages[..] else { return Err(format!("{} pages", pages.len())) };
    if !index.contains("[tuned](tuned/README.md): a sentence encoder compressed and fine-tuned") {
        return Err(index.clone());
    }
    let dense = "| `dense` | 1 | 100 % | 100 % | 80.00 | 88.00 | 40.0 (36.0–44.0) |";
    let blast = "| `blast:b=6,ratio=0.5` | 1 | 50 % | 50 % | 80.00 | 86.50 ± 0.71 | 40.0 (36.0–44.0) |";
    let parts = ["(1a2b3c4), 2026-11-30 12:00: `cargo run`", "100 pairs to train on, 50 to score", dense, blast];
    match parts.iter().find(|part| !page.contains(**part)) {
        Some(part) => Err(format!("{part} is not in:\n{page}")),
        None if page.find(dense) > page.find(blast) => Err(format!("the best is not first:\n{page}")),
        None => Ok(()),
    }
}

/// The committed pages are what the recorded files say.
fn page() -> Result<(), String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
    for (path, text) in summary::pages(&folder)? {
        let committed = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if text != committed {
            return Err(format!(
                "{} is not what its files say; run `cargo bench --features baselines --bench layers -- --summary benches/results`",
                path.display()
            ));
        }
    }
    Ok(())
}
