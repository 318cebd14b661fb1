//! A classifier whose hidden layer is a BLAST matrix: trained, saved and loaded.

use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Int, Tensor, activation::relu};
use burn_structured::burn; // the version of Burn that the layers are made for
use burn_structured::nn::{Structure, StructuredLinear, StructuredLinearConfig};
use std::error::Error;

#[derive(Module, Debug)]
struct Classifier {
    hidden: StructuredLinear, // instead of a `Linear`
    output: Linear,
}

impl Classifier {
    fn new(structure: Structure, device: &Device) -> Self {
        Self {
            hidden: StructuredLinearConfig::new(64, 256, structure).init(device),
            output: LinearConfig::new(256, 8).init(device),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.output.forward(relu(self.hidden.forward(x)))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex().autodiff();
    device.seed(1);
    // 512 points around 8 random centres, to be told apart.
    let labels = Tensor::<1, Int>::arange(0..512, &device).remainder_scalar(8);
    let normal = |rows: usize, std: f64| Tensor::<2>::random([rows, 64], Distribution::Normal(0.0, std), &device);
    let x = normal(8, 0.5).select(0, labels.clone()) + normal(512, 1.0);

    let structure: Structure = "blast:b=4,ratio=0.5".parse()?; // or "dense", "low-rank", "monarch", …
    let mut model = Classifier::new(structure, &device);
    println!("{} ({:.0} % of the dense parameters)", model.hidden, 100.0 * model.hidden.cost().params_ratio());

    let (criterion, mut optimizer) = (CrossEntropyLossConfig::new().init(&device), AdamWConfig::new().init());
    for step in 0..=50 {
        let loss = criterion.forward(model.forward(x.clone()), labels.clone());
        if step % 10 == 0 {
            println!("step {step:>2}: loss {:.4}", loss.clone().into_scalar::<f32>());
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(3e-3, model, gradients);
    }

    let file = std::env::temp_dir().join(format!("your-project-{}.bpk", std::process::id()));
    model.clone().save_file(&file)?;
    let loaded = Classifier::new(structure, &device).try_load_file(&file)?;
    let difference = (loaded.forward(x.clone()) - model.forward(x)).abs().max().into_scalar::<f32>();
    std::fs::remove_file(&file)?; // not earlier: weights are read when they are first used
    println!("saved and loaded: outputs differ by {difference}");
    Ok(())
}
