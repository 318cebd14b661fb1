//! Runs that are interrupted at any step.

use super::*;
use burn_structured_checkpoint::Dtype;
use std::borrow::Cow;
use std::ops::ControlFlow;

fn quiet(_: &Event<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn identity() -> Identity {
    Identity::new("test").with("model", "m")
}

fn units() -> Vec<String> {
    vec!["block-000".into(), "block-001".into()]
}

fn open(output: &Output) -> Result<Opened, PipelineError> {
    Store::open(output, identity(), units(), &[], &mut quiet)
}

fn run(opened: Result<Opened, PipelineError>) -> Store {
    match opened.unwrap() {
        Opened::Run(store) => store,
        Opened::Finished(_) => panic!("it is finished"),
    }
}

/// The error of an opening.
fn error(opened: Result<Opened, PipelineError>) -> String {
    opened.err().expect("an error").to_string()
}

fn tensors(value: u8) -> Vec<TensorData<'static>> {
    vec![TensorData { name: "t".into(), dtype: Dtype::U8, shape: vec![1], bytes: Cow::Owned(vec![value]) }]
}

fn finish(store: &mut Store, value: u8) {
    store.finish(&tensors(value), &BTreeMap::new(), 1.5).unwrap();
}

fn assemble(store: Store) -> PathBuf {
    let folder = store.assembly().unwrap();
    fs::write(folder.join("model.safetensors"), "model").unwrap();
    store.complete().unwrap()
}

#[test]
fn finished_units_and_decisions_survive() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::new(folder.path().join("out"));
    let mut store = run(open(&output));
    store.decide("steps", 12).unwrap();
    finish(&mut store, 7);
    assert!(store.interrupted().to_string().contains("1 of 2 parts"));
    drop(store);
    assert!(!output.path.exists());
    let mut store = run(open(&output));
    assert_eq!((store.finished(), store.decision("steps"), store.seconds()), (1, Some(12), 1.5));
    assert_eq!(store.shard(0).unwrap().bytes("t").unwrap(), [7]);
    finish(&mut store, 8);
    let path = assemble(store);
    assert_eq!(path, output.path);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the output is left");
}

#[test]
fn what_a_killed_process_leaves_is_cleaned_up() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::new(folder.path().join("out"));
    let partial = output.partial().unwrap();
    // Killed before the manifest was there.
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("lock"), "1").unwrap();
    fs::write(partial.join(".burn-structured-1-0.part"), "half a manifest").unwrap();
    let mut store = run(open(&output));
    finish(&mut store, 7);
    drop(store);
    // Killed while a shard was written, before the manifest named one, and while the output was put together.
    fs::write(partial.join(".burn-structured-1-1.part"), "half a shard").unwrap();
    fs::write(partial.join("block-001.safetensors"), "unnamed").unwrap();
    fs::create_dir_all(partial.join("out/inner")).unwrap();
    fs::write(partial.join("out/inner/half"), "").unwrap();
    let mut store = run(open(&output));
    assert_eq!(store.finished(), 1);
    assert!(!partial.join(".burn-structured-1-1.part").exists());
    finish(&mut store, 8);
    assert_eq!(store.shard(1).unwrap().bytes("t").unwrap(), [8]);
    let path = assemble(store);
    assert_eq!(fs::read_dir(path).unwrap().count(), 1);
    assert!(!partial.exists());
}

#[test]
fn damaged_shards_are_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::new(folder.path().join("out"));
    let mut store = run(open(&output));
    finish(&mut store, 7);
    finish(&mut store, 8);
    drop(store);
    let shard = output.partial().unwrap().join("block-000.safetensors");
    for damage in [None, Some("other bytes")] {
        match damage {
            None => fs::remove_file(&shard).unwrap(),
            Some(text) => fs::write(&shard, text).unwrap(),
        }
        let mut seen = Vec::new();
        let mut observer = |event: &Event<'_>| {
            if let Event::Damaged { shard } = event {
                seen.push(shard.to_path_buf());
            }
            ControlFlow::Continue(())
        };
        let mut store = run(Store::open(&output, identity(), units(), &[], &mut observer));
        assert_eq!(store.finished(), 0, "the second one was computed from the first");
        finish(&mut store, 7);
        finish(&mut store, 8);
        assert_eq!(seen, std::slice::from_ref(&shard));
    }
}

#[test]
fn a_changed_run_is_refused_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::new(folder.path().join("out")).with_command("tool --seed 1");
    let mut store = run(open(&output));
    finish(&mut store, 7);
    drop(store);
    let other = || identity().with("model", "n");
    let error = error(Store::open(&output, other(), units(), &[], &mut quiet));
    assert!(error.contains("another model (m there, n now)") && error.contains("--force"), "{error}");
    assert!(error.contains("started with, `tool --seed 1`, choose"), "{error}");
    // Nothing was lost by trying.
    assert_eq!(run(open(&output)).finished(), 1);
    let forced = output.clone().with_force(true);
    assert_eq!(run(open(&forced)).finished(), 1, "the same run is continued");
    let store = run(Store::open(&forced, other(), units(), &[], &mut quiet));
    assert_eq!(store.finished(), 0);
    assert!(!output.partial().unwrap().join("block-000.safetensors").exists());
}

