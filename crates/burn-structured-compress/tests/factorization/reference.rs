//! Error traces of the papers' methods: the crate's own, or those of the folder named by `BURN_STRUCTURED_FIXTURES`.

use super::tensor;
use burn_structured_compress::factorize::{BlastFactors, FactorizerConfig, Method, Start};
use burn_structured_nn::{Blocks, Rank};
use safetensors::SafeTensors;
use std::path::PathBuf;

struct Run {
    name: String,
    bytes: Vec<u8>,
}

impl Run {
    fn tensor(&self, name: &str) -> (Vec<usize>, Vec<f64>) {
        let file = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let tensor = file.tensor(name).unwrap_or_else(|error| panic!("{}: {name}: {error}", self.name));
        assert_eq!(tensor.dtype(), safetensors::Dtype::F64, "{}: {name}", self.name);
        let values = tensor.data().chunks_exact(8).map(|bytes| f64::from_le_bytes(bytes.try_into().expect("8 bytes")));
        (tensor.shape().to_vec(), values.collect())
    }

    fn setting(&self, name: &str) -> f64 {
        let (_, metadata) = SafeTensors::read_metadata(&self.bytes).expect("a safetensors file");
        let settings = metadata.metadata().clone().unwrap_or_default();
        serde_json::from_str(&settings[name]).expect("a number")
    }

    fn factor(&self, name: &str) -> burn::tensor::Tensor<4> {
        let (shape, values) = self.tensor(name);
        let [a, b, c] = shape[..] else { panic!("{}: {name} has shape {shape:?}", self.name) };
        tensor(values, [1, a, b, c])
    }
}

fn runs() -> Vec<Run> {
    let folder =
        std::env::var_os("BURN_STRUCTURED_FIXTURES").map_or_else(|| PathBuf::from("tests/fixtures"), PathBuf::from);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.retain(|path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("factorize_") && name.ends_with(".safetensors")
    });
    paths.sort();
    assert!(!paths.is_empty(), "no reference run in {}", folder.display());
    let read = |path: &PathBuf| Run {
        name: path.display().to_string(),
        bytes: std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
    };
    paths.iter().map(read).collect()
}

/// Relative to the expected error, for the first steps; rounding of a converged run is no trace.
fn follows(method: Method, errors: &str) {
    const STEPS: usize = 20;
    for run in runs() {
        let (shape, a) = run.tensor("a");
        let [u, s, v] = ["u0", "s0", "v0"].map(|name| run.factor(name));
        let [_, b1, b2, rank] = s.dims();
        let config = FactorizerConfig::new()
            .with_blocks(Blocks::Grid { output: b1, input: b2 })
            .with_rank(Rank::Fixed(rank))
            .with_method(method)
            .with_steps(run.setting("steps") as usize)
            .with_patience(None);
        // Only the first steps are compared; the schedule is that of the whole run.
        let stop = |progress: burn_structured_compress::factorize::Progress| {
            if progress.point.step >= STEPS {
                std::ops::ControlFlow::Break(())
            } else {
                std::ops::ControlFlow::Continue(())
            }
        };
        let start = Start::Given(BlastFactors { u, s, v });
        let found = config
            .init()
            .with_start(start)
            .with_observer(stop)
            .factorize(tensor(a, [shape[0], shape[1]]))
            .unwrap_or_else(|error| panic!("{}: {error}", run.name));
        let (_, expected) = run.tensor(errors);
        let compared = found.trace.len().min(expected.len());
        assert!(compared > STEPS.min(run.setting("steps") as usize), "{}: {compared} steps", run.name);
        for (point, expected) in found.trace.iter().zip(&expected) {
            let difference = (point.errors[0] / expected - 1.0).abs();
            assert!(
                difference < 1e-6,
                "{}, {errors}, step {}: {} against {expected}",
                run.name,
                point.step,
                point.errors[0]
            );
        }
    }
}

#[test]
fn gd_follows_the_reference() {
    follows(Method::GD, "errors_gd");
}

#[test]
fn prec_gd_follows_the_reference() {
    follows(Method::PREC_GD, "errors_precgd");
}
