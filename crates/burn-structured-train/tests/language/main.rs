//! Whole runs of a tiny model on a short text, as bytes.

mod devices;
mod retraining;
mod runs;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use burn_structured_models::decoder::LayerRules;
use burn_structured_models::gpt2::{Gpt2, Gpt2Config};
use burn_structured_train::data::tokens::TokenSource;
use burn_structured_train::language::{LanguageRecipe, LanguageSettings, Launch, TokenData, read_curve};
use burn_structured_train::training::RunFolder;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The tokens of the text: bytes below 128.
const VOCABULARY: usize = 128;

/// Held by every test: the process has one generator of random numbers, of which a run must have all.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tokens(text: &str) -> TokenSource {
    TokenSource::memory(text.bytes().map(u32::from).collect())
}

fn data() -> TokenData {
    let text = "the quick brown fox jumps over the lazy dog; the lazy dog sleeps. ";
    TokenData {
        name: "fox".into(),
        tokenizer: "bytes".into(),
        vocab_size: VOCABULARY,
        train: tokens(&text.repeat(20)),
        validation: tokens(&text.repeat(3)),
    }
}

/// Two blocks of 16 features, for sequences of 16 tokens.
fn model(structures: &str) -> Gpt2Config {
    let structures: LayerRules = structures.parse().unwrap();
    Gpt2Config::new(VOCABULARY)
        .with_context(16)
        .with_d_model(16)
        .with_depth(2)
        .with_heads(2)
        .with_structures(structures)
}

fn settings(model: Gpt2Config, recipe: LanguageRecipe) -> LanguageSettings {
    let data = data();
    LanguageSettings {
        model,
        recipe,
        initial: None,
        dataset: data.name.clone(),
        tokenizer: data.tokenizer.clone(),
        train_tokens: data.train.len(),
        validation_tokens: data.validation.len(),
    }
}

/// 20 steps, evaluated every 8: the last epoch is shorter than the others.
fn recipe() -> LanguageRecipe {
    LanguageRecipe {
        steps: 20,
        batch_size: 4,
        lr: 1e-2,
        min_lr: 1e-3,
        warmup_steps: 4,
        eval_interval: 8,
        eval_batches: 2,
        ..LanguageRecipe::default()
    }
}

fn launch(folder: &Path) -> Launch {
    Launch::new(Device::flex(), RunFolder::new(folder))
}

fn losses(folder: &Path) -> Vec<f64> {
    let curve = read_curve(&folder.join("losses.csv")).unwrap();
    assert!(curve.iter().map(|(step, _)| *step).eq(1..=curve.len()), "{curve:?}");
    curve.into_iter().map(|(_, loss)| loss).collect()
}

/// Every weight of a model, in the order of its fields.
fn weights(model: &Gpt2) -> Vec<TensorData> {
    struct Weights(Vec<TensorData>);
    impl ModuleVisitor for Weights {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().into_data());
        }
    }
    let mut weights = Weights(Vec::new());
    model.visit(&mut weights);
    weights.0
}
