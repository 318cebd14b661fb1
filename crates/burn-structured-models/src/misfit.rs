//! Tensors of a checkpoint that do not fit a model, as every model reports them.

use burn_store::ApplyError;

/// Why the tensor at a module path could not be used.
pub(crate) enum Misfit {
    /// It has another shape than the module's; both are in the module's layout.
    Shape { tensor: String, expected: Vec<usize>, found: Vec<usize> },
    /// Anything else.
    Other { tensor: String, reason: String },
}

impl From<ApplyError> for Misfit {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::ShapeMismatch { path: tensor, expected, found } => {
                Self::Shape { tensor, expected: expected.to_vec(), found: found.to_vec() }
            }
            ApplyError::DTypeMismatch { path: tensor, expected, found } => {
                Self::Other { tensor, reason: format!("it holds {found:?} instead of {expected:?}") }
            }
            ApplyError::AdapterError { path: tensor, message } | ApplyError::LoadError { path: tensor, message } => {
                Self::Other { tensor, reason: message }
            }
        }
    }
}

/// What follows the name of the first of several missing tensors; `count` is the number of the others.
pub(crate) fn and_others(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => " and another tensor".into(),
        _ => format!(" and {count} more tensors"),
    }
}
