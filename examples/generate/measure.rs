//! How fast a model with random weights reads a prompt and goes on.

use super::{Args, config};
use burn::tensor::Device;
use burn_structured::models::decoder::generate::{Speed, generate_tokens};
use burn_structured::models::decoder::{Decoder, LayerRules};
use burn_structured::models::gpt2::Gpt2Config;
use burn_structured::models::llama::LlamaConfig;
use burn_structured::train::comparison::split_structures;
use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use std::error::Error;
use std::ops::ControlFlow;

/// A model with random weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Size {
    /// A GPT-2 of 4 blocks of 128 features
    Nano,
    /// GPT-2 124M
    Small,
    /// GPT-2 355M
    Medium,
    /// A Llama of 4 blocks of 128 features
    LlamaTiny,
    /// SmolLM2 135M, a Llama
    #[value(name = "smollm2-135m")]
    #[serde(rename = "smollm2-135m")]
    Smollm2,
    /// TinyLlama 1.1B
    Tinyllama,
    /// Llama 3.2 1B
    #[value(name = "llama3.2-1b")]
    #[serde(rename = "llama3.2-1b")]
    Llama32,
}

/// How fast a model with random weights is.
#[derive(Serialize)]
pub struct Measurement {
    preset: Size,
    structures: LayerRules,
    device: String,
    batch: usize,
    prompt_tokens: usize,
    new_tokens: usize,
    params: usize,
    /// FLOPs of the linear layers relative to dense ones.
    relative_flops: f64,
    /// Medians, in tokens a second.
    prefill_tokens_per_second: f64,
    decode_tokens_per_second: f64,
    prefill: Vec<Speed>,
    decode: Vec<Speed>,
}

/// Measures every structure, and prints one row of a table for each length of the new text.
///
/// # Errors
///
/// If a setting, a structure or its size is impossible.
pub fn all(args: &Args, preset: Size, device: &Device) -> Result<Vec<Measurement>, Box<dyn Error>> {
    if args.repeats == 0 || args.batch == 0 {
        return Err("give at least 1 repeat and 1 text of a batch".into());
    }
    if args.decode.contains(&0) {
        return Err("--decode: give at least 1 new token".into());
    }
    println!("{} with random weights, device {}, batch {}\n", preset.title(), args.device, args.batch);
    println!("| structure | params | linear FLOPs | prefill tokens | tokens/s | decode tokens | tokens/s |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    let mut measurements = Vec::new();
    for text in args.structure.iter().flat_map(|text| split_structures(text)) {
        for measured in of_structures(args, preset, text.parse()?, device)? {
            println!(
                "| {} | {:.1} M | {:.0} % | {} | {:.1} | {} | {:.1} |",
                measured.structures,
                measured.params as f64 / 1e6,
                100.0 * measured.relative_flops,
                measured.prompt_tokens,
                measured.prefill_tokens_per_second,
                measured.new_tokens,
                measured.decode_tokens_per_second
            );
            measurements.push(measured);
        }
    }
    Ok(measurements)
}

/// The number of tokens of GPT-2, of SmolLM2, of Llama 2 and of Llama 3.
const VOCABULARIES: [usize; 4] = [50257, 49152, 32000, 128_256];

impl Size {
    fn title(self) -> String {
        match self {
            Self::LlamaTiny => "a tiny Llama".into(),
            Self::Smollm2 => "SmolLM2 135M".into(),
            Self::Tinyllama => "TinyLlama".into(),
            Self::Llama32 => "Llama 3.2 1B".into(),
            gpt2 => format!("GPT-2 {gpt2:?}"),
        }
    }
}

fn of_structures(
    args: &Args,
    preset: Size,
    structures: LayerRules,
    device: &Device,
) -> Result<Vec<Measurement>, Box<dyn Error>> {
    device.seed(args.seed);
    let [gpt2, smollm2, llama, llama3] = VOCABULARIES;
    let of_gpt2 = |config: Gpt2Config| {
        let model = config.with_structures(structures.clone()).try_init(device)?;
        measure(args, preset, &structures, &model)
    };
    let of_llama = |config: LlamaConfig| {
        let model = config.with_structures(structures.clone()).try_init(device)?;
        measure(args, preset, &structures, &model)
    };
    match preset {
        Size::Nano => of_gpt2(Gpt2Config::nano(gpt2)),
        Size::Small => of_gpt2(Gpt2Config::small(gpt2)),
        Size::Medium => of_gpt2(Gpt2Config::medium(gpt2)),
        Size::LlamaTiny => of_llama(LlamaConfig::tiny(llama)),
        Size::Smollm2 => of_llama(LlamaConfig::smollm2_135m(smollm2)),
        Size::Tinyllama => of_llama(LlamaConfig::tinyllama(llama)),
        Size::Llama32 => of_llama(LlamaConfig::llama3_2_1b(llama3)),
    }
}

/// One measurement for each length of the new text.
fn measure(
    args: &Args,
    preset: Size,
    structures: &LayerRules,
    model: &impl Decoder,
) -> Result<Vec<Measurement>, Box<dyn Error>> {
    let mut rng = StdRng::seed_from_u64(args.seed);
    let length = args.prefill.unwrap_or(512.min(model.context() / 2));
    let mut prompt = || (0..length).map(|_| rng.random_range(0..model.vocab_size() as u32)).collect();
    let prompts: Vec<Vec<u32>> = (0..args.batch).map(|_| prompt()).collect();
    let run = |new_tokens: usize| {
        // The first new token comes from the prefill.
        let settings = config(args).with_tokens(new_tokens + 1);
        generate_tokens(model, &prompts, &settings, |_, _| Ok(ControlFlow::Continue(())))
    };
    // The first run compiles kernels and fills caches.
    if let Some(shortest) = args.decode.iter().min() {
        run(*shortest)?;
    }
    let cost = model.cost();
    let of_length = |new_tokens: usize| {
        let (mut prefill, mut decode) = (Vec::new(), Vec::new());
        for _ in 0..args.repeats {
            let generated = run(new_tokens)?;
            prefill.push(generated.prefill);
            decode.push(generated.decode);
        }
        Ok(Measurement {
            preset,
            structures: structures.clone(),
            device: args.device.clone(),
            batch: args.batch,
            prompt_tokens: length,
            new_tokens,
            params: cost.params,
            relative_flops: cost.replaced.flops_ratio(),
            prefill_tokens_per_second: median(&prefill),
            decode_tokens_per_second: median(&decode),
            prefill,
            decode,
        })
    };
    args.decode.iter().map(|new_tokens| of_length(*new_tokens)).collect()
}

fn median(speeds: &[Speed]) -> f64 {
    let mut rates: Vec<f64> = speeds.iter().map(Speed::tokens_per_second).collect();
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
