//! Singular values of the dense weights of compressed layers.

use super::Report;
use crate::{CompressError, Spectrum};
use burn::tensor::Device;
use burn_structured_checkpoint::{Checkpoint, dense_layer, linears};

/// The singular values of a dense weight.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerSpectrum {
    /// The layer's name.
    pub layer: String,
    /// Its singular values, the largest first.
    pub values: Vec<f64>,
}

/// The singular values of the dense weights of the layers that a report says were compressed.
///
/// # Errors
///
/// If a weight cannot be read or decomposed.
pub fn spectra(dense: &Checkpoint, report: &Report, device: &Device) -> Result<Vec<LayerSpectrum>, CompressError> {
    let compressed = |name: &str| report.compressed().any(|layer| layer.name == name);
    let layers = linears(dense).into_iter().filter(|layer| compressed(&layer.name));
    let decompose = |layer: burn_structured_checkpoint::LinearInfo| {
        let spectrum = || Spectrum::new(&dense_layer(dense, &layer, device)?.0, None);
        let values = spectrum().map_err(|error| error.in_layer(&layer.name))?.values().to_vec();
        Ok(LayerSpectrum { layer: layer.name, values })
    };
    layers.map(decompose).collect()
}
