//! Help, completions and manual pages.

use crate::process::{command, error, json, printed, text};

const COMMANDS: [&str; 14] = [
    "inspect",
    "plan",
    "calibrate",
    "compress",
    "drop",
    "quantize",
    "to-dense",
    "verify",
    "eval",
    "bench",
    "report",
    "import",
    "completions",
    "man",
];

#[test]
fn help_names_every_command_and_exit_code() {
    let help = printed(&["--help"]);
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        let help = printed(&[command, "--help"]);
        assert!(help.contains("Examples:\n  burn-structured "), "{help}");
        assert!(help.contains("--json"), "{help}");
    }
    for code in ["0 ", "1 ", "2 ", "3 ", "130 "] {
        assert!(help.contains(&format!("\n  {code}")), "{code}: {help}");
    }
}

#[test]
fn book_lists_every_command() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../book/src/command-line.md");
    let page = std::fs::read_to_string(page).unwrap();
    for command in COMMANDS {
        assert!(page.contains(&format!("\n| `{command}")), "{command}");
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = printed(&["completions", shell]);
        for command in COMMANDS {
            assert!(script.contains(command), "{shell}: {command}");
        }
        assert_eq!(json(&["completions", shell])["script"], script);
    }
    assert!(error(&["completions", "csh"], 2).contains("possible values: bash"));
}

#[test]
fn man_writes_a_page_for_each_command() {
    let page = printed(&["man"]);
    assert!(page.contains(".TH burn-structured 1"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("man1");
    let files = json(&["man", "-o", path.to_str().unwrap()])["files"].clone();
    assert_eq!(files.as_array().unwrap().len(), COMMANDS.len() + 1);
    for command in COMMANDS {
        let page = std::fs::read_to_string(path.join(format!("burn-structured-{command}.1"))).unwrap();
        assert!(page.contains("Examples"), "{page}");
    }
    let taken = folder.path().join("file");
    std::fs::write(&taken, "").unwrap();
    assert!(error(&["man", "-o", taken.to_str().unwrap()], 1).contains("choose another folder"));
}

#[test]
fn wrong_arguments_are_usage_errors() {
    for (arguments, message) in [
        (&["squash"][..], "unrecognized subcommand 'squash'"),
        (&["inspect"], "MODEL"),
        (&["plan", "m", "--target-params", "1.5"], "give a number between 0 and 1"),
        (&["plan", "m", "--target-params", "0.5", "--structure", "foil:b=2"], "foil"),
        (&["compress", "m", "--plan", "p", "-o", "o", "--refine", "1"], "--text"),
        (&["compress", "m", "--plan", "p", "-o", "o", "--calibration", "s", "--text", "t"], "cannot be used with"),
        (&["calibrate", "m", "-o", "s"], "--text"),
        (&["calibrate", "-o", "s"], "MODEL"),
        (&["eval", "m"], "--sts <FILE>|--text <FILE>"),
        (&["plan", "m"], "--target-params <SHARE>|--show <FILE>"),
        (&["drop", "m", "--keep", "0", "-o", "o"], "give at least 1"),
        (&["bench", "m"], "COMPRESSED"),
    ] {
        let error = error(arguments, 2);
        assert!(error.contains(message), "{error}\ninstead of: {message}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command(&["man"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: cannot write to standard output"), "{}", text(&output.stderr));
}
