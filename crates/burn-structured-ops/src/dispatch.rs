//! Backends that Burn was compiled with and this crate was not.

use burn::backend::DispatchDevice;
use burn::tensor::Device;

/// Checks that this crate has operations for the backend of `device`.
///
/// # Panics
///
/// If it has not; the message names the Cargo feature to enable.
pub(crate) fn check_backend(device: Device) {
    let device = device.without_autodiff();
    match device.as_dispatch() {
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(_) => {}
        #[cfg(feature = "ndarray")]
        DispatchDevice::NdArray(_) => {}
        #[cfg(feature = "tch")]
        DispatchDevice::LibTorch(_) => {}
        #[cfg(feature = "remote")]
        DispatchDevice::Remote(_) => {}
        #[cfg(feature = "cube")]
        DispatchDevice::Cube(_) => {}
        #[allow(unreachable_patterns, reason = "Burn may have backends that this crate was compiled without")]
        other => panic!("{}", missing(&format!("{other:?}"))),
    }
}

/// What to do about a device, shown as `device`, whose backend is missing.
fn missing(device: &str) -> String {
    match feature(device) {
        Some(feature) => format!(
            "{device}: Burn has this backend, but burn-structured was compiled without it; enable the Cargo feature \
             `{feature}` of burn-structured (or burn-structured-ops)"
        ),
        None => format!("{device}: burn-structured has no operations for this backend"),
    }
}

/// The Cargo feature of the backend of a device that is shown as `device`, for example `Cube(Cuda(..))`.
fn feature(device: &str) -> Option<&'static str> {
    let mut words = device.split(|c: char| !c.is_alphanumeric());
    match words.next()? {
        "Flex" => Some("flex"),
        "NdArray" => Some("ndarray"),
        "LibTorch" => Some("tch"),
        "Remote" => Some("remote"),
        "Cube" => match words.next()? {
            "Cuda" => Some("cuda"),
            "Hip" | "Rocm" | "Amd" => Some("rocm"),
            "Cpu" => Some("cpu"),
            _ => Some("wgpu"),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_backend_names_its_feature() {
        assert_eq!(feature("NdArray(Cpu)"), Some("ndarray"));
        assert_eq!(feature("LibTorch(Cuda(0))"), Some("tch"));
        assert_eq!(feature("Cube(Cpu(CpuDevice))"), Some("cpu"));
        assert_eq!(feature("Capture(0)"), None);
        assert!(missing("NdArray(Cpu)").contains("enable the Cargo feature `ndarray`"));
    }

    /// The names in `feature` are those that Burn shows.
    #[test]
    fn devices_are_shown_by_their_backend() {
        #[cfg(feature = "flex")]
        assert_eq!(feature(&format!("{:?}", Device::flex().as_dispatch())), Some("flex"));
        #[cfg(feature = "ndarray")]
        assert_eq!(feature(&format!("{:?}", Device::ndarray().as_dispatch())), Some("ndarray"));
        #[cfg(feature = "cpu")]
        assert_eq!(feature(&format!("{:?}", Device::cpu().as_dispatch())), Some("cpu"));
    }

    #[test]
    #[cfg(feature = "flex")]
    fn compiled_backends_pass() {
        check_backend(Device::flex());
        check_backend(Device::flex().autodiff());
    }
}
