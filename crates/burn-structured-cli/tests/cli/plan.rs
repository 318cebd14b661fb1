//! `plan`.

use crate::fixture::Fixture;
use crate::process::{error, json, printed};
use std::fs;

#[test]
fn plan_reaches_the_target() {
    let files = Fixture::new();
    let (bert, lines, plan) = (files.path("bert"), files.path("lines.txt"), files.path("half.toml"));
    for more in [
        &["--allocation", "error"][..],
        &["--allocation", "effect", "--text", &lines, "--structure", "low-rank", "--structure", "monarch:b=2"],
    ] {
        let arguments = [&["plan", &bert, "--target-params", "0.5", "-o", &plan][..], more].concat();
        // A plan may have been edited.
        if files.file("half.toml").exists() {
            assert!(error(&arguments, 1).contains("half.toml exists; choose another output, or pass --force"));
        }
        let value = json(&[&arguments[..], &["--force"]].concat());
        let (before, after) =
            (&value["totals"]["linear"]["before"]["params"], &value["totals"]["linear"]["after"]["params"]);
        let share = after.as_f64().unwrap() / before.as_f64().unwrap();
        // Layers of 16 features have ranks far apart.
        assert!((0.42..=0.5).contains(&share), "{share}");
        assert_eq!(value["rows"].as_array().unwrap().len(), 12);
        let rows = value["rows"].as_array().unwrap();
        let errors: Vec<f64> = rows.iter().filter_map(|row| row["predicted_error"].as_f64()).collect();
        assert_eq!(errors.len(), rows.iter().filter(|row| !row["structure"].is_null()).count());
        assert!(errors.len() > 3 && errors.iter().all(|error| *error > 0.0 && *error < 1.0), "{errors:?}");
        assert_eq!(value["plan"].as_str().unwrap(), fs::read_to_string(&plan).unwrap());
    }
    let shown = json(&["plan", &bert, "--show", &plan]);
    assert_eq!(shown["plan"].as_str().unwrap(), fs::read_to_string(&plan).unwrap());
    let text = printed(&["plan", &bert, "--show", &plan]);
    assert!(text.contains("encoder.layer.1.output.dense") && text.contains("the whole file"), "{text}");
}

#[test]
fn plan_keeps_the_same_share_of_every_layer() {
    let files = Fixture::new();
    let (bert, lines) = (files.path("bert"), files.path("lines.txt"));
    for more in [&[][..], &["--text", &lines]] {
        let arguments = [&["plan", &bert, "--target-params", "0.5", "--structure", "low-rank"][..], more].concat();
        let value = json(&arguments);
        for row in value["rows"].as_array().unwrap() {
            let [before, after] = ["before", "after"].map(|size| row[size]["params"].as_f64().unwrap());
            // Layers of 16 features have ranks of a 16th of their weights and more, of which some layers get one from what is left over.
            let [d_input, d_output] = ["d_input", "d_output"].map(|size| row[size].as_f64().unwrap());
            let rank = (d_input + d_output) / (d_input * d_output);
            assert!((0.5 - rank..=0.5 + rank).contains(&(after / before)), "{row}");
            assert!(row["predicted_error"].as_f64().unwrap() > 0.0, "{row}");
        }
    }
    let found = error(&["plan", &bert, "--target-params", "0.5", "--allocation", "effect"], 2);
    assert!(found.contains("--text"), "{found}");
}

#[test]
fn plan_leaves_skipped_layers_out() {
    let files = Fixture::new();
    let bert = files.path("bert");
    let value = json(&["plan", &bert, "--target-params", "0.5", "--structure", "low-rank", "--skip", r"layer\.0\."]);
    let kept: Vec<bool> = value["rows"].as_array().unwrap().iter().map(|row| row["structure"].is_null()).collect();
    assert!(kept[..6].iter().all(|kept| *kept) && kept[6..].iter().any(|kept| !kept), "{kept:?}");
    let text = printed(&["plan", &bert, "--show", &files.path("plan.toml")]);
    assert!(text.contains("low-rank:r=4") && text.contains("keep"), "{text}");
}

#[test]
fn plan_works_on_any_checkpoint_and_with_statistics() {
    let files = Fixture::new();
    let other = files.path("other.safetensors");
    assert_eq!(json(&["plan", &other, "--target-params", "0.4"])["rows"].as_array().unwrap().len(), 2);
    let (bert, stats) = (files.path("bert"), files.path("stats"));
    printed(&["calibrate", &bert, "--text", &files.path("lines.txt"), "-o", &stats]);
    let plain = json(&["plan", &bert, "--target-params", "0.5"]);
    let calibrated = json(&["plan", &bert, "--target-params", "0.5", "--calibration", &stats]);
    let errors = |value: &serde_json::Value| {
        value["rows"].as_array().unwrap().iter().map(|row| row["predicted_error"].clone()).collect::<Vec<_>>()
    };
    assert_ne!(errors(&plain), errors(&calibrated));
}

#[test]
fn plan_names_what_is_wrong() {
    let files = Fixture::new();
    let (bert, plan) = (files.path("bert"), files.path("wrong.toml"));
    let unwritable = files.path("no/such/folder/plan.toml");
    for (arguments, message) in [
        (&["--target-params", "0.5", "--skip", "."][..], "encoder.layer.0"),
        (&["--target-params", "0.01", "--structure", "blast:b=8"], "0.01 of the weights, but"),
        (&["--target-params", "0.001"], "at least; raise it"),
        (&["--target-params", "0.5", "--structure", "blast:b=7"], "7"),
        (&["--target-params", "0.5", "--device", "abacus"], "unknown device `abacus`"),
        (&["--target-params", "0.5", "--text", "/no/such/text"], "/no/such/text"),
        (&["--target-params", "0.5", "--calibration", "/no/such/stats"], "/no/such/stats"),
        (&["--target-params", "0.5", "-o", &unwritable], "plan.toml"),
        (&["--show", "/no/such/plan"], "/no/such/plan"),
    ] {
        let message_found = error(&[&["plan", &bert][..], arguments].concat(), 1);
        assert!(message_found.contains(message), "{message_found}\ninstead of: {message}");
    }
    for structure in ["blast:b=2,r=3", "low-rank:ratio=0.3"] {
        let found = error(&["plan", &bert, "--target-params", "0.5", "--structure", structure], 2);
        assert!(found.contains("leave out r") && found.contains("--target-params"), "{found}");
    }
    for (text, message) in [
        ("", "format"),
        ("format = 9\n", "update"),
        ("format = 1\n[[rule]]\npattern = '('\nkeep = true\n", "rule 1, line 3"),
        ("format = 1\n[[rule]]\npattern = 'a'\nstructure = 'foil'\n", "line 4"),
        ("format = 1\n[[rule]]\npattern = 'a'\nkept = true\n", "kept"),
        ("format = 1\n[[rule]]\npattern = 'query'\nstructure = 'blast:b=5,r=2'\n", "attention.self.query"),
        ("format = 1\n[[rule]]\npattern = 'no such layer'\nstructure = 'low-rank:r=2'\n", "inspect --linears"),
    ] {
        fs::write(&plan, text).unwrap();
        let found = error(&["plan", &bert, "--show", &plan], 1);
        assert!(found.contains(message) && found.contains("wrong.toml"), "{found}\ninstead of: {message}");
    }
    let other = files.path("other.safetensors");
    let found = error(&["plan", &other, "--target-params", "0.5", "--text", &files.path("lines.txt")], 1);
    assert!(found.contains("no BERT encoder, GPT-2 or Llama"), "{found}");
}