#[test]
fn a_damaged_manifest_is_refused_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::new(folder.path().join("out"));
    drop(run(open(&output)));
    let manifest = output.partial().unwrap().join("manifest.json");
    let good = fs::read_to_string(&manifest).unwrap();
    let wrong = good.replace("\"format\": 1", "\"format\": 7");
    let deep = "[".repeat(100_000);
    for text in ["", "{", "[]", "null", wrong.as_str(), deep.as_str(), "{\"format\":1}"] {
        fs::write(&manifest, text).unwrap();
        let error = error(open(&output));
        assert!(error.contains("manifest.json is damaged") && error.contains("--force"), "{error}");
    }
    fs::remove_file(&manifest).unwrap();
    fs::create_dir(&manifest).unwrap();
    assert!(error(open(&output)).contains("damaged"));
    let store = run(open(&output.clone().with_force(true)));
    assert_eq!(store.finished(), 0);
}

#[test]
fn one_run_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::new(folder.path().join("out"));
    let store = run(open(&output));
    let message = error(open(&output.clone().with_force(true)));
    assert!(message.contains("in use by another run"), "{message}");
    drop(store);
    drop(run(open(&output)));
}

#[test]
fn outputs_are_replaced_only_if_forced() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::new(folder.path().join("out"));
    let forced = output.clone().with_force(true);
    let mut store = run(open(&output));
    finish(&mut store, 7);
    finish(&mut store, 8);
    assemble(store);
    let message = error(open(&output));
    assert!(message.contains("out exists") && message.contains("--force"), "{message}");
    assert!(!output.partial().unwrap().exists(), "nothing is created for a refused run");
    fs::write(output.path.join("model.safetensors"), "earlier").unwrap();
    let mut store = run(open(&forced));
    finish(&mut store, 7);
    let earlier = fs::read_to_string(output.path.join("model.safetensors")).unwrap();
    assert_eq!(earlier, "earlier", "it is there until the new one is complete");
    finish(&mut store, 8);
    // Killed between the two renamings: the next run puts the new one in place.
    let replaced = output.partial().unwrap().join(REPLACED);
    store.assembly().unwrap();
    fs::rename(&output.path, &replaced).unwrap();
    drop(store);
    let store = run(open(&forced));
    assert_eq!(store.finished(), 2);
    assert!(replaced.exists(), "and the earlier one is kept until then");
    assemble(store);
    assert_eq!(fs::read_to_string(output.path.join("model.safetensors")).unwrap(), "model");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_output_that_appears_meanwhile_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::new(folder.path().join("out"));
    let mut store = run(open(&output));
    finish(&mut store, 7);
    finish(&mut store, 8);
    store.assembly().unwrap();
    fs::create_dir(&output.path).unwrap();
    assert!(matches!(store.complete(), Err(PipelineError::Exists { .. })));
    assert!(error(open(&output)).contains("exists"));
    fs::remove_dir(&output.path).unwrap();
    assert_eq!(run(open(&output)).finished(), 2);
}

#[test]
fn what_is_no_output_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| Output::new(folder.path().join(name)).with_force(true);
    fs::write(at("file").path, "text").unwrap();
    fs::create_dir(at("documents").path).unwrap();
    fs::write(at("documents").path.join("letter"), "text").unwrap();
    fs::create_dir(at("model").path).unwrap();
    fs::write(at("model").path.join("model.safetensors"), "text").unwrap();
    let source = at("model").path.join("model.safetensors");
    for (name, what) in
        [("file", "no folder"), ("documents", "without model.safetensors"), ("model", "the model itself")]
    {
        let message = error(Store::open(&at(name), identity(), units(), std::slice::from_ref(&source), &mut quiet));
        assert!(message.contains(what) && message.contains("choose another output"), "{message}");
        assert!(!at(name).partial().unwrap().exists());
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(folder.path().join("model"), folder.path().join("link")).unwrap();
        assert!(error(open(&at("link"))).contains("a link"));
    }
    // A folder that happens to have the name of a run's.
    fs::create_dir(folder.path().join("taken.partial")).unwrap();
    fs::write(folder.path().join("taken.partial/letter"), "text").unwrap();
    assert!(error(open(&at("taken"))).contains("no run has made"));
    assert!(folder.path().join("taken.partial/letter").exists());
    for path in ["/", "..", "."] {
        assert!(error(open(&Output::new(path))).contains("ends with no name"), "{path}");
    }
}

#[test]
fn what_cannot_be_written_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let message = error(open(&Output::new(folder.path().join("file/out"))));
    assert!(message.contains("cannot ") && message.contains("file"), "{message}");
    // A shard that cannot be renamed to its place: what was finished stays finished.
    let output = Output::new(folder.path().join("out"));
    let mut store = run(open(&output));
    finish(&mut store, 7);
    let shard = output.partial().unwrap().join("block-001.safetensors");
    fs::create_dir(&shard).unwrap();
    let message = store.finish(&tensors(8), &BTreeMap::new(), 1.0).unwrap_err().to_string();
    assert!(message.contains("block-001.safetensors"), "{message}");
    assert_eq!(store.finished(), 1);
    fs::remove_dir(&shard).unwrap();
    finish(&mut store, 8);
    drop(store);
    assert_eq!(run(open(&output)).finished(), 2);
}
