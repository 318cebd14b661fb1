//! Distribution of a parameter budget over the layers of a model.
//!
//! Layers differ in how well they compress. From a measured curve of error against parameters for each layer, [`allocate`]
//! chooses a point of each so that the sum of errors is minimal within the budget.
//!
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//! use burn_structured_compress::budget::{LayerCurve, allocate, measure};
//! use burn_structured_compress::factorize::FactorizerConfig;
//!
//! let random = |shape| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex());
//! // One weight that is nearly of low rank, and one that is not.
//! let weights = [random([32, 4]).matmul(random([4, 32])) + random([32, 32]) * 0.1, random([32, 32])];
//! let mut curves = Vec::new();
//! for weight in weights {
//!     let structures = ["low-rank:r=4", "low-rank:r=8", "low-rank:r=12"].map(|text| text.parse().expect("a structure"));
//!     curves.push(LayerCurve::new(measure(&weight, &structures, None, &FactorizerConfig::new())?));
//! }
//! let allocation = allocate(&curves, 1024)?;
//! assert_eq!(allocation.params, 1024);
//! let chosen: Vec<String> =
//!     allocation.choices.iter().zip(&curves).map(|(choice, curve)| curve.points[*choice].structure.to_string()).collect();
//! assert_eq!(chosen, ["low-rank:r=4", "low-rank:r=12"]);
//! # Ok::<(), burn_structured_compress::CompressError>(())
//! ```

mod allocation;
mod curve;
mod dense_layers;
mod search;
mod sensitivity;

pub use allocation::{Allocation, allocate};
pub use curve::{CurvePoint, LayerCurve, measure};
pub use dense_layers::{KeepDense, LayerTrial, layers_to_keep_dense};
pub use search::smallest_rank;
pub use sensitivity::{block_model_errors, model_errors};
