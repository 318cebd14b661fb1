//! Tensors and layers of Burn, from and to a checkpoint.

mod parameters;

pub use parameters::INT8_AXES;

use crate::error::printable;
use crate::names::linear;
use crate::values::{FLOATS, from_f32, is_float};
use crate::{Checkpoint, CheckpointError, LayerEntry, LinearInfo, Orientation, TensorData};
use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{self, DType, Device, Tensor};
use burn_structured_nn::{Structure, StructuredLinear, StructuredLinearConfig};
use safetensors::Dtype;
use std::borrow::Cow;

/// The longest side of a layer with masks over its features, whose basis is a square of that side.
const MAX_MASKED: usize = 1 << 15;

/// A tensor of a checkpoint in the device's float type.
///
/// # Errors
///
/// If there is no such tensor, it has another number of axes, or its type is not F64, F32, F16 or BF16.
pub fn tensor<const D: usize>(
    checkpoint: &Checkpoint,
    name: &str,
    device: &Device,
) -> Result<Tensor<D>, CheckpointError> {
    let found = checkpoint.expect(name)?;
    if found.shape.len() != D {
        return Err(shape_error(checkpoint, name, format!("a shape of {D} axes"), &found.shape));
    }
    Ok(Tensor::from_data(float_data(checkpoint, name)?, device))
}

/// A dense layer of a checkpoint: its weight `[d_output, d_input]`, whatever the orientation in the file, and its bias.
///
/// # Errors
///
/// If a tensor is absent, of another shape than `linear` says, or of no float type that can be read.
pub fn dense_layer(
    checkpoint: &Checkpoint,
    linear: &LinearInfo,
    device: &Device,
) -> Result<(Tensor<2>, Option<Tensor<1>>), CheckpointError> {
    let LinearInfo { d_input, d_output, .. } = *linear;
    let shape = match linear.orientation {
        Orientation::OutIn => [d_output, d_input],
        Orientation::InOut => [d_input, d_output],
    };
    expect_shape(checkpoint, &linear.weight, &shape)?;
    let weight = tensor::<2>(checkpoint, &linear.weight, device)?;
    let weight = match linear.orientation {
        Orientation::OutIn => weight,
        Orientation::InOut => weight.transpose(),
    };
    let bias = linear.bias.as_deref().map(|bias| {
        expect_shape(checkpoint, bias, &[d_output])?;
        tensor::<1>(checkpoint, bias, device)
    });
    Ok((weight, bias.transpose()?))
}

/// The layer of a name: of the structure that the [manifest](Checkpoint::manifest) says, and dense if it does not name the layer.
///
/// The axes of a dense weight are those that [`linears`](crate::linears) finds.
///
/// # Errors
///
/// If the manifest is not valid; if a factor or a weight is absent, or has another shape than the structure; if the checkpoint has
/// a tensor under the layer's name that the structure has not; or if a type cannot be read. Nothing is allocated before the shapes
/// are known to be those of the file.
pub fn layer(checkpoint: &Checkpoint, name: &str, device: &Device) -> Result<StructuredLinear, CheckpointError> {
    let entry = checkpoint.manifest()?.and_then(|mut manifest| manifest.layers.remove(name));
    match entry {
        Some(entry) => structured_layer(checkpoint, name, &entry, device),
        None => {
            let found = linear(checkpoint, name).ok_or_else(|| missing_weight(checkpoint, name))?;
            let (weight, bias) = dense_layer(checkpoint, &found, device)?;
            // Through its data, so that it is stored as Burn multiplies by it and not as a view of the transpose.
            let weight = Param::from_data(weight.transpose().into_data(), device);
            Ok(StructuredLinear::Dense(Linear { weight, bias: bias.map(Param::from_tensor) }))
        }
    }
}

/// Why there is no dense layer of this name.
fn missing_weight(checkpoint: &Checkpoint, name: &str) -> CheckpointError {
    let weight = format!("{name}.weight");
    match checkpoint.expect(&weight) {
        Err(error) => error,
        Ok(found) if !is_float(found.dtype) => checkpoint.unsupported(&weight, found.dtype, FLOATS),
        Ok(found) => shape_error(checkpoint, &weight, "a matrix that is not empty".into(), &found.shape),
    }
}

fn structured_layer(
    checkpoint: &Checkpoint,
    name: &str,
    entry: &LayerEntry,
    device: &Device,
) -> Result<StructuredLinear, CheckpointError> {
    let LayerEntry { structure: text, d_input, d_output, .. } = entry;
    let (d_input, d_output) = (*d_input, *d_output);
    let wrong = |reason: String| CheckpointError::Layer {
        path: checkpoint.path().to_owned(),
        layer: name.to_string(),
        reason: format!("({text:?}, {d_input} → {d_output}) {reason}"),
    };
    let structure: Structure =
        text.parse().map_err(|error| wrong(printable(format!("has no known structure: {error}"))))?;
    if structure == Structure::Dense && !entry.int8 {
        return Err(wrong("is described as compressed and dense; compress the model again".into()));
    }
    // The constants of its masks are computed from its sides, before the shapes are compared with the file.
    if matches!(structure, Structure::Gaudi { .. }) {
        let v = checkpoint.expect(&format!("{name}.v"))?;
        if d_input.max(d_output) > MAX_MASKED || v.shape.first() != Some(&d_input) {
            return Err(shape_error(checkpoint, &v.name, format!("[{d_input}, r]"), &v.shape));
        }
    }
    let config = StructuredLinearConfig::new(d_input, d_output, structure);
    let config = config.with_bias(checkpoint.tensor(&format!("{name}.bias")).is_some());
    let layer = config.try_init(device).map_err(|error| wrong(format!("cannot be: {error}")))?;
    let layer = match entry.int8 {
        true => layer.int8_zeros().map_err(|error| wrong(format!("cannot be: {error}")))?,
        false => layer,
    };
    let shapes = parameters::shapes(&layer);
    for (parameter, shape) in &shapes {
        expect_shape(checkpoint, &format!("{name}.{parameter}"), shape)?;
    }
    let mut extra = checkpoint.tensors_of(name).filter(|(found, _)| shapes.iter().all(|(known, _)| known != found));
    if let Some((found, _)) = extra.next() {
        return Err(wrong(format!("has a tensor {found}, which its structure has not; compress the model again")));
    }
    let layer = parameters::load(layer, checkpoint, name)?;
    // What an SS1 layer computes is in its hash; the structure of the others is in their shapes.
    let hashed = matches!(structure, Structure::Ss1 { .. });
    if hashed && (layer.structure() != Some(structure) || layer.d_input() != d_input) {
        return Err(wrong("has a `hash` of another layer; compress the model again".into()));
    }
    Ok(layer)
}

