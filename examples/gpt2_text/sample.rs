//! A sample of what a model writes.

use crate::Session;
use burn_structured::models::decoder::generate::{
    GenerateError, GenerationConfig, Generator, Overflow, SamplingConfig,
};
use burn_structured::models::gpt2::Gpt2;
use burn_structured::models::text::Tokenizer;
use std::error::Error;

/// What samples continue, unless the command line says otherwise.
const PROMPT: &str = "The ";

/// How samples are made.
#[derive(Clone)]
pub struct Sampling {
    tokenizer: Tokenizer,
    prompt: String,
    tokens: usize,
    seed: u64,
}

impl Sampling {
    /// `None` if no samples are wanted.
    ///
    /// # Errors
    ///
    /// If the tokenizer does not know the prompt.
    pub fn new(session: &Session) -> Result<Option<Self>, Box<dyn Error>> {
        let (run, corpus) = (&session.arguments.run, &session.corpus);
        if run.sample_tokens == 0 {
            return Ok(None);
        }
        let tokenizer = corpus.tokenizer.clone();
        let prompt = match &run.prompt {
            Some(prompt) => prompt.clone(),
            None if tokenizer.encode(PROMPT).is_ok() => PROMPT.into(),
            // A text without these letters starts with others.
            None => tokenizer.decode(&corpus.data.train.read(0..1, tokenizer.vocab_size())?)?,
        };
        let tokens = tokenizer.encode(&prompt).map_err(|error| format!("--prompt: {error}"))?;
        if tokens.is_empty() && tokenizer.end_of_text().is_none() {
            return Err("--prompt is empty; give at least one character".into());
        }
        let seed = session.arguments.training.seeds.first().copied().unwrap_or(0);
        Ok(Some(Self { tokenizer, prompt, tokens: run.sample_tokens, seed }))
    }

    /// The prompt and what `model` adds to it.
    ///
    /// # Errors
    ///
    /// If the tokenizer does not fit the model, or its logits are no numbers.
    pub fn of(&self, model: &Gpt2) -> Result<String, GenerateError> {
        // The tokens of the sample are drawn alike at every evaluation, so that they can be compared.
        let sampling = SamplingConfig::new().with_temperature(0.8).with_top_k(Some(40)).with_seed(self.seed);
        let config =
            GenerationConfig::new().with_tokens(self.tokens).with_sampling(sampling).with_overflow(Overflow::Slide);
        let generation = Generator::new(model, &self.tokenizer)?.generate(&[&self.prompt], &config, |_, _| {})?;
        Ok(format!("{}{}", self.prompt, generation.continuations[0].text))
    }
}
