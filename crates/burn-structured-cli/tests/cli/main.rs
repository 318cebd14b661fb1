//! The program as a user runs it, on tiny models that the tests write themselves.

mod calibrate;
mod compress;
mod drop;
mod fixture;
mod help;
mod inspect;
mod llama;
mod measure;
mod models;
mod outputs;
mod plan;
mod process;
mod resume;
