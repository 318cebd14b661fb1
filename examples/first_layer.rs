//! A structured layer in the place of a dense one: the same input and output, fewer parameters, and the matrix that it stands for.
//!
//! ```text
//! cargo run --release --example first_layer
//! ```

#![allow(clippy::print_stdout, reason = "a command-line program")]

use burn::tensor::{Device, Distribution, Tensor};
use burn_structured::nn::{Structure, StructuredLinearConfig};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let x = Tensor::<3>::random([2, 16, 768], Distribution::Default, &device);

    // A structure has a text form, as in configuration files and on command lines.
    for text in ["dense", "blast:b=4,ratio=0.5", "low-rank:r=64", "monarch:b=4", "ss1:c=4", "kronecker:r=2"] {
        let structure: Structure = text.parse()?;
        let layer = StructuredLinearConfig::new(768, 3072, structure).try_init(&device)?;

        // Any number of leading dimensions, as with Burn's `Linear`.
        let y = layer.forward(x.clone());
        assert_eq!(y.dims(), [2, 16, 3072]);

        // The layer never forms its matrix W [3072, 768]. It can be asked for it: forward(x) = x Wᵀ + bias.
        let bias = Tensor::<1>::zeros([3072], &device);
        let bias = layer.bias().map_or(bias, |bias| bias.val());
        let expected = x.clone().matmul(layer.to_dense().transpose().unsqueeze()) + bias.unsqueeze();
        let difference = (y - expected).abs().max().into_scalar::<f32>();

        let cost = layer.cost();
        println!(
            "{text:<20} {:>9} parameters, {:>5.1} % of the dense FLOPs, differs from its matrix by {difference:.0e}",
            cost.params,
            100.0 * cost.flops_ratio(),
        );
    }
    Ok(())
}
