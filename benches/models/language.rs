//! GPT-2 small with random weights, and one of its blocks: 768 features, 12 heads, causal attention, an MLP four times as wide
//! (Radford et al., 2019).

use crate::harness::measure::{Random, Work};
use crate::passes::{inference, training};
use crate::workload::{Model, Pass};
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_structured::models::decoder::Decoder;
use burn_structured::models::gpt2::{self, Gpt2, Gpt2Config};
use burn_structured::nn::{Cost, Structure, StructureError, StructuredLinear, quantize};
use std::time::Instant;

const VOCABULARY: usize = 50_257;

/// A language model, a prompt and how many tokens follow it.
pub struct Language {
    model: Gpt2,
    prompt: Tensor<2, Int>,
    prompt_tokens: usize,
    new_tokens: usize,
}

impl Language {
    /// The model with all linear layers of the blocks of `structure`.
    ///
    /// # Errors
    ///
    /// If the structure does not fit; the message says where.
    pub fn try_new(structure: Structure, tiny: bool, device: &Device) -> Result<Self, String> {
        let (config, prompt_tokens, new_tokens) = match tiny {
            true => (Gpt2Config::nano(64).with_d_model(16).with_depth(1).with_heads(2), 8, 4),
            false => (Gpt2Config::small(VOCABULARY), 512, 32),
        };
        let vocabulary = config.vocab_size;
        let model = config.with_structure(structure).try_init(device).map_err(|error| error.to_string())?;
        let mut random = Random::default();
        let ids: Vec<i32> = (0..prompt_tokens).map(|_| random.below(vocabulary) as i32).collect();
        let prompt = Tensor::from_data(TensorData::new(ids, [1, prompt_tokens]), device);
        Ok(Self { model, prompt, prompt_tokens, new_tokens })
    }
}

/// The likeliest token of logits `[1, 1, vocab_size]`.
fn likeliest(logits: Tensor<3>) -> Tensor<2, Int> {
    logits.argmax(2).reshape([1, 1])
}

impl Model for Language {
    fn params(&self) -> usize {
        self.model.num_params()
    }

    fn cost(&self) -> Cost {
        self.model.cost().replaced
    }

    fn quantized(&self) -> Result<Box<dyn Model>, StructureError> {
        let Self { model, prompt, prompt_tokens, new_tokens } = self;
        let (model, prompt) = (model.clone().quantize()?, prompt.clone());
        Ok(Box::new(Self { model, prompt, prompt_tokens: *prompt_tokens, new_tokens: *new_tokens }))
    }

    fn items(&self, pass: Pass) -> usize {
        if pass == Pass::Prefill { self.prompt_tokens } else { self.new_tokens }
    }

    fn work(&self, pass: Pass) -> Result<Work<'static>, String> {
        let Self { model, prompt, prompt_tokens, new_tokens } = self;
        let (model, prompt, new_tokens) = (model.clone(), prompt.clone(), *new_tokens);
        // One token is generated before the clock starts.
        let capacity = prompt_tokens + 1 + new_tokens;
        if pass == Pass::Prefill {
            return Ok(Work::new(move || {
                let logits =
                    model.forward_cached(prompt.clone(), &mut model.cache(capacity)).expect("room in the cache");
                drop(std::hint::black_box(likeliest(logits).into_data()));
            }));
        }
        let mut prefilled = model.cache(capacity);
        let logits = model.forward_cached(prompt, &mut prefilled).map_err(|error| error.to_string())?;
        let first = likeliest(logits);
        Ok(Work::self_timed(move || {
            // The first token copies the buffers that the cache shares with the prefilled one.
            let mut cache = prefilled.clone();
            let mut next = |token| likeliest(model.forward_cached(token, &mut cache).expect("room in the cache"));
            let mut token = next(first.clone());
            drop(token.to_data());
            let start = Instant::now();
            for _ in 0..new_tokens {
                token = next(token);
            }
            drop(std::hint::black_box(token.into_data()));
            start.elapsed()
        }))
    }
}

/// A decoder block and how many tokens it sees.
pub struct Block {
    config: Gpt2Config,
    block: gpt2::Block,
    tokens: usize,
    device: Device,
}

impl Block {
    /// A block with all four linear layers of `structure`.
    ///
    /// # Errors
    ///
    /// If the structure does not fit; the message says where.
    pub fn try_new(structure: Structure, tiny: bool, device: &Device) -> Result<Self, String> {
        // The block alone is used, so the embeddings are small.
        let config = Gpt2Config::small(1).with_context(1).with_depth(1).with_structure(structure);
        let (config, tokens) = if tiny { (config.with_d_model(16).with_heads(2), 8) } else { (config, 512) };
        Ok(Self { block: block(&config, device)?, config, tokens, device: device.clone() })
    }
}

fn block(config: &Gpt2Config, device: &Device) -> Result<gpt2::Block, String> {
    let mut model = config.try_init(device).map_err(|error| error.to_string())?;
    Ok(model.blocks.remove(0))
}

impl Model for Block {
    fn params(&self) -> usize {
        self.block.num_params()
    }

    fn cost(&self) -> Cost {
        self.block.linears().map(StructuredLinear::cost).into_iter().sum()
    }

    fn quantized(&self) -> Result<Box<dyn Model>, StructureError> {
        let mut block = self.block.clone();
        quantize(block.linears_mut())?;
        let (config, device) = (self.config.clone(), self.device.clone());
        Ok(Box::new(Self { config, block, tokens: self.tokens, device }))
    }

    fn items(&self, _: Pass) -> usize {
        self.tokens
    }

    fn work(&self, pass: Pass) -> Result<Work<'static>, String> {
        let shape = [1, self.tokens, self.config.d_model];
        if pass == Pass::Inference {
            return Ok(inference(self.block.clone(), shape, &self.device, |block: &gpt2::Block, x| block.forward(x)));
        }
        let tracked = self.device.clone().autodiff();
        let block = block(&self.config, &tracked)?;
        Ok(training(block, shape, &tracked, |block: &gpt2::Block, x| block.forward(x).square().mean()))
    }
}
