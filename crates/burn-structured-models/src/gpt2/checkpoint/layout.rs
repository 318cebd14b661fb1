//! Tensors between the layout of a checkpoint and that of the modules.

use super::names::full_name;
use burn::tensor::{DType, Device};
use burn_store::burn_pack::Tensor;
use burn_store::{BurnToPyTorchAdapter, FloatCastAdapter, ModuleAdapter, ModuleContext, PyTorchToBurnAdapter, bridge};

/// The head's weight, the only one that checkpoints hold transposed.
const TRANSPOSED: &str = "head.weight";

/// From the layout of a checkpoint, with the tensors under their module paths, in the number types of a device.
#[derive(Clone)]
pub(super) struct FromCheckpoint {
    float: DType,
    int: DType,
}

impl FromCheckpoint {
    pub fn on(device: &Device) -> Self {
        let settings = device.settings();
        Self { float: settings.float_dtype.into(), int: settings.int_dtype.into() }
    }
}

impl ModuleAdapter for FromCheckpoint {
    fn adapt(&self, tensor: Tensor, context: ModuleContext<'_>) -> Tensor {
        let tensor = match tensor.name.as_str() {
            TRANSPOSED => PyTorchToBurnAdapter.adapt(tensor, context),
            _ => tensor,
        };
        if tensor.dtype.is_float() {
            return FloatCastAdapter::to(self.float).adapt(tensor, context);
        }
        // The hash of an SS1 layer.
        let is_int = tensor.dtype.is_int() || tensor.dtype.is_uint();
        if !is_int || tensor.dtype == self.int {
            return tensor;
        }
        let (name, shape, int) = (tensor.name.clone(), tensor.shape.clone(), self.int);
        bridge::map_data(tensor, name, int, shape, move |data| data.convert_dtype(int))
    }

    fn clone_box(&self) -> Box<dyn ModuleAdapter> {
        Box::new(self.clone())
    }
}

/// To the names and the layout of a checkpoint.
#[derive(Clone)]
pub(super) struct ToCheckpoint;

impl ModuleAdapter for ToCheckpoint {
    fn adapt(&self, tensor: Tensor, context: ModuleContext<'_>) -> Tensor {
        let mut tensor = match tensor.name.as_str() {
            TRANSPOSED => BurnToPyTorchAdapter.adapt(tensor, context),
            _ => tensor,
        };
        tensor.name = full_name(&tensor.name);
        tensor
    }

    fn clone_box(&self) -> Box<dyn ModuleAdapter> {
        Box::new(self.clone())
    }
}
