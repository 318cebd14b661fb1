//! The devices under test.

use burn::tensor::{DType, Device, Tensor};
use burn_structured::ops::device;

/// The devices of this build on which Burn's own matmul is right; on SwiftShader it returns zeros.
pub fn devices() -> Vec<(&'static str, Device)> {
    let chosen = std::env::var("BURN_STRUCTURED_DEVICES").unwrap_or_default();
    let wanted = |name: &&str| chosen.is_empty() || chosen.split(',').any(|other| other.trim() == *name);
    let right = |(name, device): &(&str, Device)| matmul_is_right(name, device);
    let backends = device::compiled().into_iter().filter(|backend| wanted(&backend.name));
    backends.map(|backend| (backend.name, backend.device(0))).filter(right).collect()
}

fn matmul_is_right(name: &str, device: &Device) -> bool {
    let product = Tensor::<3>::ones([2, 5, 24], device).matmul(Tensor::ones([2, 24, 18], device));
    let right = product.into_data().iter::<f32>().all(|value| value == 24.0);
    if !right {
        println!("skipped: {name}: Burn's own matmul is wrong on this device");
    }
    right
}

/// How far a sine or cosine of a device may be off, beyond its roundoff.
///
/// WGSL and Vulkan promise 2⁻¹¹ for arguments within ±π, and SwiftShader is no more accurate.
pub fn trigonometry(name: &str) -> f64 {
    match name {
        "wgpu" | "webgpu" | "vulkan" => 2f64.powi(-11),
        _ => 0.0,
    }
}

/// The float types to try on a device. Products in half precision are those of the operations, tested there for CubeCL.
pub fn dtypes(name: &str) -> Vec<DType> {
    match name {
        "flex" => vec![DType::F64, DType::F32, DType::F16, DType::BF16],
        "ndarray" => vec![DType::F64, DType::F32],
        _ => vec![DType::F32],
    }
}
