//! The second moments of all layers of a model.

use super::{Moment, file};
use crate::CompressError;
use crate::names::{block_layer_paths, is_suffix};
use burn::module::{Module, ParamId};
use burn::tensor::Tensor;
use burn_structured_nn::{BlockModel, layer_paths, observe_inputs};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;

/// Second moments of the inputs of a model's structured layers, by the layers' names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibrator {
    moments: BTreeMap<String, Moment>,
}

impl Calibrator {
    /// A calibrator without inputs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs the `model`, and adds the inputs of all its [`StructuredLinear`](burn_structured_nn::StructuredLinear) layers,
    /// dense ones included, that it applies on this thread.
    ///
    /// Layers are named by their place in the model, as in its records: `blocks.0.fc1`.
    ///
    /// # Errors
    ///
    /// If an input is not finite; the layers' other inputs are added nevertheless.
    pub fn record<M: Module, R>(&mut self, model: &M, run: impl FnOnce() -> R) -> Result<R, CompressError> {
        #[derive(Default)]
        struct Seen {
            moments: HashMap<ParamId, Moment>,
            error: Option<(ParamId, CompressError)>,
        }
        let seen = Rc::new(RefCell::new(Seen::default()));
        let shared = seen.clone();
        let observer = move |layer: ParamId, input: Tensor<2>| {
            let Seen { moments, error } = &mut *shared.borrow_mut();
            let moment = moments.entry(layer).or_insert_with(|| Moment::new(input.dims()[1]));
            if let Err(reason) = moment.add(input) {
                error.get_or_insert((layer, reason));
            }
        };
        let result = observe_inputs(observer, run);
        let Seen { moments, error } = seen.take();
        let paths = layer_paths(model);
        let name = |layer: ParamId| paths.get(&layer).cloned();
        for (layer, moment) in moments {
            // Layers of other models have no name here.
            if let Some(name) = name(layer) {
                self.add_moment(&name, moment).map_err(|source| of_layer(&name, source))?;
            }
        }
        match error {
            Some((layer, reason)) => Err(of_layer(&name(layer).unwrap_or_default(), reason)),
            None => Ok(result),
        }
    }

    /// Runs the blocks of a `model` on a batch, and adds the inputs of their linear layers under the names that these have in the model's
    /// checkpoints, as plans and pipelines take them.
    ///
    /// # Errors
    ///
    /// As [`record`](Self::record).
    pub fn record_blocks<M: BlockModel>(&mut self, model: &M, batch: &M::Batch) -> Result<(), CompressError> {
        let mut found = Self::new();
        found.record(model, || {
            model.blocks().iter().fold(model.embed(batch), |x, block| M::forward_block(block, x, batch))
        })?;
        for (name, path) in block_layer_paths(model) {
            let Some(moment) = found.moments.remove(&path) else { continue };
            self.add_moment(&name, moment).map_err(|source| of_layer(&name, source))?;
        }
        Ok(())
    }

    /// Adds inputs `[.., n]` of the layer `name`, for models that hold other layers.
    ///
    /// # Errors
    ///
    /// If the layer had other features before, or an input is not finite.
    pub fn observe<const D: usize>(&mut self, name: &str, input: Tensor<D>) -> Result<(), CompressError> {
        let dims = input.dims();
        let (features, tokens) = (dims[D - 1], dims[..D - 1].iter().product::<usize>());
        let mut moment = Moment::new(features);
        // A reshape takes 0 for "the dimension as before".
        let added = if tokens * features == 0 { Ok(()) } else { moment.add(input.reshape([tokens, features])) };
        added.and_then(|()| self.add_moment(name, moment)).map_err(|source| of_layer(name, source))
    }

    fn add_moment(&mut self, name: &str, moment: Moment) -> Result<(), CompressError> {
        match self.moments.get_mut(name) {
            Some(known) => known.merge(&moment),
            None => {
                self.moments.insert(name.to_string(), moment);
                Ok(())
            }
        }
    }

    /// The moment of a layer, if it was applied.
    pub fn moment(&self, name: &str) -> Option<&Moment> {
        self.moments.get(name)
    }

