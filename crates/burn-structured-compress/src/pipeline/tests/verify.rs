//! Outputs that were tampered with.

use super::*;

fn check<'a>(found: &'a Verification, name: &str) -> &'a Check {
    found.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no check {name}: {found:?}"))
}

/// The result of a verification after a change of the output.
fn after(change: impl FnOnce(&Path)) -> Verification {
    let scene = Scene::new(Dtype::F32);
    let done = scene.compress(&mixed_plan(), &scene.output("out")).unwrap();
    change(&done.path);
    verify(&Checkpoint::open(&done.path).unwrap(), Some(&scene.source), &device()).unwrap()
}

#[test]
fn verify_passes_what_a_run_made() {
    let found = after(|_| {});
    assert!(found.passed(), "{found:?}");
    assert!(found.checks.iter().all(|check| check.outcome == Outcome::Passed), "{found:?}");
    assert_eq!(found.weight_errors.len(), 4);
    let scene = Scene::new(Dtype::F32);
    let done = scene.compress(&mixed_plan(), &scene.output("out")).unwrap();
    let found = verify(&Checkpoint::open(&done.path).unwrap(), None, &device()).unwrap();
    assert!(found.passed() && check(&found, "errors").outcome == Outcome::Skipped);
    let error = verify(&scene.source, None, &device()).unwrap_err().to_string();
    assert!(error.contains("is not compressed"), "{error}");
}

#[test]
fn verify_finds_what_was_changed() {
    let found = after(|path| {
        // The last byte of the file is one of a tensor.
        let file = path.join("model.safetensors");
        let mut bytes = fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&file, bytes).unwrap();
    });
    assert!(!found.passed());
    assert!(check(&found, "files").detail.contains("model.safetensors was changed"), "{found:?}");

    let found = after(|path| fs::remove_file(path.join("1_Pooling/config.json")).unwrap());
    assert!(check(&found, "files").detail.contains("1_Pooling/config.json"), "{found:?}");
    let found = after(|path| fs::write(path.join("config.json"), "{ }").unwrap());
    assert!(check(&found, "files").detail.contains("config.json has 3 bytes instead of 2"), "{found:?}");

    let found = after(|path| {
        let report = fs::read_to_string(path.join("report.json")).unwrap();
        fs::write(path.join("report.json"), report.replace("config.json", "../secrets")).unwrap();
    });
    assert!(check(&found, "files").detail.contains("no file of the output"), "{found:?}");
    let found = after(|path| fs::write(path.join("report.json"), "{}").unwrap());
    assert!(!found.passed() && check(&found, "report").outcome == Outcome::Failed);
    let found = after(|path| fs::remove_file(path.join("report.json")).unwrap());
    assert!(found.passed() && check(&found, "report").outcome == Outcome::Skipped);
    assert_eq!(check(&found, "errors").outcome, Outcome::Passed, "those in the checkpoint itself are compared");
}

#[test]
fn verify_compares_with_the_dense_checkpoint() {
    let scene = Scene::new(Dtype::F32);
    let done = scene.compress(&mixed_plan(), &scene.output("out")).unwrap();
    let small = Checkpoint::open(&done.path).unwrap();
    let other = write_model(&scene.path("other"), &Toy::new(3, 6), Dtype::F32);
    let found = verify(&small, Some(&other), &device()).unwrap();
    assert!(!found.passed());
    for name in ["dense checkpoint", "errors", "other tensors"] {
        assert_eq!(check(&found, name).outcome, Outcome::Failed, "{name}");
    }
    let fewer = write_model(&scene.path("fewer"), &Toy::new(1, 5), Dtype::F32);
    let found = verify(&small, Some(&fewer), &device()).unwrap();
    assert!(check(&found, "errors").detail.contains("no layer blocks.1.gate"), "{found:?}");
}
