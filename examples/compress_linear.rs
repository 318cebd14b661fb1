//! Structured layers from a trained `Linear`: how near they come, in closed form and by factorization.
//!
//! ```text
//! cargo run --release --features compress --example compress_linear
//! ```

#![allow(clippy::print_stdout, reason = "a command-line program")]

use burn::module::Param;
use burn::nn::LinearConfig;
use burn::tensor::{Device, Distribution, Tensor};
use burn_structured::compress::{approximate, factorize::FactorizerConfig};
use burn_structured::nn::Structure;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    device.seed(1);
    let normal =
        |rows: usize, columns: usize| Tensor::<2>::random([rows, columns], Distribution::Normal(0.0, 1.0), &device);
    // Trained weights are not noise: a few directions matter more than the others. Burn stores [d_input, d_output].
    let mut trained = LinearConfig::new(192, 256).init(&device);
    trained.weight = Param::from_tensor(normal(192, 24).matmul(normal(24, 256)) * 0.2 + normal(192, 256) * 0.3);
    let weight = trained.weight.val().transpose();

    println!("{:<22} {:>12} {:>14}", "half of the parameters", "closed form", "factorization");
    for text in ["low-rank:ratio=0.5", "monarch:b=4,ratio=0.5", "blast:b=4,ratio=0.5", "block-diagonal:b=2"] {
        let structure: Structure = text.parse()?;
        // From the layer itself, bias included; `from_dense` of each layer's configuration is the same for a bare matrix.
        let found = structure.approximate(&trained)?;

        // On the device, with more steps, and for BLAST alone a better optimum. `None`: any input is as likely as any other.
        let factorizer = FactorizerConfig::new().with_steps(100);
        let further = approximate(structure, weight.clone(), None, None, &factorizer)?;
        println!("{text:<22} {:>12.4} {:>14.4}", found.relative_error, further.relative_error);

        // What is found is a layer like any other.
        assert_eq!(further.layer.forward(normal(3, 192)).dims(), [3, 256]);
    }
    println!(
        "relative errors ‖Ŵ − W‖ / ‖W‖; known inputs and training on top lower what matters: see compress_encoder"
    );
    Ok(())
}
