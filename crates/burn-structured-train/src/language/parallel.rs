//! The devices of a run, and how they share its steps.

use super::{LanguageRecipe, Launch, Precision};
use crate::device::probe;
use crate::training::TrainingError;
use burn::tensor::distributed::{DistributedConfig, DistributedContext, ReduceOperation, all_reduce};
use burn::tensor::{DType, Device, Tensor};
use burn::train::{ExecutionStrategy, MultiDeviceOptim};

/// The devices of `launch` for training by `recipe`.
///
/// # Errors
///
/// If there is none, or one does not compute in the recipe's precision.
pub(super) fn training_devices(launch: &Launch, recipe: &LanguageRecipe) -> Result<Vec<Device>, TrainingError> {
    if launch.devices.is_empty() {
        return Err(TrainingError::Devices { reason: "there is no device to train on; name at least one".into() });
    }
    let device = |device: &Device| training_device(device, recipe);
    launch.devices.iter().map(device).collect()
}

/// `device` with a tape for the backward pass.
///
/// # Errors
///
/// If it does not compute in the recipe's precision.
pub(super) fn training_device(device: &Device, recipe: &LanguageRecipe) -> Result<Device, TrainingError> {
    if recipe.precision == Precision::Bf16 && !device.supports_dtype(DType::BF16) {
        let expected = "the device does not compute in it; write f32";
        return Err(TrainingError::Recipe { name: "precision", value: recipe.precision.to_string(), expected });
    }
    let device = device.clone().autodiff();
    Ok(if recipe.gradient_checkpointing { device.gradient_checkpointing() } else { device })
}

/// How `devices` share the steps.
///
/// # Errors
///
/// If `distributed` and they have no collective operations.
pub(super) fn strategy(devices: Vec<Device>, distributed: bool) -> Result<ExecutionStrategy, TrainingError> {
    match devices.as_slice() {
        [device] => Ok(ExecutionStrategy::single(device.clone())),
        _ if distributed => {
            probe_collectives(&devices[0])?;
            Ok(ExecutionStrategy::ddp(devices, collectives()))
        }
        // Sharded: the gradients are added up in the order of the devices, so that a step is the same every time, and no
        // device has more to add up than another.
        _ => Ok(ExecutionStrategy::multi(devices, MultiDeviceOptim::OptimSharded)),
    }
}

/// Sums, as the loss of every device is its share of the mean.
fn collectives() -> DistributedConfig {
    DistributedConfig { all_reduce_op: ReduceOperation::Sum }
}

/// Tries a collective sum: where there is none, Burn would panic in the middle of the first step.
fn probe_collectives(device: &Device) -> Result<(), TrainingError> {
    let inner = device.clone().inner();
    let attempt = || {
        let _context = DistributedContext::init(vec![inner.clone()], collectives());
        let sum = all_reduce(Tensor::<1>::ones([1], &inner), ReduceOperation::Sum, vec![inner.clone()]).resolve();
        assert_eq!(sum.into_scalar::<f32>(), 1.0, "the sum over one device");
        inner.clone()
    };
    probe(attempt).map(drop).map_err(|reason| TrainingError::Devices {
        reason: format!(
            "distributed training needs collective operations, which these devices lack ({reason}); leave it out"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::RunFolder;

    #[test]
    fn devices_without_collectives_are_an_error() {
        let devices = vec![Device::flex().autodiff(), Device::flex().autodiff()];
        let error = strategy(devices, true).err().unwrap().to_string();
        assert!(error.contains("collective operations") && error.ends_with("leave it out"), "{error}");
    }

    #[test]
    fn run_without_a_device_is_an_error() {
        let launch = Launch::new(Device::flex(), RunFolder::new("unused")).with_devices(Vec::new());
        let error = training_devices(&launch, &LanguageRecipe::default()).unwrap_err().to_string();
        assert!(error.starts_with("there is no device"), "{error}");
    }
}
