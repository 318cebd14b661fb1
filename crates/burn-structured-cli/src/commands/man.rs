//! `burn-structured man`: the manual pages.

use super::Answer;
use crate::arguments::Cli;
use crate::failure::Failure;
use clap::{Args, CommandFactory, ValueHint};
use clap_mangen::Man;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Print the manual page, or write the pages of all commands
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  burn-structured man | man -l -
  burn-structured man -o ~/.local/share/man/man1

Then `man burn-structured` and `man burn-structured-plan` show them.")]
pub struct Arguments {
    /// Write burn-structured.1 and a page for each command to this folder
    #[arg(short, long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    output: Option<PathBuf>,
}

/// The page, or the list of the files written.
///
/// # Errors
///
/// If a file cannot be written.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let mut command = Cli::command().disable_help_subcommand(true);
    // Names the commands' pages: burn-structured-inspect.
    command.build();
    let Some(folder) = &arguments.output else {
        let page = render(&Man::new(command))?;
        let value = json!({ "page": page });
        return Answer::new(page, &value);
    };
    std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    let mut files = Vec::new();
    for page in std::iter::once(command.clone()).chain(command.get_subcommands().cloned()) {
        let page = Man::new(page);
        let path = folder.join(page.get_filename());
        std::fs::write(&path, render(&page)?).map_err(|error| unwritable(&path, &error))?;
        files.push(path.display().to_string());
    }
    Answer::new(files.join("\n") + "\n", &json!({ "files": files }))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("cannot write {}: {error}; choose another folder", path.display()))
}

/// A page in roff.
fn render(page: &Man) -> Result<String, Failure> {
    let mut text = Vec::new();
    page.render(&mut text)?;
    Ok(String::from_utf8(text)?)
}
