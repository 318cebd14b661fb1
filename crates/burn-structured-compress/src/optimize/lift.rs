//! Parameters with and without a tape for gradients.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;

/// `module` with gradients for all its parameters.
pub(super) fn lifted<M: Module>(module: M) -> M {
    module.map(&mut Lift)
}

/// `module` without gradients.
pub(super) fn lowered<M: Module>(module: M) -> M {
    module.map(&mut Lower)
}

/// `module` on the tape, with gradients for none of its parameters: what is computed with it has those of its inputs.
pub(crate) fn with_tape<M: Module>(module: M) -> M {
    module.map(&mut Tape)
}

struct Tape;

impl ModuleMapper for Tape {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        Param::from_mapped_value(id, tensor.without_autodiff().autodiff().set_require_grad(false), mapper)
    }
}

struct Lift;

impl ModuleMapper for Lift {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        Param::from_mapped_value(id, tensor.without_autodiff().autodiff().set_require_grad(true), mapper)
    }
}

struct Lower;

impl ModuleMapper for Lower {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        Param::from_mapped_value(id, tensor.without_autodiff(), mapper)
    }
}
