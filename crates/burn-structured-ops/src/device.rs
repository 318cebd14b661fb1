//! The execution backends that this build has.
//!
//! Cargo's features of this crate decide which, so only it can list them.

use burn::tensor::Device;

/// An execution backend that was compiled in.
#[derive(Clone, Copy, Debug)]
pub struct CompiledBackend {
    /// The name of its feature: `flex`, `cuda`.
    pub name: &'static str,
    /// Whether its devices are numbered; otherwise there is one.
    pub indexed: bool,
    open: fn(usize) -> Device,
}

impl CompiledBackend {
    /// The device with this index, which is ignored unless the devices are [`indexed`](Self::indexed).
    ///
    /// # Panics
    ///
    /// Some backends panic here, others at the first use of the device, if there is no such device or no driver.
    pub fn device(&self, index: usize) -> Device {
        (self.open)(index)
    }
}

/// The backends of this build, the default first.
///
/// ```
/// let names: Vec<_> = burn_structured_ops::device::compiled().iter().map(|backend| backend.name).collect();
/// assert_eq!(names[0], "flex");
/// ```
pub fn compiled() -> Vec<CompiledBackend> {
    vec![
        #[cfg(feature = "flex")]
        CompiledBackend { name: "flex", indexed: false, open: |_| Device::flex() },
        #[cfg(feature = "ndarray")]
        CompiledBackend {
            name: "ndarray",
            indexed: false,
            #[allow(deprecated)]
            open: |_| Device::ndarray(),
        },
        #[cfg(feature = "cuda")]
        CompiledBackend { name: "cuda", indexed: true, open: |index| Device::cuda(index) },
        #[cfg(feature = "rocm")]
        CompiledBackend { name: "rocm", indexed: true, open: |index| Device::rocm(index) },
        #[cfg(feature = "metal")]
        CompiledBackend { name: "metal", indexed: false, open: |_| Device::metal(Default::default()) },
        #[cfg(feature = "vulkan")]
        CompiledBackend { name: "vulkan", indexed: false, open: |_| Device::vulkan(Default::default()) },
        #[cfg(feature = "webgpu")]
        CompiledBackend { name: "webgpu", indexed: false, open: |_| Device::webgpu(Default::default()) },
        #[cfg(feature = "wgpu")]
        CompiledBackend { name: "wgpu", indexed: false, open: |_| Device::wgpu(Default::default()) },
        #[cfg(feature = "cpu")]
        CompiledBackend { name: "cpu", indexed: false, open: |_| Device::cpu() },
    ]
}

/// Runs a pass of several products where they begin soonest.
///
/// On Flex, products of more than a few tokens run on the threads of rayon's pool, and each waits for one of them to wake up, which takes
/// as long as a small product. A pass that runs there as a whole waits once. On other devices, and where gradients are recorded (which
/// Burn keeps by thread), it runs on the calling thread.
pub fn on_pool<R: Send>(device: &Device, pass: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "flex")]
    if is_flex(device) && !device.is_autodiff() && rayon::current_num_threads() > 1 {
        return rayon::scope(|_| pass());
    }
    let _ = device;
    pass()
}

/// Whether this is Burn's backend for processors, on which this crate's own code runs on the caller's memory; with gradients or not.
pub fn is_flex(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    return matches!(device.clone().without_autodiff().as_dispatch(), burn::backend::DispatchDevice::Flex(_));
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}

/// Device `index` of the Burn server with the Iroh endpoint id `server`, once it has answered.
///
/// # Errors
///
/// If this build has no `remote` feature, the text is no endpoint id, or the server refuses or does not answer.
pub fn remote(server: &str, index: usize) -> Result<Device, String> {
    #[cfg(feature = "remote")]
    {
        use burn::remote::{EndpointId, RemoteHost};
        let id: EndpointId = server.parse().map_err(|error| format!("`{server}` is no endpoint id: {error}"))?;
        let options = Device::remote_options(&RemoteHost::iroh(id)).device_index(index);
        options.init().map_err(|error| error.to_string())
    }
    #[cfg(not(feature = "remote"))]
    {
        let _ = (server, index);
        Err("this build has no remote devices; they are compiled in by `--features remote`".into())
    }
}
