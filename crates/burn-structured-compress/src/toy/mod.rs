//! Small models of blocks for tests.

mod decoder;

pub use decoder::Decoder;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData, activation};
use burn_structured_nn::{BlockModel, Structure, StructuredLinear, StructuredLinearConfig};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand_distr::{Distribution, StandardNormal};

pub const FEATURES: usize = 12;
pub const HIDDEN: usize = 18;

/// `x + down(tanh(up(x)) · tanh(gate(x)))`; the gate has no bias.
#[derive(Module, Debug)]
pub struct Block {
    pub up: StructuredLinear,
    pub gate: StructuredLinear,
    pub down: StructuredLinear,
}

#[derive(Module, Debug)]
pub struct Toy {
    pub blocks: Vec<Block>,
}

impl Toy {
    pub fn new(depth: usize, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut layer = |d_input, d_output, bias| dense(d_input, d_output, bias, &mut rng);
        let blocks = (0..depth)
            .map(|_| Block {
                up: layer(FEATURES, HIDDEN, true),
                gate: layer(FEATURES, HIDDEN, false),
                down: layer(HIDDEN, FEATURES, true),
            })
            .collect();
        Self { blocks }
    }

    pub fn output_of(&self, batch: &Tensor<3>) -> Tensor<2> {
        let features = self.blocks.iter().fold(self.embed(batch), |x, block| Self::forward_block(block, x, batch));
        self.output(features, batch)
    }
}

impl BlockModel for Toy {
    type Batch = Tensor<3>;
    type Block = Block;

    const STAGES: &'static [&'static [usize]] = &[&[0, 1], &[2]];

    fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    fn blocks_mut(&mut self) -> &mut [Block] {
        &mut self.blocks
    }

    fn embed(&self, batch: &Tensor<3>) -> Tensor<3> {
        batch.clone()
    }

    fn forward_block(block: &Block, features: Tensor<3>, _batch: &Tensor<3>) -> Tensor<3> {
        let hidden = activation::tanh(block.up.forward(features.clone()))
            * activation::tanh(block.gate.forward(features.clone()));
        features + block.down.forward(hidden) * 2.0
    }

    fn output(&self, features: Tensor<3>, _batch: &Tensor<3>) -> Tensor<2> {
        features.mean_dim(1).squeeze_dim(1)
    }

    fn linears(&self, block: usize) -> Vec<(String, &StructuredLinear)> {
        let Block { up, gate, down } = &self.blocks[block];
        [("up", up), ("gate", gate), ("down", down)]
            .map(|(name, layer)| (format!("blocks.{block}.{name}"), layer))
            .into()
    }

    fn linears_mut(block: &mut Block) -> Vec<&mut StructuredLinear> {
        vec![&mut block.up, &mut block.gate, &mut block.down]
    }
}

/// Batches of 4 sentences of different lengths, with features of different sizes and a mean.
pub fn batches(count: usize, seed: u64) -> Vec<Tensor<3>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let sizes: Vec<f32> = (0..FEATURES).map(|at| 4.0 / (1.0 + at as f32)).collect();
    let sizes = Tensor::<1>::from_data(sizes.as_slice(), &Device::flex()).unsqueeze::<3>();
    (0..count).map(|at| (normal([4, 8 + at % 3, FEATURES], &mut rng) + 0.5) * sizes.clone()).collect()
}

/// A dense layer of random weights.
fn dense(d_input: usize, d_output: usize, bias: bool, rng: &mut StdRng) -> StructuredLinear {
    let weight = normal([d_output, d_input], rng) / (d_input as f64).sqrt();
    let bias = bias.then(|| normal([d_output], rng) * 0.2);
    let config = StructuredLinearConfig::new(d_input, d_output, Structure::Dense).with_bias(bias.is_some());
    config.from_dense(weight, bias).expect("a dense layer fits every weight").layer
}

/// Normal numbers of a generator: the device's is shared by all tests of a process.
fn normal<const D: usize>(shape: [usize; D], rng: &mut StdRng) -> Tensor<D> {
    let count = shape.iter().product();
    let values: Vec<f64> = (0..count).map(|_| StandardNormal.sample(&mut *rng)).collect();
    Tensor::from_data(TensorData::new(values, shape).convert::<f32>(), &Device::flex())
}

/// All parameters of a block.
pub fn parameters<B: Module>(block: &B) -> Vec<f32> {
    struct Values(Vec<f32>);
    impl burn::module::ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &burn::module::Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().iter::<f32>());
        }
    }
    let mut values = Values(Vec::new());
    block.visit(&mut values);
    values.0
}
