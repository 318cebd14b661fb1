//! The integers of a factor as a module.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{Device, Int, Tensor};
use burn_structured_ops::int8::Int8Factor;

/// A factor `[groups, outputs, inputs]` as int8 with a scale for each output.
#[derive(Module, Debug)]
pub struct Int8Weights {
    /// `[groups, outputs, inputs]`, from −127 to 127.
    pub values: Param<Tensor<3, Int>>,
    /// `[groups, outputs]`.
    pub scales: Param<Tensor<2>>,
}

impl Int8Weights {
    /// The integers nearest to a factor.
    pub(super) fn quantize(factor: &dyn Fn() -> Tensor<3>, _shape: [usize; 3], _device: &Device) -> Self {
        Self::of(Int8Factor::quantize(factor().detach()))
    }

    /// Integers that are all 0.
    pub(super) fn zeros(shape: [usize; 3], device: &Device) -> Self {
        let [groups, outputs, inputs] = shape;
        Self::of(Int8Factor::from_values(
            vec![0; groups * outputs * inputs],
            vec![0.0; groups * outputs],
            shape,
            device,
        ))
    }

    fn of(factor: Int8Factor) -> Self {
        Self {
            values: Param::initialized(ParamId::new(), factor.values),
            scales: Param::from_tensor(factor.scales).set_require_grad(false),
        }
    }

    /// As the operation takes it.
    pub(super) fn factor(&self) -> Int8Factor {
        Int8Factor { values: self.values.val(), scales: self.scales.val() }
    }

    /// `[groups, outputs, inputs]`.
    pub(super) fn shape(&self) -> [usize; 3] {
        self.values.lazy_shape().dims()
    }

    /// Inputs of all groups.
    pub(super) fn d_input(&self) -> usize {
        let [groups, _, inputs] = self.shape();
        groups * inputs
    }

    /// Outputs of all groups.
    pub(super) fn d_output(&self) -> usize {
        let [groups, outputs, _] = self.shape();
        groups * outputs
    }
}
