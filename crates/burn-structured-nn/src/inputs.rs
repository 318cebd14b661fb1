//! Watching what layers are fed: compression that minimises the error of a layer's output needs its inputs.
//!
//! Burn has no hooks, and a model's `forward` is its author's. Every [`StructuredLinear`](crate::StructuredLinear) therefore tells
//! the observer of its thread, if there is one, what it is about to multiply. Without an observer that costs a look at a
//! thread-local variable.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Tensor};
use std::cell::RefCell;
use std::collections::HashMap;

type Observer = Box<dyn FnMut(ParamId, Tensor<2>)>;

thread_local! {
    static OBSERVER: RefCell<Option<Observer>> = const { RefCell::new(None) };
}

/// Calls `observer` with the inputs, `[tokens, d_input]`, of every structured layer that `run` applies on this thread, and with the
/// identity by which [`layer_paths`] names the layer.
///
/// What `run` does with an observer of its own is not seen by this one.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_structured_nn::{Structure, StructuredLinearConfig, observe_inputs};
/// use std::{cell::RefCell, rc::Rc};
///
/// let device = Device::flex();
/// let layer = StructuredLinearConfig::new(8, 4, Structure::Dense).init(&device);
/// let tokens = Rc::new(RefCell::new(0));
/// let counted = tokens.clone();
/// let observer = move |_, input: Tensor<2>| *counted.borrow_mut() += input.dims()[0];
/// observe_inputs(observer, || layer.forward(Tensor::<3>::zeros([2, 5, 8], &device)));
/// assert_eq!(*tokens.borrow(), 10);
/// ```
pub fn observe_inputs<R>(observer: impl FnMut(ParamId, Tensor<2>) + 'static, run: impl FnOnce() -> R) -> R {
    /// Restores the earlier observer, also when `run` panics.
    struct Restore(Option<Observer>);
    impl Drop for Restore {
        fn drop(&mut self) {
            OBSERVER.set(self.0.take());
        }
    }
    let _restore = Restore(OBSERVER.replace(Some(Box::new(observer))));
    run()
}

/// Runs a whole pass where its products begin soonest, see [`burn_structured_ops::device::on_pool`]; on this thread, if an observer of
/// [inputs](observe_inputs) waits here.
pub fn on_pool<R: Send>(device: &Device, pass: impl FnOnce() -> R + Send) -> R {
    if is_observed() { pass() } else { burn_structured_ops::device::on_pool(device, pass) }
}

/// Whether an observer of inputs waits on this thread.
pub(crate) fn is_observed() -> bool {
    OBSERVER.with_borrow(Option::is_some)
}

/// Tells the observer of this thread, if any.
pub(crate) fn observed<const D: usize>(layer: impl FnOnce() -> Option<ParamId>, input: &Tensor<D>) {
    // Taken out while it runs: an observer that applies layers itself does not see them.
    let Some(mut observer) = OBSERVER.take() else { return };
    let features = input.dims()[D - 1];
    if let Some(layer) = layer() {
        observer(layer, input.clone().detach().reshape([-1, features as i32]));
    }
    OBSERVER.set(Some(observer));
}

/// Where in `module` every parameter is: its path without the last name, which is that of the layer that holds it.
///
/// Layers inside a [`StructuredLinear`](crate::StructuredLinear) are named as the enum is: `blocks.0.fc1`, not
/// `blocks.0.fc1.Dense`.
pub fn layer_paths<M: Module>(module: &M) -> HashMap<ParamId, String> {
    let mut paths = LayerPaths::default();
    module.visit(&mut paths);
    paths.by_id
}

#[derive(Default)]
struct LayerPaths {
    /// Names of the modules that are open, each with the type of what contains it.
    here: Vec<(String, String)>,
    by_id: HashMap<ParamId, String>,
}

impl ModuleVisitor for LayerPaths {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.here.push((name.to_string(), container.to_string()));
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.here.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let layers = &self.here[..self.here.len().saturating_sub(1)];
        let names: Vec<&str> = layers
            .iter()
            .filter(|(_, container)| !container.starts_with("Enum:"))
            .map(|(name, _)| name.as_str())
            .collect();
        self.by_id.insert(param.id, names.join("."));
    }
}
