//! The parameters of any module, by their place in it.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, FloatDType, Gradients, Tensor, TensorData};

/// The module with drawn weights and biases that are the same on every run and in every thread; windows stay as they are.
pub fn filled<M: Module>(module: M, salt: usize) -> M {
    struct Fill {
        salt: usize,
        here: Vec<String>,
    }
    impl ModuleMapper for Fill {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.here.push(name.to_string());
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.here.pop();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.salt += 1;
            if D == 1 && self.here.last().is_some_and(|name| name != "bias") {
                return param;
            }
            let tensor = param.val();
            // A multiplicative hash, spread over (−½, ½).
            let hash = |index: usize| (index * 7 + self.salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let values = (0..tensor.shape().num_elements()).map(|index| hash(index) as f64 / (1u64 << 24) as f64 - 0.5);
            let data = TensorData::new(values.collect::<Vec<f64>>(), tensor.dims()).convert_dtype(tensor.dtype());
            Param::from_tensor(Tensor::from_data(data, (&tensor.device(), tensor.dtype())))
        }
    }
    module.map(&mut Fill { salt: salt * 1000, here: Vec::new() })
}

/// The module with every float parameter in another dtype, to be trained where the device tracks gradients.
pub fn cast<M: Module>(module: M, dtype: DType) -> M {
    struct Cast(FloatDType);
    impl ModuleMapper for Cast {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            Param::from_tensor(param.val().cast(self.0).detach())
        }
    }
    module.map(&mut Cast(dtype.into()))
}

/// The module with the absolute values of its weights; windows and other vectors stay as they are.
pub fn absolute<M: Module>(module: M) -> M {
    struct Absolute;
    impl ModuleMapper for Absolute {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if D == 1 { param } else { Param::from_tensor(param.val().abs().detach()) }
        }
    }
    module.map(&mut Absolute)
}

/// The module with `step` added to one entry of one parameter.
pub fn perturbed<M: Module>(module: M, parameter: usize, entry: usize, step: f64) -> M {
    struct Perturb {
        at: usize,
        parameter: usize,
        entry: usize,
        step: f64,
    }
    impl ModuleMapper for Perturb {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let chosen = self.at == self.parameter;
            self.at += 1;
            if !chosen {
                return param;
            }
            let tensor = param.val();
            Param::from_tensor({
                let mut steps = vec![0.0; tensor.shape().num_elements()];
                steps[self.entry] = self.step;
                let data = TensorData::new(steps, tensor.dims()).convert_dtype(tensor.dtype());
                let (device, dtype) = (tensor.device(), tensor.dtype());
                tensor + Tensor::from_data(data, (&device, dtype))
            })
        }
    }
    module.map(&mut Perturb { at: 0, parameter, entry, step })
}

/// The values of all float parameters, in order.
pub fn values<M: Module>(module: &M) -> Vec<TensorData> {
    struct Read(Vec<TensorData>);
    impl ModuleVisitor for Read {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().into_data());
        }
    }
    let mut read = Read(Vec::new());
    module.visit(&mut read);
    read.0
}

/// The gradients of all float parameters, in order.
pub fn gradients<M: Module>(module: &M, grads: &Gradients) -> Vec<TensorData> {
    struct Read<'a>(&'a Gradients, Vec<TensorData>);
    impl ModuleVisitor for Read<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = param.val().grad(self.0).expect("every parameter is trained");
            self.1.push(gradient.into_data());
        }
    }
    let mut read = Read(grads, Vec::new());
    module.visit(&mut read);
    read.1
}
