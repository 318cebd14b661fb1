//! One head's matrices, and the keys that its queries see.

use super::exp::Exponential;
use crate::attention::KeyPadding;
use crate::attention::shapes::Sizes;
use crate::cpu::Matrix;
use crate::cpu::gemm::Rows;
use burn::backend::Flex;
use burn::tensor::{BoolStore, DType};
use burn_flex::FlexTensor;
use std::ops::Range;

/// Which keys the queries of each batch element see.
pub(super) struct Mask {
    causal: bool,
    /// One for each batch element, or for all.
    keys: Vec<Keys>,
}

/// The keys that are no padding.
struct Keys {
    /// From the first of them to the last.
    range: Range<usize>,
    /// Of each key of the range, whether it is padding; `None` if none is, as with padding before and after a sequence.
    hidden: Option<Vec<bool>>,
}

impl Mask {
    pub fn new(padding: KeyPadding<Flex>, causal: bool, sizes: Sizes) -> Self {
        let keys = match padding {
            KeyPadding::None => vec![Keys { range: 0..sizes.keys, hidden: None }],
            KeyPadding::Some(padding) => {
                let padding = padding.to_contiguous();
                let bytes = match padding.dtype() {
                    DType::Bool(BoolStore::Native | BoolStore::U8) => padding.bytes(),
                    other => panic!("Flex has no attention with padding of {other:?}"),
                };
                let bytes = &bytes[padding.layout().start_offset()..][..sizes.batch * sizes.keys];
                bytes.chunks_exact(sizes.keys).map(Keys::without).collect()
            }
        };
        Self { causal, keys }
    }
}

impl Keys {
    fn without(padding: &[u8]) -> Self {
        let seen = |byte: &u8| *byte == 0;
        let start = padding.iter().position(seen).unwrap_or(0);
        let end = padding.iter().rposition(seen).map_or(0, |last| last + 1);
        let range = start..end.max(start);
        let inside = &padding[range.clone()];
        let hidden = (!inside.iter().all(seen)).then(|| inside.iter().map(|byte| *byte != 0).collect());
        Self { range, hidden }
    }
}

/// The operands, and what is seen of them.
pub(super) struct Heads<'a, E> {
    pub sizes: Sizes,
    pub scale: E,
    operands: [&'a FlexTensor; 3],
    mask: Mask,
}

impl<'a, E: Exponential> Heads<'a, E> {
    pub fn new(sizes: Sizes, operands: [&'a FlexTensor; 3], mask: Mask) -> Self {
        Self { sizes, scale: E::from_elem(sizes.scale()), operands, mask }
    }

    /// Multiplications of both products of the forward pass.
    pub fn multiplications(&self) -> usize {
        let Sizes { batch, heads, queries, keys, d_head, d_value } = self.sizes;
        let hidden = if self.mask.causal { queries.min(keys) * (queries.min(keys) - 1) / 2 } else { 0 };
        batch * heads * (queries * keys - hidden) * (d_head + d_value)
    }

    /// Head `index` of all heads of all batch elements.
    pub fn get(&self, index: usize) -> Head<'_, E> {
        let (batch, head) = (index / self.sizes.heads, index % self.sizes.heads);
        let [query, key, value] = self.operands.map(|tensor| Matrix::of_head(tensor, batch, head));
        let Keys { range, hidden } = &self.mask.keys[batch.min(self.mask.keys.len() - 1)];
        let [key, value] = [key, value].map(|matrix| matrix.rows(range.start, range.len()));
        let Sizes { queries, keys, .. } = self.sizes;
        Head {
            batch,
            head,
            query,
            key,
            value,
            first: range.start,
            hidden: hidden.as_deref(),
            causal: self.mask.causal,
            queries,
            keys,
        }
    }
}

/// One head.
#[derive(Clone, Copy)]
pub(super) struct Head<'a, E> {
    pub batch: usize,
    pub head: usize,
    /// `[queries, d_head]`.
    pub query: Matrix<'a, E>,
    /// The keys `[.., d_head]` and values `[.., d_value]` of a range that holds all that are seen.
    pub key: Matrix<'a, E>,
    pub value: Matrix<'a, E>,
    /// The first of them.
    pub first: usize,
    /// Of each of them, whether it is padding nevertheless.
    hidden: Option<&'a [bool]>,
    causal: bool,
    queries: usize,
    keys: usize,
}

impl<E: Exponential> Head<'_, E> {
    /// How many of the keys a query sees at most: those up to its own.
    pub fn seen_by(&self, query: usize) -> usize {
        let all = self.key.rows;
        if !self.causal {
            return all;
        }
        (query + 1 + self.keys).saturating_sub(self.queries + self.first).min(all)
    }

    /// The first query that sees a key.
    pub fn first_query_of(&self, key: usize) -> usize {
        if self.causal { (key + self.first + self.queries).saturating_sub(self.keys) } else { 0 }
    }

    /// Whether there is padding among the keys.
    pub fn has_hidden(&self) -> bool {
        self.hidden.is_some()
    }

    pub fn is_hidden(&self, key: usize) -> bool {
        self.hidden.is_some_and(|hidden| hidden[key])
    }
}

/// Rows that are read in place.
pub(super) fn rows<E: Exponential>(matrix: Matrix<'_, E>) -> Rows<'_, E> {
    Rows::of(matrix).expect("contiguous rows")
}
