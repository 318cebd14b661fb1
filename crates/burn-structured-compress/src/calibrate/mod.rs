//! Calibration: the second moments of the inputs of a model's layers.
//!
//! A [`Calibrator`] observes a model on data and sums `x xᵀ` of the inputs of every layer. Used as the metric of a
//! [factorization](crate::factorize::Factorizer::with_moment) or of a [closed form](mod@crate::approximate), the moment turns the
//! distance between weights into the expected distance between outputs.
//!
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//! use burn_structured_compress::calibrate::Calibrator;
//! use burn_structured_compress::factorize::FactorizerConfig;
//! use burn_structured_nn::{Structure, StructuredLinearConfig};
//!
//! let device = Device::flex();
//! let model = vec![StructuredLinearConfig::new(16, 24, Structure::Dense).init(&device)];
//! let mut calibrator = Calibrator::new();
//! for _ in 0..4 {
//!     let batch = Tensor::<2>::random([32, 16], Distribution::Normal(0.0, 1.0), &device);
//!     calibrator.record(&model, || model[0].forward(batch))?;
//! }
//! let moment = calibrator.moment("0").expect("the layer was used").regularized(0.01);
//! let found = FactorizerConfig::new().init().with_moment(moment.to_tensor(&device)).factorize(model[0].to_dense())?;
//! println!("relative error of the outputs: {:.3}", found.errors()[0]);
//! # Ok::<(), burn_structured_compress::CompressError>(())
//! ```

mod calibrator;
mod file;
mod moment;

pub use calibrator::Calibrator;
pub use moment::Moment;
