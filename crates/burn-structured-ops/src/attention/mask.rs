//! Which keys a query sees.

use super::shapes::Sizes;
use burn::backend::tensor::BoolTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, TensorMetadata};
use burn::tensor::{Bool, Tensor};

/// Which keys a query sees: all of them, unless this says otherwise.
#[derive(Clone, Debug, Default)]
pub struct AttentionMask {
    /// Whether a query sees only the keys up to its own. The last query is aligned with the last key, so that the queries may be the
    /// last tokens of a longer sequence of keys.
    pub causal: bool,
    /// Keys that no query of their batch element sees: `[batch, keys]`, true where a key is padding.
    pub padding: Option<Tensor<2, Bool>>,
}

impl AttentionMask {
    /// A mask that hides later keys.
    pub fn causal() -> Self {
        Self { causal: true, padding: None }
    }

    /// The same mask, with keys that are padding if there are any.
    pub fn with_padding(self, padding: Option<Tensor<2, Bool>>) -> Self {
        Self { padding, ..self }
    }
}

/// The optional padding of the keys, as a backend sees it.
///
/// An enum rather than an `Option`, which the extension macro cannot carry through fusion.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion: cfg(feature = "fusion"))]
pub enum KeyPadding<B: Backend> {
    /// No key is padding.
    None,
    /// `[batch, keys]`, true where a key is padding.
    Some(BoolTensor<B>),
}

impl KeyPadding<Dispatch> {
    /// The padding of a public function.
    pub(super) fn of(padding: Option<Tensor<2, Bool>>) -> Self {
        padding.map_or(Self::None, |padding| Self::Some(padding.into_dispatch()))
    }
}

impl<B: Backend> KeyPadding<B> {
    /// Checks that a padding is `[batch, keys]`.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub(super) fn check(&self, sizes: Sizes) {
        if let Self::Some(padding) = self {
            sizes.check_padding(&padding.shape());
        }
    }
}
