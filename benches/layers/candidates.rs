//! Everything that is timed for a case: each structure, its reference body and its strategies, and the dense layers.

use super::arguments::Pass;
use super::baseline::{self, LAYOUTS};
use super::catalogue::Case;
use super::record::{Candidate, OWN_DENSE, Role, Row, Work as Least};
use super::reference::Reference;
use super::strategies::strategies;
use crate::harness::measure::{Effort, Rotation, Work, measure};
use burn::module::{Module, ModuleMapper, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{DType, Device, Distribution, FloatDType, Tensor};
use burn_structured::nn::{Structure, StructuredLinear, StructuredLinearConfig};
use burn_structured::ops::dense::dense_linear;
use std::sync::{Arc, Mutex};

/// Where and how cases are measured.
#[derive(Debug)]
pub struct Target {
    /// The name of the device.
    pub name: String,
    /// The device.
    pub device: Device,
    /// The type of the numbers.
    pub dtype: DType,
    /// Its name.
    pub dtype_name: String,
    /// Bytes to rotate through.
    pub window: usize,
    /// How long to measure.
    pub effort: Effort,
    /// Also time strategies by themselves.
    pub strategies: bool,
    /// Also time the reference bodies.
    pub reference: bool,
}

impl Target {
    /// Whether the device is the processor, which the libraries called directly run on as well.
    pub fn is_the_processor(&self) -> bool {
        is_a_processor(&self.name)
    }

    /// Whether the backend divides its work by Rayon, so that a pool of one thread makes a difference.
    fn uses_rayon(&self) -> bool {
        matches!(self.name.as_str(), "flex" | "ndarray")
    }
}

/// Whether the device of this name is the processor.
pub fn is_a_processor(device: &str) -> bool {
    matches!(device, "flex" | "ndarray" | "cpu")
}

/// A candidate and the structure it belongs to; dense ones belong to all.
struct Entry<'a> {
    structure: Option<usize>,
    role: Role,
    name: String,
    work: Work<'a>,
}

struct Structured {
    text: String,
    params_ratio: f64,
    least: Least,
    dense_least: Least,
}

/// Candidates run one after the other, so a lock is free unless one of them panicked.
const HELD: &str = "no candidate panicked";

type Shared<T> = Arc<Mutex<Rotation<T>>>;

/// Measures all candidates of `case` in turn. Structures that do not fit the layer and unsupported strategies are left out,
/// and `skipped` is called with the reason.
pub fn measure_case(case: &Case, target: &Target, skipped: &mut dyn FnMut(String)) -> Vec<Row> {
    let device = match case.pass {
        Pass::Forward => target.device.clone(),
        Pass::ForwardBackward => target.device.clone().autodiff(),
    };
    device.seed(0);
    let (d_input, d_output) = (case.layer.d_input, case.layer.d_output);
    let inputs = draw_inputs(case.tokens, d_input, target, &device);
    let mut entries = dense(case, target, &device, &inputs);
    let mut structures: Vec<Structured> = Vec::new();
    for text in &case.structures {
        let structure: Structure = text.parse().expect("the catalogue was checked");
        let layer = match StructuredLinearConfig::new(d_input, d_output, structure).try_init(&device) {
            // Outside training, windows that were learned stay where they are.
            Ok(layer) if case.pass == Pass::Forward => layer.freeze_windows(),
            Ok(layer) => layer,
            Err(error) => {
                skipped(format!("{text} on {}: {error}", case.layer));
                continue;
            }
        };
        let layer = copied(&layer, target.dtype);
        let index = structures.len();
        structures.push(describe(text, &layer, case, target));
        entries.extend(structured(index, &layer, structure, case, target, &device, &inputs, skipped));
    }
    if structures.is_empty() {
        return Vec::new();
    }

    let mut works: Vec<Work<'_>> = Vec::new();
    let mut labels: Vec<(Option<usize>, Role, String)> = Vec::new();
    for entry in entries {
        works.push(entry.work);
        labels.push((entry.structure, entry.role, entry.name));
    }
    let times = measure(&mut works, target.effort);
    let candidates = |index: usize| {
        let timed =
            labels.iter().zip(&times).filter(|((structure, ..), _)| structure.is_none_or(|other| other == index));
        timed.map(|((_, role, name), time)| Candidate { role: *role, name: name.clone(), time: *time }).collect()
    };
    let row = |(index, structured): (usize, Structured)| Row {
        device: target.name.clone(),
        dtype: target.dtype_name.clone(),
        d_input,
        d_output,
        tokens: case.tokens,
        pass: case.pass,
        candidates: candidates(index),
        structure: structured.text,
        params_ratio: structured.params_ratio,
        work: structured.least,
        dense_work: structured.dense_least,
    };
    structures.into_iter().enumerate().map(row).collect()
}

