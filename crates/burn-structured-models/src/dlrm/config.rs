//! The settings of a click model.

use super::Dlrm;
use crate::ModelError;
use crate::layers::structured;
use burn::config::Config;
use burn::module::Param;
use burn::nn::LinearConfig;
use burn::tensor::{Device, Distribution, Tensor};
use burn_structured_nn::{Structure, StructuredLinear};

/// Interactions are padded to a multiple of this, so that usual numbers of blocks divide them.
const MULTIPLE: usize = 16;

/// Configuration to create a [`Dlrm`] using the [init function](DlrmConfig::init).
#[derive(Config, Debug, PartialEq)]
pub struct DlrmConfig {
    /// Numbers of an example.
    pub numbers: usize,
    /// Values that each category of an example can have.
    pub tables: Vec<usize>,
    /// Features of the vectors that are multiplied with each other.
    #[config(default = 16)]
    pub d_embedding: usize,
    /// Hidden features of the bottom MLP; its last layer has `d_embedding`.
    #[config(default = "vec![128, 64]")]
    pub bottom: Vec<usize>,
    /// Hidden features of the top MLP, at least one layer; its last layer has one.
    #[config(default = "vec![1024, 1024, 512, 256]")]
    pub top: Vec<usize>,
    /// Structure of the layers of the bottom MLP.
    #[config(default = "Structure::Dense")]
    pub bottom_structure: Structure,
    /// Structure of the layers of the top MLP, the last one aside.
    #[config(default = "Structure::Dense")]
    pub top_structure: Structure,
}

impl DlrmConfig {
    /// Features of the input of the top MLP: `d_embedding`, the pairs of vectors, and zeros up to a multiple of 16.
    pub fn d_interaction(&self) -> usize {
        let vectors = self.tables.len() + 1;
        (self.d_embedding + vectors * (vectors - 1) / 2).next_multiple_of(MULTIPLE)
    }

    /// Initialize a new [`Dlrm`] module.
    ///
    /// # Panics
    ///
    /// Where [`try_init`](Self::try_init) returns an error.
    pub fn init(&self, device: &Device) -> Dlrm {
        self.try_init(device).unwrap_or_else(|error| panic!("Dlrm: {error}"))
    }

    /// Initialize a new [`Dlrm`] module.
    ///
    /// # Errors
    ///
    /// If a size is zero, there is no table or no hidden layer of the top MLP, or a structure does not fit its layer.
    pub fn try_init(&self, device: &Device) -> Result<Dlrm, ModelError> {
        self.check()?;
        let layers = |name, sizes: Vec<usize>, structure| -> Result<Vec<StructuredLinear>, ModelError> {
            sizes.windows(2).map(|pair| structured(name, pair[0], pair[1], structure, device)).collect()
        };
        // As in the paper: uniform, the smaller the larger the table is.
        let table = |size: &usize| {
            let bound = 1.0 / (*size as f64).sqrt();
            Tensor::<2>::random([*size, self.d_embedding], Distribution::Uniform(-bound, bound), device)
        };
        let embeddings = Tensor::cat(self.tables.iter().map(table).collect(), 0);
        let bottom = [&[self.numbers], &self.bottom[..], &[self.d_embedding]].concat();
        let top = [&[self.d_interaction()], &self.top[..]].concat();
        let last = top[top.len() - 1];
        Ok(Dlrm {
            bottom: layers("bottom", bottom, self.bottom_structure)?,
            embeddings: Param::from_tensor(embeddings),
            top: layers("top", top, self.top_structure)?,
            output: LinearConfig::new(last, 1).init(device),
            tables: self.tables.clone(),
        })
    }

    fn check(&self) -> Result<(), ModelError> {
        ModelError::check_positive(&[("numbers", self.numbers), ("d_embedding", self.d_embedding)])?;
        for (name, sizes, needed) in
            [("tables", &self.tables, true), ("bottom", &self.bottom, false), ("top", &self.top, true)]
        {
            if needed && sizes.is_empty() {
                return Err(ModelError::setting(name, "[]", "must have at least one size"));
            }
            if sizes.contains(&0) {
                return Err(ModelError::setting(name, format!("{sizes:?}"), "must have sizes of at least 1"));
            }
        }
        Ok(())
    }
}
