//! Attention, forward and backward, against its definition in f64.

mod case;
mod properties;
mod safety;
mod table;
