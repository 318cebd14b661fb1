//! The text, as tokens to train on and tokens to validate on.

use crate::arguments::{Arguments, TextArguments};
use crate::{builtin, tokenizer};
use burn_structured::models::text::{TextError, Tokenizer};
use burn_structured::train::data::tokens::{Text, TokenSource};
use burn_structured::train::language::TokenData;
use std::error::Error;
use std::fmt;
use std::path::Path;

/// Share of a text that is trained on, unless it has a validation text.
const TRAINING_SHARE: f64 = 0.9;

/// Tokens, and what made them.
pub struct Corpus {
    pub data: TokenData,
    pub tokenizer: Tokenizer,
}

impl Corpus {
    /// The text of the command line, or the built-in one; `tokenizer` is that of the model to start from.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or holds no text or tokens, or if the tokenizer cannot be read or does not fit the text.
    pub fn read(all: &Arguments, tokenizer: Option<&Tokenizer>) -> Result<Self, Box<dyn Error>> {
        let arguments = &all.text;
        let (name, tokenizer, train, validation) = match (&arguments.train_tokens, &arguments.valid_tokens) {
            (Some(train), Some(validation)) => {
                let tokenizer = tokenizer_of_files(arguments, tokenizer, train)?;
                (train.display().to_string(), tokenizer, TokenSource::open(train)?, TokenSource::open(validation)?)
            }
            _ => {
                let Texts { train, validation } = Texts::read(all)?;
                let tokenizer = tokenizer_of_text(arguments, tokenizer, &train, &validation)?;
                (train.name(), tokenizer.clone(), train.tokens(&tokenizer)?, validation.tokens(&tokenizer)?)
            }
        };
        let (tokens, vocab_size) = (tokenizer.name(), tokenizer.vocab_size());
        let data = TokenData { name, tokenizer: tokens, vocab_size, train, validation };
        Ok(Self { data, tokenizer })
    }

    /// Whether the text is the built-in one.
    fn is_builtin(&self) -> bool {
        self.data.name == builtin::NAME
    }
}

impl fmt::Display for Corpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TokenData { name, tokenizer, train, validation, .. } = &self.data;
        let (train, validation) = (train.len(), validation.len());
        write!(f, "data: {name}, {train} training and {validation} validation tokens, tokenizer {tokenizer}")?;
        match self.is_builtin() {
            true => {
                write!(f, " (the documentation of this repository, which is tiny; for real text, give --text FILE)")
            }
            false => Ok(()),
        }
    }
}

/// Text to train on and to validate on.
pub struct Texts {
    pub train: Text,
    pub validation: Text,
}

impl Texts {
    /// The texts of the command line, or the built-in one. To evaluate a model, one text serves as both.
    pub fn read(arguments: &Arguments) -> Result<Self, Box<dyn Error>> {
        let (train, validation) = (&arguments.text.text, &arguments.text.valid_text);
        let train = match (train.as_slice(), validation.as_slice()) {
            ([], []) => Text::from_memory(builtin::NAME, &builtin::text())?,
            ([], files) if arguments.run.evaluate => Text::from_files(files)?,
            ([], _) => return Err("--valid-text needs --text, the text to train on".into()),
            (files, _) => Text::from_files(files)?,
        };
        if !validation.is_empty() {
            return Ok(Self { train, validation: Text::from_files(validation)? });
        }
        let (train, validation) =
            if arguments.run.evaluate { (train.clone(), train) } else { train.split(TRAINING_SHARE)? };
        Ok(Self { train, validation })
    }
}

/// The tokenizer of the command line, or else of the model to start from, or else bytes.
pub fn tokenizer_of_text(
    arguments: &TextArguments,
    tokenizer: Option<&Tokenizer>,
    train: &Text,
    validation: &Text,
) -> Result<Tokenizer, Box<dyn Error>> {
    match (&arguments.tokenizer, tokenizer) {
        (Some(name), _) if name == "chars" => {
            Ok(Tokenizer::characters_of(&format!("{}{}", train.alphabet(), validation.alphabet())))
        }
        (Some(name), _) => Ok(tokenizer::from_name(name)?),
        (None, Some(tokenizer)) => Ok(tokenizer.clone()),
        (None, None) => Ok(Tokenizer::bytes()),
    }
}

/// The tokenizer of the command line, or else of the model to start from, the folder of the file, or GPT-2.
fn tokenizer_of_files(
    arguments: &TextArguments,
    tokenizer: Option<&Tokenizer>,
    file: &Path,
) -> Result<Tokenizer, Box<dyn Error>> {
    match (&arguments.tokenizer, tokenizer) {
        (Some(name), _) if name == "chars" => {
            Err("the characters of a token file are not known; give --tokenizer the text.json that was written with it"
                .into())
        }
        (Some(name), _) => Ok(tokenizer::from_name(name)?),
        (None, Some(tokenizer)) => Ok(tokenizer.clone()),
        (None, None) => {
            let folder = file.parent().unwrap_or(Path::new("."));
            Ok(in_folder(folder)?.unwrap_or_else(Tokenizer::gpt2))
        }
    }
}

/// The tokenizer in `folder`; `None` if it has none.
pub fn in_folder(folder: &Path) -> Result<Option<Tokenizer>, TextError> {
    match Tokenizer::from_folder(folder) {
        Err(TextError::NoTokenizer { .. }) => Ok(None),
        found => found.map(Some),
    }
}
