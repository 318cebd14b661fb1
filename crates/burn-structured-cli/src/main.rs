//! The `burn-structured` program: compress a pretrained checkpoint with structured matrices, check and measure the
//! result.
//!
//! This crate parses arguments, calls the libraries and prints; each command is a file of [`commands`].

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod arguments;
mod commands;
mod context;
mod distillation;
mod exit;
mod failure;
mod format;
mod model;
mod progress;
mod statistics;
mod stored;
mod table;
mod text;

use arguments::Cli;
use clap::Parser;
use context::Context;
use failure::Failure;
use mimalloc::MiMalloc;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

/// Keeps the pages of freed tensors for the next ones of their size, where the system's takes them back at every step.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // Errors in the arguments end here, with exit code 2.
    let cli = Cli::parse();
    let outcome = commands::run(&cli.command, &Context::new(&cli.global)).and_then(|answer| {
        print(if cli.global.json { &answer.json } else { &answer.text })?;
        Ok(answer.code)
    });
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.code)
        }
    }
}

/// Writes to standard output; a reader that has seen enough, such as `head`, is no error.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("cannot write to standard output: {error}; redirect it to a writable file")))
        }
        _ => Ok(()),
    }
}
