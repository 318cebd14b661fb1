//! A click model in the style of DLRM, with a structured MLP at its top.
//!
//! Numbers go through a bottom MLP, categories through embedding tables, all pairs of the resulting vectors are multiplied, and a top MLP
//! turns the products into the logit of a click (Naumov et al., *Deep Learning Recommendation Model for Personalization and
//! Recommendation Systems*, 2019). Each of the two MLPs takes a [`Structure`](burn_structured_nn::Structure) for its layers; the last layer
//! of the top MLP, which has a single output, stays dense.

mod config;
#[cfg(test)]
mod tests;

pub use config::DlrmConfig;

use crate::ItemCost;
use crate::cost::params;
use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::tensor::{Int, Tensor, assert_shape};
use burn_structured_nn::{Activation, Epilogue, Factor, StructureError, StructuredLinear, on_pool, quantize};

/// A click model.
///
/// Should be created with [`DlrmConfig`].
///
/// ```
/// use burn::tensor::{Device, Int, Tensor};
/// use burn_structured_models::dlrm::DlrmConfig;
///
/// let device = Device::flex();
/// // Four numbers, and three categories of 10, 100 and 1000 values.
/// let config = DlrmConfig::new(4, vec![10, 100, 1000]).with_top_structure("low-rank:ratio=0.3".parse().unwrap());
/// let model = config.init(&device);
/// let categories = Tensor::<2, Int>::from_data([[9, 0, 999], [0, 50, 3]], &device);
/// assert_eq!(model.forward(Tensor::zeros([2, 4], &device), categories).dims(), [2]);
/// ```
#[derive(Module, Debug)]
pub struct Dlrm {
    /// The MLP of the numbers, with ReLU after each layer.
    pub bottom: Vec<StructuredLinear>,
    /// The vectors of all categories `[rows, d_embedding]`, one table after the other.
    pub embeddings: Param<Tensor<2>>,
    /// The top MLP, with ReLU after each layer.
    pub top: Vec<StructuredLinear>,
    /// From the last features of the top MLP to the logit.
    pub output: Linear,
    tables: Vec<usize>,
}

impl Dlrm {
    /// The logits `[batch]` of clicks.
    ///
    /// # Shapes
    ///
    /// - numbers: `[batch, numbers]`
    /// - categories: `[batch, tables]`, each below the size of its table
    ///
    /// # Panics
    ///
    /// If a shape is another, or on some devices if a category is not in its table.
    pub fn forward(&self, numbers: Tensor<2>, categories: Tensor<2, Int>) -> Tensor<1> {
        let device = numbers.device();
        on_pool(&device, || {
            let embedded = self.embed(categories);
            self.top(self.interact(self.bottom(numbers), embedded))
        })
    }

    /// The vectors `[batch, tables, d_embedding]` of categories `[batch, tables]`.
    ///
    /// # Panics
    ///
    /// If there are not as many categories as tables.
    pub fn embed(&self, categories: Tensor<2, Int>) -> Tensor<3> {
        let tables = self.tables.len();
        assert_shape!(categories, [_, tables]);
        let [batch, _] = categories.dims();
        let starts = self.tables.iter().scan(0, |next, size| {
            let start = *next;
            *next += *size as i64;
            Some(start)
        });
        let starts: Vec<i64> = starts.collect();
        let starts = Tensor::<1, Int>::from_data(starts.as_slice(), &categories.device());
        let rows = (categories + starts.unsqueeze()).reshape([batch * tables]);
        let weight = self.embeddings.val();
        let d_embedding = weight.dims()[1];
        weight.select(0, rows).reshape([batch, tables, d_embedding])
    }

    /// The vectors `[batch, d_embedding]` of numbers `[batch, numbers]`.
    ///
    /// # Panics
    ///
    /// If there is another number of them.
    pub fn bottom(&self, numbers: Tensor<2>) -> Tensor<2> {
        relu_layers(&self.bottom, numbers)
    }

    /// `[numbers, products of all pairs of vectors, zeros]`, `[batch, d_interaction]`.
    ///
    /// The `i`th vector with all before it, for `i` from 1; the vector of the numbers is the first one, those of the categories follow. Zeros
    /// fill up to a multiple that the blocks of structures divide.
    pub fn interact(&self, numbers: Tensor<2>, embedded: Tensor<3>) -> Tensor<2> {
        let [batch, tables, d_embedding] = embedded.dims();
        let count = tables + 1;
        let vectors = Tensor::cat(vec![numbers.clone().unsqueeze_dim::<3>(1), embedded], 1);
        let products = vectors.clone().matmul(vectors.swap_dims(1, 2)).reshape([batch, count * count]);
        let pairs: Vec<i64> =
            (1..count).flat_map(|row| (0..row).map(move |column| (row * count + column) as i64)).collect();
        let padding = self.d_interaction() - d_embedding - pairs.len();
        let pairs = Tensor::<1, Int>::from_data(pairs.as_slice(), &numbers.device());
        let mut parts = vec![numbers, products.select(1, pairs)];
        if padding > 0 {
            parts.push(Tensor::zeros([batch, padding], (&parts[0].device(), parts[0].dtype())));
        }
        Tensor::cat(parts, 1)
    }

    /// The logits `[batch]` of interactions `[batch, d_interaction]`.
    pub fn top(&self, interactions: Tensor<2>) -> Tensor<1> {
        self.output.forward(relu_layers(&self.top, interactions)).squeeze_dim::<1>(1)
    }

    /// The same model with int8 weights in its MLPs: for inference, see [`StructuredLinear::quantize`].
    ///
    /// # Errors
    ///
    /// If the structure of a layer has no int8 form.
    pub fn quantize(mut self) -> Result<Self, StructureError> {
        quantize(self.bottom.iter_mut().chain(&mut self.top))?;
        Ok(self)
    }

    /// The factors of all structured layers, for an optimizer that gives each its own learning rate.
    pub fn factors(&self) -> Vec<Factor> {
        self.bottom.iter().chain(&self.top).flat_map(StructuredLinear::factors).collect()
    }

    /// Parameters of the top MLP, its last layer included.
    pub fn top_params(&self) -> usize {
        params(&self.top, self.top.iter()) + self.output.num_params()
    }

    /// What one example costs; the top MLP's layers are those that are replaced, the last one aside.
    pub fn cost(&self) -> ItemCost {
        let bottom: usize = self.bottom.iter().map(|layer| layer.cost().flops_per_token).sum();
        let (vectors, d_embedding) = (self.tables.len() + 1, self.embeddings.shape()[1]);
        let products = 2 * vectors * vectors * d_embedding;
        let output = 2 * self.output.weight.shape()[0] + 1;
        let params = params(self, self.bottom.iter().chain(&self.top));
        let cost = ItemCost { params, other_flops: bottom + products + output, ..ItemCost::default() };
        self.top.iter().fold(cost, |cost, layer| cost.with_replaced(layer.cost(), 1))
    }

    fn d_interaction(&self) -> usize {
        self.top.first().map_or(self.output.weight.shape()[0], StructuredLinear::d_input)
    }
}

fn relu_layers(layers: &[StructuredLinear], input: Tensor<2>) -> Tensor<2> {
    layers.iter().fold(input, |x, layer| layer.forward_then(x, Epilogue::new().with_activation(Activation::Relu)))
}
