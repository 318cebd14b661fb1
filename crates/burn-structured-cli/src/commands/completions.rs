//! `burn-structured completions`: what a shell needs to complete commands and arguments.

use super::Answer;
use crate::arguments::Cli;
use crate::failure::Failure;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde_json::json;

/// Print the completions of a shell
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  burn-structured completions bash > ~/.local/share/bash-completion/completions/burn-structured
  burn-structured completions zsh > ~/.zfunc/_burn-structured
  burn-structured completions fish > ~/.config/fish/completions/burn-structured.fish

New shells have them; for zsh, ~/.zshrc needs `fpath=(~/.zfunc $fpath)` before `compinit`.")]
pub struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// The script.
///
/// # Errors
///
/// Never: scripts are UTF-8.
pub fn run(arguments: &Arguments) -> Result<Answer, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "burn-structured", &mut script);
    let script = String::from_utf8(script)?;
    let value = json!({ "shell": arguments.shell.to_string(), "script": script });
    Answer::new(script, &value)
}