    /// The moment of the layer `name`, also if one of the two names has a prefix such as `bert.` and the other has none.
    pub fn find(&self, name: &str) -> Option<&Moment> {
        self.moments.get(name).or_else(|| {
            let mut alike = self.moments.iter().filter(|(known, _)| is_suffix(known, name) || is_suffix(name, known));
            // A name that could be two layers' is nobody's.
            alike.next().filter(|_| alike.next().is_none()).map(|(_, moment)| moment)
        })
    }

    /// `Err` if none of these layers is known: the moments are then those of another model.
    pub(crate) fn check<'a>(&self, layers: impl Iterator<Item = &'a str>) -> Result<(), CompressError> {
        let (mut count, mut first) = (0, None);
        for layer in layers {
            if self.find(layer).is_some() {
                return Ok(());
            }
            count += 1;
            first = first.or(Some(layer));
        }
        match first {
            None => Ok(()),
            Some(layer) => Err(CompressError::Calibration {
                layers: count,
                layer: layer.to_string(),
                known: self.moments.keys().next().cloned().unwrap_or_default(),
            }),
        }
    }

    /// The same moments under other names; those that `name` has none for are left out.
    #[must_use]
    pub fn renamed(self, mut name: impl FnMut(&str) -> Option<String>) -> Self {
        let moments = self.moments.into_iter();
        Self { moments: moments.filter_map(|(known, moment)| Some((name(&known)?, moment))).collect() }
    }

    /// Adds the inputs of another calibration, of other texts or on another machine.
    ///
    /// # Errors
    ///
    /// If a layer has other features there; the moments are then unchanged.
    pub fn merge(&mut self, other: &Self) -> Result<(), CompressError> {
        let mut merged = self.clone();
        for (name, moment) in &other.moments {
            merged.add_moment(name, moment.clone()).map_err(|source| of_layer(name, source))?;
        }
        *self = merged;
        Ok(())
    }

    /// All layers and their moments, by name.
    pub fn moments(&self) -> impl Iterator<Item = (&str, &Moment)> {
        self.moments.iter().map(|(name, moment)| (name.as_str(), moment))
    }

    /// Writes the moments as a safetensors file: a tensor `[n, n]` in f64 for each layer, and the numbers of inputs in the
    /// metadata. An earlier file is replaced when the new one is complete.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), CompressError> {
        file::save(&self.moments, path)
    }

    /// Reads moments that were [saved](Self::save).
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is not a valid file of moments of a known version.
    pub fn load(path: &Path) -> Result<Self, CompressError> {
        Ok(Self { moments: file::load(path)? })
    }
}

