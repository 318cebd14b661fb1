//! BLAST products.

mod case;
mod fixtures;
mod gradients;
mod inference;
mod operands;
mod reference;
mod run;
mod special_cases;
mod stages;
mod table;
mod tensor_cores;
