//! Devices by name, for command lines: `flex`, `cuda:1`.
//!
//! Only this crate knows which backends were compiled in, so only here can the error list them.

use burn::tensor::{Device, Tensor};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

/// Why a name gives no device.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceError {
    /// No such device in this build.
    #[error(
        "unknown device `{name}`; this build has {}{}",
        names().join(", "),
        "; others are compiled in by their feature, as in `--features cuda`"
    )]
    Unknown {
        /// The name given.
        name: String,
    },
    /// The index after the colon is no number, or the device has none.
    #[error("`{name}` has no usable index; write for example cuda:0")]
    Index {
        /// The name given.
        name: String,
    },
    /// The backend is compiled in, but the device does not work on this machine.
    #[error("device `{name}` does not work on this machine: {reason}")]
    Unavailable {
        /// The name given.
        name: String,
        /// What its driver or runtime said.
        reason: String,
    },
}

/// The names of the devices in this build, the default first.
pub fn names() -> Vec<&'static str> {
    let backends = [
        ("flex", cfg!(feature = "flex")),
        ("ndarray", cfg!(feature = "ndarray")),
        ("cuda", cfg!(feature = "cuda")),
        ("rocm", cfg!(feature = "rocm")),
        ("metal", cfg!(feature = "metal")),
        ("vulkan", cfg!(feature = "vulkan")),
        ("webgpu", cfg!(feature = "webgpu")),
        ("wgpu", cfg!(feature = "wgpu")),
        ("cpu", cfg!(feature = "cpu")),
    ];
    backends.into_iter().filter(|(_, compiled)| *compiled).map(|(name, _)| name).collect()
}

/// The device called `name`, tried out with a small computation.
///
/// `name` is a backend's feature name, followed by `:index` for the GPUs of CUDA and ROCm.
///
/// # Errors
///
/// If the name is unknown to this build, or the device does not work.
///
/// ```
/// use burn_structured_ops::device::named;
///
/// assert!(named("flex").is_ok());
/// assert!(named("abacus").unwrap_err().to_string().starts_with("unknown device `abacus`"));
/// ```
pub fn named(name: &str) -> Result<Device, DeviceError> {
    let (backend, index) = match name.split_once(':') {
        Some((backend, index)) => {
            let index: usize = index.parse().map_err(|_| DeviceError::Index { name: name.to_string() })?;
            (backend, Some(index))
        }
        None => (name, None),
    };
    if index.is_some() && !matches!(backend, "cuda" | "rocm") {
        return Err(DeviceError::Index { name: name.to_string() });
    }
    let device: Box<dyn Fn() -> Device> = match backend {
        #[cfg(feature = "flex")]
        "flex" => Box::new(Device::flex),
        #[cfg(feature = "ndarray")]
        "ndarray" => Box::new(
            #[allow(deprecated)]
            Device::ndarray,
        ),
        #[cfg(feature = "cuda")]
        "cuda" => Box::new(move || Device::cuda(index.unwrap_or(0))),
        #[cfg(feature = "rocm")]
        "rocm" => Box::new(move || Device::rocm(index.unwrap_or(0))),
        #[cfg(feature = "metal")]
        "metal" => Box::new(|| Device::metal(Default::default())),
        #[cfg(feature = "vulkan")]
        "vulkan" => Box::new(|| Device::vulkan(Default::default())),
        #[cfg(feature = "webgpu")]
        "webgpu" => Box::new(|| Device::webgpu(Default::default())),
        #[cfg(feature = "wgpu")]
        "wgpu" => Box::new(|| Device::wgpu(Default::default())),
        #[cfg(feature = "cpu")]
        "cpu" => Box::new(Device::cpu),
        _ => return Err(DeviceError::Unknown { name: name.to_string() }),
    };
    try_out(device.as_ref()).map_err(|reason| DeviceError::Unavailable { name: name.to_string(), reason })
}

/// What a panic says of which the cause is in another thread: nobody is left to answer.
const LOST_THREAD: &str = "RecvError";

/// A missing driver shows only when a device is first used, and then as a panic.
fn try_out(device: &dyn Fn() -> Device) -> Result<Device, String> {
    // The hook belongs to the process: of two threads that silence it, one would put the other's silence back for good.
    static SILENCE: Mutex<()> = Mutex::new(());
    let _silence = SILENCE.lock().unwrap_or_else(PoisonError::into_inner);
    // What fails first is often another thread, and the panic that arrives here only says that it is gone.
    let first = Arc::new(Mutex::new(None));
    let hook = std::panic::take_hook();
    let heard = first.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get_or_insert_with(|| reason(panic.payload()));
    }));
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let device = device();
        let sum = Tensor::<1>::ones([2], &device).sum().into_scalar::<f32>();
        (device, sum)
    }));
    std::panic::set_hook(hook);
    match tried {
        Ok((device, 2.0)) => Ok(device),
        Ok((_, sum)) => Err(format!("1 + 1 gave {sum}")),
        Err(panic) => {
            let own = reason(panic.as_ref());
            let first = first.lock().unwrap_or_else(PoisonError::into_inner).take();
            Err(first.filter(|_| own.contains(LOST_THREAD)).unwrap_or(own))
        }
    }
}

/// The first line of a panic's message.
fn reason(panic: &dyn Any) -> String {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
    message.unwrap_or("it gave no reason").lines().next().unwrap_or_default().to_string()
}
