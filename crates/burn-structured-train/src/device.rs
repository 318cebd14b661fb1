//! Devices by name, for command lines: `flex`, `cuda:1`, `remote:<server>`.

use burn::tensor::{Device, Tensor};
use burn_structured_ops::device::{compiled, remote};
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
        available().join(", "),
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
pub fn available() -> Vec<&'static str> {
    compiled().iter().map(|backend| backend.name).collect()
}

/// The device called `name`, after a [`probe`].
///
/// `name` is a backend's feature name, followed by `:index` for the GPUs of CUDA and ROCm; or `remote:` and the Iroh endpoint
/// id of a Burn server, followed by `:index` for one of its devices.
///
/// # Errors
///
/// If this build has no such device, or it does not work.
///
/// ```
/// use burn_structured_train::device::from_name;
///
/// assert!(from_name("flex").is_ok());
/// assert!(from_name("abacus").unwrap_err().to_string().starts_with("unknown device `abacus`"));
/// ```
pub fn from_name(name: &str) -> Result<Device, DeviceError> {
    if let Some(server) = name.strip_prefix("remote:") {
        return from_server(name, server);
    }
    let (backend, index) = match name.split_once(':') {
        Some((backend, index)) => {
            let index: usize = index.parse().map_err(|_| DeviceError::Index { name: name.to_string() })?;
            (backend, Some(index))
        }
        None => (name, None),
    };
    let compiled = compiled().into_iter().find(|compiled| compiled.name == backend);
    let compiled = compiled.ok_or_else(|| DeviceError::Unknown { name: name.to_string() })?;
    if index.is_some() && !compiled.indexed {
        return Err(DeviceError::Index { name: name.to_string() });
    }
    probe(|| compiled.device(index.unwrap_or(0)))
        .map_err(|reason| DeviceError::Unavailable { name: name.to_string(), reason })
}

/// The devices called by the `names`, which commas separate: `cuda:0,cuda:1`. A device may be named twice.
///
/// # Errors
///
/// As [`from_name`], for the first name without a working device.
///
/// ```
/// use burn_structured_train::device;
///
/// assert_eq!(device::from_names("flex,flex").unwrap().len(), 2);
/// ```
pub fn from_names(names: &str) -> Result<Vec<Device>, DeviceError> {
    names.split(',').map(|name| from_name(name.trim())).collect()
}

/// The device of a server, `<endpoint id>` or `<endpoint id>:<index>`.
fn from_server(name: &str, server: &str) -> Result<Device, DeviceError> {
    let (server, index) = match server.split_once(':') {
        Some((server, index)) => (server, index.parse().map_err(|_| DeviceError::Index { name: name.to_string() })?),
        None => (server, 0),
    };
    let unavailable = |reason| DeviceError::Unavailable { name: name.to_string(), reason };
    let device = remote(server, index).map_err(unavailable)?;
    probe(|| device.clone()).map_err(unavailable)
}

/// How a panic's message starts where its cause is in a thread that is gone.
const LOST_THREAD: &str = "RecvError";

/// Opens a device and adds two numbers on it: a missing driver shows at the first use, and then as a panic.
///
/// For command lines: the process's panic hook is replaced meanwhile, so that panics of other threads are not printed.
///
/// # Errors
///
/// What the driver or runtime said, in one line.
pub fn probe(open: impl Fn() -> Device) -> Result<Device, String> {
    // The hook belongs to the process: of two probes at a time, one would restore the hook of the other for good.
    static HOOK: Mutex<()> = Mutex::new(());
    let _hook = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    // What fails first is often another thread, and the panic that arrives here only says that it is gone.
    let first = Arc::new(Mutex::new(None));
    let previous = std::panic::take_hook();
    let recorded = first.clone();
    std::panic::set_hook(Box::new(move |panic| {
        let mut recorded = recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.get_or_insert_with(|| reason(panic.payload()));
    }));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let device = open();
        let sum = Tensor::<1>::ones([2], &device).sum().into_scalar::<f32>();
        (device, sum)
    }));
    std::panic::set_hook(previous);
    match outcome {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_device_is_first_and_works() {
        assert_eq!(available()[0], "flex");
        assert!(from_name("flex").is_ok());
    }

    #[test]
    fn names_without_a_device_are_errors() {
        let error = |name| from_name(name).unwrap_err();
        assert!(matches!(error("abacus"), DeviceError::Unknown { .. }));
        assert!(matches!(error("abacus:1"), DeviceError::Unknown { .. }));
        assert!(matches!(error("flex:0"), DeviceError::Index { .. }));
        assert!(matches!(error("flex:one"), DeviceError::Index { .. }));
        assert!(matches!(error("remote:server:one"), DeviceError::Index { .. }));
        assert!(matches!(error("remote:server"), DeviceError::Unavailable { .. }));
        assert!(matches!(from_names("flex,abacus").unwrap_err(), DeviceError::Unknown { name } if name == "abacus"));
    }

    #[test]
    fn probe_returns_the_reason_of_a_panic() {
        assert_eq!(probe(|| panic!("no driver\nat all")).unwrap_err(), "no driver");
    }
}
