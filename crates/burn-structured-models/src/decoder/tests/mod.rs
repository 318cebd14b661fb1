//! What every decoder promises, tested on each of them.

mod blocks;
mod cache;
mod model;
mod saving;

use super::testing::FixtureModel;
use super::{Decoder, LayerRules};
use crate::gpt2::{Gpt2, Gpt2Config};
use crate::llama::{Llama, LlamaConfig};
use crate::testing::with_noise;
use crate::weights::CheckpointModel;
use burn::tensor::{Device, Int, Tensor};
use burn_structured_nn::{BlockModel, Structure};
use std::path::Path;

/// The settings in which the models of a test differ. All have blocks of 16 features and 17 tokens.
#[derive(Clone, Debug)]
struct Settings {
    context: usize,
    depth: usize,
    structures: LayerRules,
    head: Option<Structure>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { context: 12, depth: 2, structures: LayerRules::default(), head: None }
    }
}

impl Settings {
    fn structures(rules: &str) -> Self {
        Self { structures: rules.parse().unwrap(), ..Self::default() }
    }

    fn with_head(self, head: &str) -> Self {
        Self { head: Some(head.parse().unwrap()), ..self }
    }
}

/// A decoder that the tests can make.
trait Tested: FixtureModel + Decoder + CheckpointModel + BlockModel<Batch = Tensor<2, Int>> + 'static {
    /// What checkpoints have in front of the numbers of the blocks.
    const BLOCKS: &'static str;

    fn init(settings: &Settings, device: &Device) -> Self;

    /// The token embedding, `[vocab_size, d_model]`.
    fn embedding(&self) -> Tensor<2>;

    /// The text form of the configuration that the model has.
    fn configuration(&self) -> String;

    fn save(&self, folder: &Path);

    /// The same model in int8.
    fn quantized(self) -> Self;
}

/// A model whose tokens attend to few others.
fn random<M: Tested>(settings: &Settings, device: &Device) -> M {
    device.seed(11);
    with_noise(M::init(settings, device))
}

/// The functions that every model has under the same names, without a trait.
macro_rules! by_its_own_methods {
    () => {
        fn embedding(&self) -> Tensor<2> {
            self.tokens.weight.val()
        }

        fn configuration(&self) -> String {
            serde_json::to_string(&self.config().unwrap()).unwrap()
        }

        fn save(&self, folder: &Path) {
            self.save_folder(folder, None).unwrap();
        }

        fn quantized(self) -> Self {
            self.quantize().unwrap()
        }
    };
}

impl Tested for Gpt2 {
    const BLOCKS: &'static str = "transformer.h.";

    fn init(settings: &Settings, device: &Device) -> Self {
        let Settings { context, depth, structures, head } = settings.clone();
        let sizes = Gpt2Config::new(17).with_context(context).with_d_model(16).with_depth(depth).with_heads(2);
        sizes.with_structures(structures).with_head(head).init(device)
    }

    by_its_own_methods!();
}

impl Tested for Llama {
    const BLOCKS: &'static str = "model.layers.";

    fn init(settings: &Settings, device: &Device) -> Self {
        let Settings { context, depth, structures, head } = settings.clone();
        let sizes = LlamaConfig::new(17).with_context(context).with_d_model(16).with_depth(depth);
        let sizes = sizes.with_heads(4).with_kv_heads(2).with_d_hidden(24);
        sizes.with_structures(structures).with_head(head).init(device)
    }

    by_its_own_methods!();
}

/// Runs these functions, which take a kind of model, on every kind.
macro_rules! for_every_decoder {
    ($($(#[$attribute:meta])* $test:ident),* $(,)?) => {
        mod gpt2 {
            $(#[test] $(#[$attribute])* fn $test() { super::$test::<crate::gpt2::Gpt2>() })*
        }
        mod llama {
            $(#[test] $(#[$attribute])* fn $test() { super::$test::<crate::llama::Llama>() })*
        }
    };
}
use for_every_decoder;
