//! `--prepare`: a text as token files.

use crate::arguments::{Arguments, Format};
use crate::corpus::{Texts, tokenizer_of_text};
use burn_structured::train::data::tokens::{Text, TokenLayout, prepare};
use indicatif::{ProgressBar, ProgressStyle};
use std::error::Error;
use std::process::ExitCode;

pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let out = &arguments.run.out;
    let Texts { train, validation } = Texts::read(arguments)?;
    let tokenizer = tokenizer_of_text(&arguments.text, None, &train, &validation)?;
    std::fs::create_dir_all(out).map_err(|error| format!("cannot create {}: {error}", out.display()))?;
    let layout = match arguments.text.format {
        Format::Nanogpt => TokenLayout::NanoGpt,
        Format::Llmc => TokenLayout::LlmC,
    };
    let write = |text: &Text, name: &str| -> Result<usize, Box<dyn Error>> {
        let style = "{msg} {wide_bar} {bytes}/{total_bytes}, {eta} left";
        let bar = ProgressBar::new(text.bytes())
            .with_style(ProgressStyle::with_template(style)?)
            .with_message(name.to_string());
        let file = prepare(text, &tokenizer, out.join(name), layout, |progress| bar.set_position(progress.bytes))?;
        bar.finish_and_clear();
        Ok(file.len())
    };
    let [training, scored] = [write(&train, "train.bin")?, write(&validation, "valid.bin")?];
    tokenizer.save(out)?;
    println!("{}: {training} training and {scored} validation tokens, tokenizer {}", train.name(), tokenizer.name());
    println!("saved train.bin, valid.bin and the tokenizer in {}", out.display());
    println!("train on them: --train-tokens {0}/train.bin --valid-tokens {0}/valid.bin", out.display());
    Ok(ExitCode::SUCCESS)
}
