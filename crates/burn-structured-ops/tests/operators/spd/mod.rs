//! Symmetric positive definite systems.

mod case;
mod damped;
mod gradients;
mod indefinite;
mod solutions;
