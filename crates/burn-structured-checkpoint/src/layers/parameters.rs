//! The tensors of one layer, named as `burn-store` names them in a model of which the layer is a part.

use super::{float_data, to_dtype};
use crate::values::to_i64;
use crate::{Checkpoint, CheckpointError, TensorData};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{self, Bool, DType, Int, Tensor};
use burn_structured_nn::{INT8_MAX as MAX, StructuredLinear, int8_tensor};
use std::borrow::Cow;

/// The names on the way to a parameter. Those of an enum's variants are no part of them, as with
/// `SafetensorsStore::skip_enum_variants`: a layer of any structure is one layer of its model.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn enter(&mut self, name: &str, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.push(name.to_string());
        }
    }

    fn exit(&mut self, container: &str) {
        if !container.starts_with("Enum:") {
            self.0.pop();
        }
    }

    fn name(&self) -> String {
        self.0.join(".")
    }
}

/// Axes of the integers of an int8 layer; those of a hash have one.
pub const INT8_AXES: usize = 3;

/// The names and shapes of a layer's tensors; draws no initial value.
pub(super) fn shapes(layer: &StructuredLinear) -> Vec<(String, Vec<usize>)> {
    #[derive(Default)]
    struct Shapes {
        path: Path,
        found: Vec<(String, Vec<usize>)>,
    }

    impl ModuleVisitor for Shapes {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }

        fn exit_module(&mut self, _name: &str, container: &str) {
            self.path.exit(container);
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.push((self.path.name(), param.lazy_shape().to_vec()));
        }

        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            self.found.push((self.path.name(), param.lazy_shape().to_vec()));
        }

        fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
            self.found.push((self.path.name(), param.lazy_shape().to_vec()));
        }
    }

    let mut visitor = Shapes::default();
    layer.visit(&mut visitor);
    visitor.found
}

/// The tensors of a layer, `name` and a point in front of their names.
pub(super) fn save(layer: &StructuredLinear, name: &str) -> Vec<TensorData<'static>> {
    struct Saved<'a> {
        path: Path,
        layer: &'a str,
        found: Vec<TensorData<'static>>,
    }

    impl Saved<'_> {
        fn push(&mut self, data: tensor::TensorData) {
            let data = to_dtype(data);
            self.found.push(TensorData {
                name: format!("{}.{}", self.layer, self.path.name()),
                dtype: data.1,
                shape: data.0.shape().to_vec(),
                bytes: Cow::Owned(data.0.as_bytes().to_vec()),
            });
        }
    }

    impl ModuleVisitor for Saved<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }

        fn exit_module(&mut self, _name: &str, container: &str) {
            self.path.exit(container);
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.push(param.transform_for_save().val().into_data());
        }

        fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
            let data = param.transform_for_save().val().into_data();
            self.push(if D == INT8_AXES { data.convert_dtype(DType::I8) } else { data });
        }

        fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
            self.push(param.transform_for_save().val().into_data());
        }
    }

    let mut visitor = Saved { path: Path::default(), layer: name, found: Vec::new() };
    layer.visit(&mut visitor);
    visitor.found
}

/// The layer with the tensors of a checkpoint, whose shapes are the layer's.
pub(super) fn load(
    layer: StructuredLinear,
    checkpoint: &Checkpoint,
    name: &str,
) -> Result<StructuredLinear, CheckpointError> {
    struct Loaded<'a> {
        path: Path,
        checkpoint: &'a Checkpoint,
        layer: &'a str,
        error: Option<CheckpointError>,
    }

    impl Loaded<'_> {
        fn name(&self) -> String {
            format!("{}.{}", self.layer, self.path.name())
        }

        fn int_data(&self) -> Result<tensor::TensorData, CheckpointError> {
            let name = self.name();
            let found = self.checkpoint.expect(&name)?;
            let values = to_i64(found.dtype, self.checkpoint.bytes(&name)?);
            let values = values.ok_or_else(|| self.checkpoint.unsupported(&name, found.dtype, "integers"))?;
            if found.shape.len() == INT8_AXES
                && values.iter().any(|value| value.unsigned_abs() > u64::from(MAX.unsigned_abs()))
            {
                let reason = format!("weights are from -{MAX} to {MAX}; quantize the model again");
                return Err(CheckpointError::TensorData { name, reason });
            }
            Ok(tensor::TensorData::new(values, found.shape.clone()))
        }
    }

    impl ModuleMapper for Loaded<'_> {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }

        fn exit_module(&mut self, _name: &str, container: &str) {
            self.path.exit(container);
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match float_data(self.checkpoint, &self.name()) {
                Ok(data) => {
                    let (id, device) = (param.id, param.lazy_device());
                    param.transform_for_load(Tensor::from_data(data, &device), id)
                }
                Err(error) => {
                    self.error.get_or_insert(error);
                    param
                }
            }
        }

        fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
            match self.int_data() {
                Ok(data) => {
                    let (id, device) = (param.id, param.lazy_device());
                    let tensor = match D == INT8_AXES {
                        true => int8_tensor(data, &device),
                        false => Tensor::from_data(data, &device),
                    };
                    param.transform_for_load(tensor, id)
                }
                Err(error) => {
                    self.error.get_or_insert(error);
                    param
                }
            }
        }
    }

    let mut mapper = Loaded { path: Path::default(), checkpoint, layer: name, error: None };
    let loaded = layer.map(&mut mapper);
    mapper.error.map_or(Ok(loaded), Err)
}
