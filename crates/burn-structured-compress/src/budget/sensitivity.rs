//! The effect of each layer's error on the model's output, measured on data: errors of different layers are not comparable
//! otherwise.

use crate::CompressError;
use crate::distill::output_of;
use crate::names::block_layer_paths;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use burn_structured_nn::{BlockModel, layer_paths};
use std::collections::{BTreeMap, HashMap};

/// The squared error of the model's output, relative to the output, when one layer alone has another weight, for each layer of
/// `replacements`: `‖f_l(X) − f(X)‖² / ‖f(X)‖²`.
///
/// Layers are named by their place in the model, as by a [`Calibrator`](crate::calibrate::Calibrator), and have to be dense
/// [`StructuredLinear`](burn_structured_nn::StructuredLinear) layers; a replacement is a dense weight
/// `[d_output, d_input]`, such as [`to_dense`](burn_structured_nn::StructuredLinear::to_dense) of a compressed layer. `run`
/// applies a model to data: a small part of the calibration data is enough.
///
/// For small errors the output's squared error is proportional to the layer's, so one replacement gives the
/// [sensitivity](super::LayerCurve::with_model_error) for all.
///
/// # Errors
///
/// If a name is not that of a dense layer, a replacement has another shape than the weight, or an output is not finite.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_structured_compress::budget::model_errors;
/// use burn_structured_nn::{Structure, StructuredLinear, StructuredLinearConfig};
///
/// let device = Device::flex();
/// let layer = || StructuredLinearConfig::new(8, 8, Structure::Dense).init(&device);
/// let model = vec![layer(), layer()];
/// let x = Tensor::<2>::random([32, 8], Distribution::Normal(0.0, 1.0), &device);
/// let run = |model: &Vec<StructuredLinear>| model.iter().fold(x.clone(), |x, layer| layer.forward(x));
/// let halved = |at: usize| (at.to_string(), model[at].to_dense() * 0.5);
/// let errors = model_errors(&model, [halved(0), halved(1)], run)?;
/// assert!(errors["0"] > 0.0 && errors["1"] > 0.0);
/// # Ok::<(), burn_structured_compress::CompressError>(())
/// ```
pub fn model_errors<M: Module, const D: usize>(
    model: &M,
    replacements: impl IntoIterator<Item = (String, Tensor<2>)>,
    run: impl FnMut(&M) -> Tensor<D>,
) -> Result<BTreeMap<String, f64>, CompressError> {
    errors_of(model, &dense_weights(model), replacements, run)
}

/// The [errors](model_errors) of the output of a model of blocks on `batches`, for layers named as in the model's checkpoints.
///
/// # Errors
///
/// As [`model_errors`], or if there are no batches.
///
/// # Panics
///
/// If a batch is not one that the model takes.
pub fn block_model_errors<M: BlockModel>(
    model: &M,
    batches: &[M::Batch],
    replacements: impl IntoIterator<Item = (String, Tensor<2>)>,
) -> Result<BTreeMap<String, f64>, CompressError> {
    if batches.is_empty() {
        return Err(CompressError::NoBatches);
    }
    let by_path = dense_weights(model);
    let named = block_layer_paths(model).into_iter();
    let weights = named.filter_map(|(name, path)| Some((name, *by_path.get(&path)?))).collect();
    let run = |model: &M| Tensor::cat(batches.iter().map(|batch| output_of(model, batch)).collect(), 0);
    errors_of(model, &weights, replacements, run)
}

/// The errors for replacements of these weights.
fn errors_of<M: Module, const D: usize>(
    model: &M,
    weights: &HashMap<String, (ParamId, [usize; 2])>,
    replacements: impl IntoIterator<Item = (String, Tensor<2>)>,
    mut run: impl FnMut(&M) -> Tensor<D>,
) -> Result<BTreeMap<String, f64>, CompressError> {
    let square = |output: Tensor<D>| output.detach().square().sum().into_scalar::<f64>();
    let expected = run(model);
    let size = square(expected.clone());
    let mut errors = BTreeMap::new();
    for (name, weight) in replacements {
        let of_layer = |source: CompressError| CompressError::Layer { name: name.clone(), source: Box::new(source) };
        let Some((id, [n, m])) = weights.get(&name).copied() else {
            return Err(of_layer(CompressError::NoDenseLayer));
        };
        if weight.dims() != [m, n] {
            return Err(of_layer(CompressError::WeightShape { actual: weight.dims(), expected: [m, n] }));
        }
        let replaced = model.clone().map(&mut Replace { id, weight: weight.transpose() });
        let error = square(run(&replaced) - expected.clone()) / size;
        if !error.is_finite() {
            return Err(of_layer(CompressError::OutputNotFinite));
        }
        errors.insert(name, error);
    }
    Ok(errors)
}

