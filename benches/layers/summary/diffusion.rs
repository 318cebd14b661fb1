//! The table of a diffusion transformer that was compressed and retrained, as `dit_cifar` writes it.

use super::files::Recorded;
use super::language::Origin;
use super::table;
use burn_structured::train::comparison::short;
use serde::Deserialize;

/// What is used of `diffusion.json`.
#[derive(Clone, Debug, Deserialize)]
pub struct Compression {
    /// Where it is from.
    #[serde(flatten)]
    pub origin: Origin,
    dataset: String,
    test_images: usize,
    frechet_images: usize,
    dense: Quality,
    rows: Vec<Row>,
}

#[derive(Clone, Debug, Deserialize)]
struct Row {
    structure: String,
    relative_flops: f64,
    layer_error: f64,
    compressed: Quality,
    retrained: Option<Quality>,
    retraining_steps: usize,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Quality {
    noise_error: f64,
    frechet_distance_on_vit_features: Option<f64>,
}

/// All that the page says of a compression, the dense model first.
pub fn section(file: &Recorded<Compression>) -> String {
    let Compression { origin, dataset, test_images, frechet_images, dense, rows } = &file.results;
    let qualities = |of: fn(Quality) -> Option<f64>, [first, last]: [Option<Quality>; 2]| {
        [first, last].map(|quality| quality.and_then(of).map_or_else(String::new, |value| format!("{value:.4}")))
    };
    let cells = |name: &str, flops: f64, error: Option<f64>, of: [Option<Quality>; 2], steps: usize| {
        let mut cells = vec![format!("`{}`", short(name)), format!("{:.0} %", 100.0 * flops)];
        cells.push(error.map_or_else(String::new, |error| format!("{error:.3}")));
        cells.extend(qualities(|quality| Some(quality.noise_error), of));
        cells.extend(qualities(|quality| quality.frechet_distance_on_vit_features, of));
        cells.push(if steps > 0 { steps.to_string() } else { String::new() });
        cells
    };
    let mut lines = vec![cells("dense", 1.0, None, [Some(*dense), None], 0)];
    lines.extend(rows.iter().map(|row| {
        let of = [Some(row.compressed), row.retrained];
        cells(&row.structure, row.relative_flops, Some(row.layer_error), of, row.retraining_steps)
    }));
    let head = [
        "structure",
        "FLOPs of the layers",
        "error of the layers",
        "noise error",
        "retrained",
        "Fréchet distance",
        "retrained",
        "steps",
    ];
    format!(
        "\nA diffusion transformer compressed, {dataset}. Noise error: the mean squared error of the predicted noise in {test_images} test \
         images. Fréchet distance: between {frechet_images} sampled images and the test images, on the features of this repository's \
         vision transformer; it is not FID. [Images from the same noise](comparison.png), a block for each model.\n{}{}",
        origin.line(file),
        table(&head, &lines)
    )
}
