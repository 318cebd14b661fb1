//! Tensors between the layout of a checkpoint and that of the modules.

use super::CheckpointModel;
use burn::tensor::{DType, Device};
use burn_store::burn_pack::Tensor;
use burn_store::{BurnToPyTorchAdapter, FloatCastAdapter, ModuleAdapter, ModuleContext, PyTorchToBurnAdapter, bridge};
use burn_structured_checkpoint::{INT8_AXES, Orientation};
use burn_structured_ops::device::is_flex;
use std::marker::PhantomData;

/// From the layout of a checkpoint, with the tensors under their module paths, in the number types of a device.
pub(super) struct FromCheckpoint<M> {
    float: DType,
    int: DType,
    /// What holds the weights of int8 layers.
    int8: DType,
    model: PhantomData<fn() -> M>,
}

impl<M> FromCheckpoint<M> {
    pub fn on(device: &Device) -> Self {
        let settings = device.settings();
        let int: DType = settings.int_dtype.into();
        let int8 = if is_flex(device) { DType::I8 } else { int };
        Self { float: settings.float_dtype.into(), int, int8, model: PhantomData }
    }
}

impl<M: CheckpointModel + 'static> ModuleAdapter for FromCheckpoint<M> {
    fn adapt(&self, tensor: Tensor, context: ModuleContext<'_>) -> Tensor {
        let tensor = match is_transposed::<M>(&tensor, context) {
            true => PyTorchToBurnAdapter.adapt(tensor, context),
            false => tensor,
        };
        if tensor.dtype.is_float() {
            return FloatCastAdapter::to(self.float).adapt(tensor, context);
        }
        let int = match tensor.shape.len() {
            INT8_AXES => self.int8,
            // The hash of an SS1 layer.
            _ if tensor.name.ends_with(".hash") => self.int,
            _ => return tensor,
        };
        to_int(tensor, int)
    }

    fn clone_box(&self) -> Box<dyn ModuleAdapter> {
        Box::new(Self { model: PhantomData, ..*self })
    }
}

/// To the layout of a checkpoint; the tensors keep their module paths.
pub(super) struct ToCheckpoint<M>(pub PhantomData<fn() -> M>);

impl<M: CheckpointModel + 'static> ModuleAdapter for ToCheckpoint<M> {
    fn adapt(&self, tensor: Tensor, context: ModuleContext<'_>) -> Tensor {
        match is_transposed::<M>(&tensor, context) {
            true => BurnToPyTorchAdapter.adapt(tensor, context),
            false if tensor.shape.len() == INT8_AXES => to_int(tensor, DType::I8),
            false => tensor,
        }
    }

    fn clone_box(&self) -> Box<dyn ModuleAdapter> {
        Box::new(Self(PhantomData))
    }
}

/// An integer tensor as another type of integers.
fn to_int(tensor: Tensor, int: DType) -> Tensor {
    if tensor.dtype == int || !(tensor.dtype.is_int() || tensor.dtype.is_uint()) {
        return tensor;
    }
    let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
    bridge::map_data(tensor, name, int, shape, move |data| data.convert_dtype(int))
}

/// Whether a tensor is a dense weight that checkpoints hold as `[d_output, d_input]`, where Burn has `[d_input, d_output]`.
fn is_transposed<M: CheckpointModel>(tensor: &Tensor, context: ModuleContext<'_>) -> bool {
    let Some(layer) = tensor.name.strip_suffix("weight") else { return false };
    context.module_type() == Some("Struct:Linear")
        && M::orientation(M::NAMES.name(layer).trim_end_matches('.')) == Orientation::OutIn
}