fn describe(text: &str, layer: &StructuredLinear, case: &Case, target: &Target) -> Structured {
    let cost = layer.cost();
    let least = |flops: usize, params: usize| {
        let (tokens, size) = (case.tokens as f64, target.dtype.size() as f64);
        let (x, y) = (tokens * case.layer.d_input as f64, tokens * case.layer.d_output as f64);
        // Backward reads the weights, `x` and `dy`, and writes the gradients of the weights and of `x`; it multiplies twice.
        match case.pass {
            Pass::Forward => Least { flops: tokens * flops as f64, bytes: size * (params as f64 + x + y) },
            Pass::ForwardBackward => {
                Least { flops: 3.0 * tokens * flops as f64, bytes: size * (3.0 * params as f64 + 3.0 * x + 2.0 * y) }
            }
        }
    };
    Structured {
        text: text.to_string(),
        params_ratio: cost.params_ratio(),
        least: least(cost.flops_per_token, cost.params),
        dense_least: least(cost.dense_flops_per_token, cost.dense_params),
    }
}

/// Burn's `Linear` and this crate's dense kernels in both layouts and, on the processor, both on one thread where that may be faster,
/// and the libraries called directly.
fn dense<'a>(case: &Case, target: &'a Target, device: &Device, inputs: &Shared<Tensor<2>>) -> Vec<Entry<'a>> {
    let (d_input, d_output) = (case.layer.d_input, case.layer.d_output);
    let shape = baseline::Shape { tokens: case.tokens, n: d_input, m: d_output };
    let mut entries = Vec::new();
    let mut add = |name: String, work| entries.push(Entry { structure: None, role: Role::Dense, name, work });
    for (by_output, layout) in LAYOUTS {
        let bytes = d_input * d_output * target.dtype.size();
        let layers = shared(target.window, bytes, || linear(d_input, d_output, by_output, target.dtype, device));
        for (name, product) in DENSE_LAYERS {
            // Elsewhere `dense_linear` is Burn's own.
            if name == OWN_DENSE && target.name != "flex" {
                continue;
            }
            let work = || pass(case.pass, target, inputs, &layers, product);
            add(format!("{name}, {layout}"), work());
            if target.uses_rayon() && shape.suits_one_thread() {
                add(format!("{name}, one thread, {layout}"), work().on_one_thread());
            }
        }
    }
    if target.is_the_processor() {
        for (name, work) in baseline::candidates(shape, case.pass, target.dtype, target.window) {
            add(name, work.repeated(target.effort.calls));
        }
    }
    entries
}

type DenseLayer = fn(&Linear, Tensor<2>) -> Tensor<2>;

const DENSE_LAYERS: [(&str, DenseLayer); 2] = [
    ("Linear", |layer, x| layer.forward(x)),
    (OWN_DENSE, |layer, x| dense_linear(x, layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()))),
];

