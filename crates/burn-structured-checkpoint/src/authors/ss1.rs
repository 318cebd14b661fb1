//! SS1 layers as the authors' code saves them.

use crate::layers::{expect_shape, tensor};
use crate::{Checkpoint, CheckpointError};
use burn::tensor::Device;
use burn_structured_nn::{Ss1LinearConfig, StructuredLinear};

/// The SS1 layer of the stored weights `<name>.weight [d_output, w]`, rotated for each block of rows as the authors store them,
/// and of `<name>.bias`, if there is one:
///
/// ```text
/// W[o, (g c + j) K + p] = weight[o, g K + (p − shift) mod K]
/// shift(nb, g, j) = ((r3 + r2 nb + r1 (g + 1) + r0 (j + 1)) · vec) mod K,    w = ⌈⌈d_input / K⌉ / c⌉ K
/// ```
///
/// The constants `r3` to `r0`, `vec` (8 in their code), `K` and the rows of a block are part of what the layer computes, and are not
/// in the file: `config` gives them, with [`Ss1Hash::Additive`](burn_structured_nn::Ss1Hash::Additive).
///
/// # Errors
///
/// If a tensor is absent, has another shape than `config` says, or a type that cannot be read; or if `config` is not valid.
pub fn ss1(
    checkpoint: &Checkpoint,
    name: &str,
    config: &Ss1LinearConfig,
    device: &Device,
) -> Result<StructuredLinear, CheckpointError> {
    let wrong =
        |reason: String| CheckpointError::Layer { path: checkpoint.path().to_owned(), layer: name.to_string(), reason };
    let fold = config.fold().map_err(|error| wrong(format!("cannot have these settings: {error}")))?;
    let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
    expect_shape(checkpoint, &weight, &[config.d_output, fold.width()])?;
    let bias = match checkpoint.tensor(&bias) {
        None => None,
        Some(_) => {
            expect_shape(checkpoint, &bias, &[config.d_output])?;
            Some(tensor::<1>(checkpoint, &bias, device)?)
        }
    };
    let layer = config.from_rotated(tensor::<2>(checkpoint, &weight, device)?, bias);
    layer.map(StructuredLinear::Ss1).map_err(|error| wrong(format!("cannot have these settings: {error}")))
}