/// The weights `[d_input, d_output]` of the dense layers, by the layers' names.
fn dense_weights<M: Module>(model: &M) -> HashMap<String, (ParamId, [usize; 2])> {
    struct Dense {
        /// Whether each open module is within a dense layer.
        here: Vec<bool>,
        weights: Vec<(ParamId, [usize; 2])>,
    }
    impl ModuleVisitor for Dense {
        fn enter_module(&mut self, name: &str, container: &str) {
            // The variant of the enum, or what it holds.
            let dense = name == "Dense" && container == "Enum:StructuredLinear";
            self.here.push(dense || self.here.last() == Some(&true));
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.here.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.here.last() == Some(&true)
                && let [n, m] = param.val().dims()[..]
            {
                self.weights.push((param.id, [n, m]));
            }
        }
    }
    let mut dense = Dense { here: Vec::new(), weights: Vec::new() };
    model.visit(&mut dense);
    let paths = layer_paths(model);
    let named = |(id, shape): (ParamId, [usize; 2])| Some((paths.get(&id)?.clone(), (id, shape)));
    dense.weights.into_iter().filter_map(named).collect()
}

/// Another value for one parameter.
struct Replace {
    id: ParamId,
    weight: Tensor<2>,
}

impl ModuleMapper for Replace {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if param.id != self.id {
            return param;
        }
        param.map(|value| self.weight.clone().to_device(&value.device()).cast(value.dtype()).reshape(value.dims()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toy::{Toy, batches};
    use burn::tensor::{DType, Device, Distribution};
    use burn_structured_nn::{Structure, StructuredLinear, StructuredLinearConfig};

    fn layer(structure: &str) -> StructuredLinear {
        let structure: Structure = structure.parse().unwrap();
        StructuredLinearConfig::new(6, 6, structure).init(&Device::flex())
    }

    #[test]
    fn model_errors_replace_one_layer() {
        let model = vec![layer("dense"), layer("dense"), layer("blast:b=2,r=3")];
        let x = Tensor::<3>::random([4, 5, 6], Distribution::Normal(0.0, 1.0), &Device::flex());
        let run = |model: &Vec<StructuredLinear>| model.iter().fold(x.clone(), |x, layer| layer.forward(x));
        let replacement = |at: usize| (at.to_string(), layer("dense").to_dense() + model[at].to_dense());
        let replacements = [replacement(0), replacement(1)];
        let errors = model_errors(&model, replacements.clone(), run).unwrap();
        for (name, weight) in replacements {
            let at: usize = name.parse().unwrap();
            let StructuredLinear::Dense(mut linear) = model[at].clone() else { unreachable!("it is dense") };
            linear.weight = Param::from_tensor(weight.transpose());
            let mut replaced = model.clone();
            replaced[at] = StructuredLinear::Dense(linear);
            let square = |output: Tensor<3>| output.cast(DType::F64).square().sum().into_scalar::<f64>();
            let expected = square(run(&replaced) - run(&model)) / square(run(&model));
            assert!((errors[&name] / expected - 1.0).abs() < 1e-4, "{name}: {} against {expected}", errors[&name]);
        }
    }

    #[test]
    fn block_model_errors_are_those_of_all_batches() {
        let (model, batches) = (Toy::new(2, 3), batches(3, 7));
        let halved = |name: &str, layer: &StructuredLinear| (name.to_string(), layer.to_dense() * 0.5);
        let replacements =
            [halved("blocks.1.gate", &model.blocks[1].gate), halved("blocks.0.down", &model.blocks[0].down)];
        let found = block_model_errors(&model, &batches, replacements.clone()).unwrap();
        // The toy's layers have the same names in checkpoints as in the model.
        let run = |model: &Toy| Tensor::cat(batches.iter().map(|batch| model.output_of(batch)).collect(), 0);
        assert_eq!(found, model_errors(&model, replacements, run).unwrap());
        assert!(found.values().all(|error| *error > 0.0), "{found:?}");
        let none = block_model_errors(&model, &[], Vec::new()).unwrap_err();
        assert!(matches!(none, CompressError::NoBatches), "{none}");
    }

    #[test]
    fn model_errors_name_the_invalid_replacement() {
        let model = vec![layer("dense"), layer("low-rank:r=2")];
        let x = Tensor::<2>::ones([3, 6], &Device::flex());
        let run = |model: &Vec<StructuredLinear>| model.iter().fold(x.clone(), |x, layer| layer.forward(x));
        let errors = model_errors(&model, [("0".to_string(), model[0].to_dense())], run).unwrap();
        assert_eq!(errors["0"], 0.0);
        let fails = |name: &str, weight: Tensor<2>| {
            model_errors(&model, [(name.to_string(), weight)], run).unwrap_err().to_string()
        };
        let device = Device::flex();
        assert!(fails("1", model[1].to_dense()).starts_with("layer 1: "), "not dense");
        assert!(fails("2", model[0].to_dense()).starts_with("layer 2: "), "not there");
        assert!(fails("0", Tensor::zeros([6, 5], &device)).contains("[6, 5]"));
        assert!(fails("0", Tensor::full([6, 6], f32::NAN, &device)).contains("output"));
    }
}