#[allow(clippy::too_many_arguments)]
fn structured<'a>(
    index: usize,
    layer: &StructuredLinear,
    structure: Structure,
    case: &Case,
    target: &'a Target,
    device: &Device,
    inputs: &Shared<Tensor<2>>,
    skipped: &mut dyn FnMut(String),
) -> Vec<Entry<'a>> {
    let bytes = layer.cost().params * target.dtype.size();
    let layers = shared(target.window, bytes, || copied(layer, target.dtype));
    let mut entries = Vec::new();
    let mut add = |role: Role, name: &str, work: Work<'a>| {
        entries.push(Entry { structure: Some(index), role, name: name.into(), work });
    };
    let own = pass(case.pass, target, inputs, &layers, |layer: &StructuredLinear, x| layer.forward(x));
    add(Role::Structured, "layer", own);
    let shape = [case.layer.d_input, case.layer.d_output];
    if let Some(body) = Reference::of(layer, structure, shape, device).filter(|_| target.reference) {
        let work = pass(case.pass, target, inputs, &layers, move |layer, x| body.forward(layer, x));
        add(Role::Reference, "Burn operations", work);
    }
    if target.strategies {
        let mut unsupported = |why: String| {
            skipped(format!("{structure} on {}, {} tokens, {}: {why}", case.layer, case.tokens, case.pass));
        };
        let x = inputs.lock().expect(HELD).next().clone();
        for (name, strategy) in strategies(layer, &x, &target.name, case.pass, &mut unsupported) {
            let work = pass(case.pass, target, inputs, &layers, move |layer, x| strategy.forward(layer, x));
            add(Role::Strategy, name, work);
        }
    }
    if let StructuredLinear::Ss1(layer) = layer {
        // What SS1 by the additive hash cannot be faster than.
        let [width, d_output] = layer.z.shape().dims();
        let inputs = draw_inputs(case.tokens, width, target, device);
        let layers = shared(target.window, bytes, || linear(width, d_output, false, target.dtype, device));
        let work = pass(case.pass, target, &inputs, &layers, |layer: &Linear, x| layer.forward(x));
        add(Role::Narrow, "Linear of the sketch's width", work);
    }
    entries
}

/// One turn of a pass; backward computes the gradients of the input and of every parameter.
fn pass<'a, L: Send + 'a>(
    pass: Pass,
    target: &Target,
    inputs: &Shared<Tensor<2>>,
    layers: &Shared<L>,
    forward: impl Fn(&L, Tensor<2>) -> Tensor<2> + Send + 'a,
) -> Work<'a> {
    let (device, calls, inputs, layers) = (target.device.clone(), target.effort.calls, inputs.clone(), layers.clone());
    let wait = move || device.sync().expect("the device answers");
    Work::new(move || {
        let (mut inputs, mut layers) = (inputs.lock().expect(HELD), layers.lock().expect(HELD));
        // Results are held until the device is done, so that no lazy backend drops the work with them.
        match pass {
            Pass::Forward => {
                let results: Vec<_> = (0..calls).map(|_| forward(layers.next(), inputs.next().clone())).collect();
                wait();
                drop(std::hint::black_box(results));
            }
            Pass::ForwardBackward => {
                let step = |_| forward(layers.next(), inputs.next().clone().require_grad()).sum().backward();
                let results: Vec<_> = (0..calls).map(step).collect();
                wait();
                drop(std::hint::black_box(results));
            }
        }
    })
}

fn shared<T>(window: usize, bytes: usize, mut make: impl FnMut() -> T) -> Shared<T> {
    Arc::new(Mutex::new(Rotation::filling(window, bytes, |_| make())))
}

fn draw_inputs(tokens: usize, features: usize, target: &Target, device: &Device) -> Shared<Tensor<2>> {
    shared(target.window, tokens * features * target.dtype.size(), || normal([tokens, features], target.dtype, device))
}

fn normal(shape: [usize; 2], dtype: DType, device: &Device) -> Tensor<2> {
    Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), device).cast(FloatDType::from(dtype)).detach()
}

/// Burn's layer, its weight stored by inputs as Burn does by default, or by outputs.
fn linear(d_input: usize, d_output: usize, by_output: bool, dtype: DType, device: &Device) -> Linear {
    let mut layer = copied(&LinearConfig::new(d_input, d_output).init(device), dtype);
    if by_output {
        layer.weight = Param::from_tensor(normal([d_output, d_input], dtype, device).transpose().detach());
    }
    layer
}

/// A copy with memory of its own, its parameters of another dtype.
fn copied<M: Module>(module: &M, dtype: DType) -> M {
    struct Copy(FloatDType);
    impl ModuleMapper for Copy {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            Param::from_tensor((param.val().cast(self.0) * 1.0).detach())
        }
    }
    module.clone().map(&mut Copy(dtype.into()))
}