/// The tensors of a layer: its factors and its bias, `name` and a point in front of their names, as `burn-store` writes them
/// without the names of enum variants. The weight of a dense layer is `[d_output, d_input]`; see [`dense_tensor`] for another
/// orientation.
///
/// [`layer`] reads them together with a [`layer_entry`].
pub fn layer_tensors(name: &str, layer: &StructuredLinear) -> Vec<TensorData<'static>> {
    let mut tensors = parameters::save(layer, name);
    if let StructuredLinear::Dense(linear) = layer {
        let weight = format!("{name}.weight");
        let transposed = float_bytes(linear.weight.val().transpose());
        for tensor in tensors.iter_mut().filter(|tensor| tensor.name == weight) {
            *tensor = TensorData { name: weight.clone(), ..transposed.clone() };
        }
    }
    tensors
}

/// What the manifest says about a layer, whose dense weight had this orientation and type.
///
/// # Errors
///
/// If the layer is dense, its windows are frozen, or it is an SS1 layer with a hash that does not fit its weights.
pub fn layer_entry(
    layer: &StructuredLinear,
    orientation: Orientation,
    dtype: Dtype,
    relative_error: Option<f64>,
) -> Result<LayerEntry, CheckpointError> {
    let reason = match (layer, layer.structure()) {
        (StructuredLinear::Dense(_), _) => "it is dense; write its weight, and leave it out of the manifest",
        (_, Some(structure)) => {
            return Ok(LayerEntry {
                structure: structure.to_string(),
                int8: layer.is_int8(),
                d_input: layer.d_input(),
                d_output: layer.d_output(),
                orientation,
                dtype: dtype.to_string(),
                relative_error: relative_error.filter(|error| error.is_finite()),
            });
        }
        (StructuredLinear::Windowed(_), None) => "its windows are frozen; save the layer before they are",
        (_, None) => "the hash that was loaded does not fit its weights; load the record that belongs to them",
    };
    Err(CheckpointError::Unsaveable { reason })
}

/// A dense `weight [d_output, d_input]` as the tensor of a checkpoint, in the orientation and the type that it has there.
///
/// # Errors
///
/// If the type is not F64, F32, F16 or BF16.
pub fn dense_tensor(
    name: impl Into<String>,
    weight: Tensor<2>,
    orientation: Orientation,
    dtype: Dtype,
) -> Result<TensorData<'static>, CheckpointError> {
    let name = name.into();
    let weight = match orientation {
        Orientation::OutIn => weight,
        Orientation::InOut => weight.transpose(),
    };
    let shape = weight.dims().to_vec();
    let values: Vec<f32> = weight.into_data().iter::<f32>().collect();
    let Some(bytes) = from_f32(dtype, &values) else {
        let reason = format!("{dtype} is not one of {FLOATS}");
        return Err(CheckpointError::TensorData { name, reason });
    };
    Ok(TensorData { name, dtype, shape, bytes: Cow::Owned(bytes) })
}

/// A tensor in its own type, without a name.
fn float_bytes<const D: usize>(tensor: Tensor<D>) -> TensorData<'static> {
    let (data, dtype) = to_dtype(tensor.into_data());
    let (shape, bytes) = (data.shape().to_vec(), data.as_bytes().to_vec());
    TensorData { name: String::new(), dtype, shape, bytes: Cow::Owned(bytes) }
}

/// The data and its type in safetensors; types that have none there become F32.
fn to_dtype(data: tensor::TensorData) -> (tensor::TensorData, Dtype) {
    let dtype = match data.dtype() {
        DType::F64 => Dtype::F64,
        DType::F32 | DType::Flex32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        _ => return (data.convert_dtype(DType::F32), Dtype::F32),
    };
    (data, dtype)
}

/// The values of a float tensor, with its shape.
fn float_data(checkpoint: &Checkpoint, name: &str) -> Result<tensor::TensorData, CheckpointError> {
    let values = checkpoint.values(name)?;
    Ok(tensor::TensorData::new(values, checkpoint.expect(name)?.shape.clone()))
}

pub(crate) fn expect_shape(checkpoint: &Checkpoint, name: &str, shape: &[usize]) -> Result<(), CheckpointError> {
    let found = checkpoint.expect(name)?;
    match found.shape == shape {
        true => Ok(()),
        false => Err(shape_error(checkpoint, name, format!("{shape:?}"), &found.shape)),
    }
}

fn shape_error(checkpoint: &Checkpoint, name: &str, expected: String, found: &[usize]) -> CheckpointError {
    let (path, name, found) = (checkpoint.path().to_owned(), name.to_string(), found.to_vec());
    CheckpointError::TensorShape { path, name, expected, found }
}