fn of_layer(name: &str, source: CompressError) -> CompressError {
    CompressError::Layer { name: name.to_string(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Decoder, batches};
    use burn::tensor::{Device, Distribution};
    use burn_structured_nn::{StructuredLinear, StructuredLinearConfig};

    #[derive(Module, Debug)]
    struct Mlp {
        hidden: Vec<StructuredLinear>,
        output: StructuredLinear,
    }

    impl Mlp {
        fn new(device: &Device) -> Self {
            let layer = |d_input: usize, d_output: usize, structure: &str| {
                StructuredLinearConfig::new(d_input, d_output, structure.parse().unwrap()).init(device)
            };
            let hidden = vec![layer(6, 8, "blast:b=2,r=3"), layer(8, 8, "dense")];
            Self { hidden, output: layer(8, 4, "low-rank:r=2") }
        }

        fn forward(&self, x: Tensor<3>) -> Tensor<3> {
            let x = self.hidden.iter().fold(x, |x, layer| burn::tensor::activation::relu(layer.forward(x)));
            self.output.forward(x)
        }
    }

    #[test]
    fn record_names_every_layer() {
        let device = Device::flex();
        let model = Mlp::new(&device);
        let mut calibrator = Calibrator::new();
        let batches = [2, 3].map(|size| Tensor::<3>::random([size, 5, 6], Distribution::Normal(0.0, 1.0), &device));
        for batch in &batches {
            calibrator.record(&model, || model.forward(batch.clone())).unwrap();
        }
        let names: Vec<_> =
            calibrator.moments().map(|(name, moment)| (name, moment.features(), moment.tokens())).collect();
        assert_eq!(names, [("hidden.0", 6, 25), ("hidden.1", 8, 25), ("output", 8, 25)]);

        let mut expected = Moment::new(6);
        for batch in batches {
            expected.add(batch.reshape([-1, 6])).unwrap();
        }
        assert_eq!(calibrator.moment("hidden.0"), Some(&expected));
        // What is not watched is not seen.
        model.forward(Tensor::zeros([1, 1, 6], &device));
        assert_eq!(calibrator.moment("output").unwrap().tokens(), 25);
    }

    #[test]
    fn record_blocks_takes_the_names_of_checkpoints() {
        let model = Decoder::new(2, true, 3);
        let (mut found, mut expected) = (Calibrator::new(), Calibrator::new());
        for batch in batches(2, 5) {
            found.record_blocks(&model, &batch).unwrap();
            let run =
                || model.blocks.iter().fold(model.embed(&batch), |x, block| Decoder::forward_block(block, x, &batch));
            expected.record(&model, run).unwrap();
        }
        let expected = expected.renamed(|path| Some(path.replace("blocks.", "h.")));
        assert_eq!(found.moments().count(), 8);
        assert_eq!(found, expected);
    }

    #[test]
    fn record_names_the_layer_of_a_nan_input() {
        let device = Device::flex();
        let model = Mlp::new(&device);
        let batch = Tensor::<3>::full([1, 1, 6], f32::NAN, &device);
        let error = Calibrator::new().record(&model, || model.forward(batch)).unwrap_err().to_string();
        assert!(error.starts_with("layer hidden.0: "), "{error}");
    }

    #[test]
    fn merge_adds_the_inputs_of_every_layer() {
        let device = Device::flex();
        let inputs = |name: &str, features: usize| {
            let mut calibrator = Calibrator::new();
            calibrator.observe(name, Tensor::<2>::ones([3, features], &device)).unwrap();
            calibrator
        };
        let mut both = inputs("a", 2);
        both.merge(&inputs("a", 2)).unwrap();
        both.merge(&inputs("b", 4)).unwrap();
        let tokens: Vec<_> = both.moments().map(|(name, moment)| (name, moment.tokens())).collect();
        assert_eq!(tokens, [("a", 6), ("b", 3)]);
        let before = both.clone();
        let error = both.merge(&inputs("b", 5)).unwrap_err().to_string();
        assert!(error.starts_with("layer b: "), "{error}");
        assert_eq!(both, before);
    }

    #[test]
    fn find_ignores_a_prefix() {
        let device = Device::flex();
        let mut calibrator = Calibrator::new();
        for (name, features) in [("h.0.fc", 1), ("h.1.fc", 2), ("bert.h.2.fc", 3)] {
            calibrator.observe(name, Tensor::<2>::ones([1, features], &device)).unwrap();
        }
        let features = |name: &str| calibrator.find(name).map(Moment::features);
        assert_eq!(features("h.0.fc"), Some(1));
        assert_eq!(features("transformer.h.1.fc"), Some(2));
        assert_eq!(features("h.2.fc"), Some(3));
        // Ambiguous, and another layer's.
        assert_eq!(features("fc"), None);
        assert_eq!(features("xh.0.fc"), None);
        let renamed = calibrator.renamed(|name| name.strip_prefix("h.").map(str::to_string));
        assert_eq!(renamed.moments().map(|(name, _)| name).collect::<Vec<_>>(), ["0.fc", "1.fc"]);
    }

    #[test]
    fn load_returns_what_was_saved() {
        let device = Device::flex();
        let mut calibrator = Calibrator::new();
        calibrator.observe("a", Tensor::<2>::from_data([[1.0, 2.0], [3.0, -4.0]], &device)).unwrap();
        calibrator.observe("b.c", Tensor::<3>::from_data([[[0.1]]], &device)).unwrap();
        let folder = std::env::temp_dir().join(format!("burn-structured-moments-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("moments.safetensors");
        calibrator.save(&path).unwrap();
        assert_eq!(Calibrator::load(&path).unwrap(), calibrator);

        let whole = std::fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 3], &whole[..20], b"", b"not a file of moments at all"] {
            std::fs::write(&path, damaged).unwrap();
            let error = Calibrator::load(&path).unwrap_err().to_string();
            assert!(error.contains("moments.safetensors"), "{error}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
        let error = calibrator.save(&path).unwrap_err().to_string();
        assert!(error.contains("moments"), "{error}");
    }
}
