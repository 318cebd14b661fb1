//! Factorization: BLAST approximations of dense matrices by optimisation, on any device.
//!
//! No closed form is known for the nearest BLAST matrix. A [`Factorizer`] takes a batch of matrices of one shape; a [`Stepper`]
//! improves their factors; tolerance, patience and a time budget stop the run, and a trace records the errors.
//!
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//! use burn_structured_compress::factorize::FactorizerConfig;
//! use burn_structured_nn::{Blocks, Rank};
//!
//! let weight = Tensor::<2>::random([48, 32], Distribution::Normal(0.0, 1.0), &Device::flex());
//! let config = FactorizerConfig::new().with_blocks(Blocks::Square(4)).with_rank(Rank::Ratio(0.5)).with_steps(20);
//! let found = config.init().factorize(weight)?;
//! let layer = found.layer(0, None);
//! println!("{layer}: relative error {:.3}", found.errors()[0]);
//! # Ok::<(), burn_structured_compress::CompressError>(())
//! ```

mod alternating;
mod chunks;
mod factorization;
mod factorizer;
mod factors;
mod jacobian;
mod method;
mod metric;
mod problem;
mod run;
mod schedule;
mod start;
mod stepper;
mod stream;
mod trace;

pub use alternating::{Quadratic, Rule};
pub use factorization::Factorization;
pub use factorizer::{Factorizer, FactorizerConfig};
pub use factors::BlastFactors;
pub use method::Method;
pub use problem::{Problem, State};
pub use run::Progress;
pub use schedule::Schedule;
pub use start::Start;
pub use stepper::{Clock, Gd, LevenbergMarquardt, PrecGd, Relaxed, Stepper};
pub use stream::{Factorizations, NamedMatrix};
pub use trace::{StopReason, TracePoint};
