//! The function of an SS1 layer as a parameter, so that a record holds it.

use super::function::{Function, Ss1Hash};
use crate::Structure;
use burn::module::{Content, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// The numbers of a [`Function`] as they are saved, beside the function itself: a forward pass reads nothing back from the
/// device.
#[derive(Clone, Debug)]
pub(crate) struct SavedFunction {
    numbers: Param<Tensor<1, Int>>,
    /// `None` if a record was loaded whose numbers describe no function.
    function: Option<Function>,
}

impl SavedFunction {
    pub(super) fn new(function: Function, device: &Device) -> Self {
        let data = TensorData::new(function.to_numbers(), [Function::LEN]);
        let numbers = Param::initialized(ParamId::new(), Tensor::from_data(data, device));
        Self { numbers, function: Some(function) }
    }

    /// The function of a layer with stored weights `[width, d_output]`; `None` if a record was loaded that describes another
    /// layer, or none. Burn's records check shapes only.
    pub(crate) fn find(&self, width: usize, d_output: usize) -> Option<Function> {
        self.function.filter(|function| function.fits(width, d_output))
    }

    /// The function of a layer with stored weights `[width, d_output]`.
    ///
    /// # Panics
    ///
    /// Where [`find`](Self::find) returns `None`.
    pub(crate) fn get(&self, width: usize, d_output: usize) -> Function {
        self.find(width, d_output).unwrap_or_else(|| {
            let numbers: Vec<i64> = self.numbers.val().into_data().iter::<i64>().collect();
            panic!("Ss1Linear: the loaded `hash` {numbers:?} describes no layer with weights [{width}, {d_output}]")
        })
    }

    /// The structure of a layer with stored weights `[width, d_output]`; `None` where [`find`](Self::find) returns it.
    pub(crate) fn structure(&self, width: usize, d_output: usize) -> Option<Structure> {
        let Function { reduction, block_k, block_n, hash, .. } = self.find(width, d_output)?;
        let independent = match hash {
            Ss1Hash::Additive { .. } => None,
            Ss1Hash::Independent { seed, .. } => Some(seed),
        };
        Some(Structure::Ss1 { reduction, block_k, block_n, independent })
    }

    fn with(self, map: impl FnOnce(Param<Tensor<1, Int>>) -> Param<Tensor<1, Int>>) -> Self {
        Self { numbers: map(self.numbers), function: self.function }
    }
}

impl Module for SavedFunction {
    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        visitor.visit_int(&self.numbers);
    }

    fn map<M: ModuleMapper>(self, mapper: &mut M) -> Self {
        // The load mapper runs only if the mapper loads a record. It is made anew for every traversal: one that clones of the
        // layer shared would change them all.
        let loaded = Arc::new(OnceLock::new());
        let read = loaded.clone();
        let numbers = self.numbers.load_mapper(move |numbers: Tensor<1, Int>| {
            let read_back: Vec<i64> = numbers.to_data().iter::<i64>().collect();
            let _ = read.set(Function::from_numbers(&read_back));
            numbers
        });
        let numbers = mapper.map_int(numbers);
        Self { numbers, function: loaded.get().copied().unwrap_or(self.function) }
    }

    fn to_device(self, device: &Device) -> Self {
        self.with(|numbers| numbers.to_device(device))
    }

    fn fork(self, device: &Device) -> Self {
        self.with(|numbers| numbers.fork(device))
    }

    fn collect_devices(&self, devices: Vec<Device>) -> Vec<Device> {
        self.numbers.collect_devices(devices)
    }

    fn valid(&self) -> Self {
        Self { numbers: self.numbers.valid(), function: self.function }
    }

    fn train(self) -> Self {
        self.with(Param::train)
    }

    fn materialize(self) -> Self {
        self
    }
}

impl fmt::Display for SavedFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.function)
    }
}

impl ModuleDisplayDefault for SavedFunction {
    fn content(&self, content: Content) -> Option<Content> {
        content.add_formatted(self).optional()
    }
}

impl ModuleDisplay for SavedFunction {}
