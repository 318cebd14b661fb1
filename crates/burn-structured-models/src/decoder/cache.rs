//! Keys and values of the tokens that a model has seen, so that each new token costs one step instead of a whole sequence.
//!
//! A cache has `capacity` slots for each row of a batch. New tokens take the next slots in every row, so that rows of
//! different lengths are padded on the left: their padding is masked and their positions count from their first token.
//!
//! The buffers are `[batch, allocated, heads, d_head]`, as a projection leaves new keys and values, and grow by [`STEP`] slots. The
//! attention reads a view of the used slots.

use super::{DecoderError, check_length};
use burn::tensor::{Bool, Device, Tensor, TensorData};
use burn_structured_nn::on_pool;
use std::ops::Range;

/// Slots by which the buffers grow: 2 % of a context of 1024 are copied again for a new token, and 3 % are unused.
const STEP: usize = 64;

/// Keys and values of the tokens seen so far, in every layer.
///
/// Created by [`Decoder::cache`](super::Decoder::cache). A clone is a cache of its own: it copies the buffers when either is extended.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    capacity: usize,
    /// Slots in use.
    len: usize,
    /// Padding slots before the first token of each row; empty for a batch without padding.
    padding: Vec<usize>,
    /// Rows of the tokens seen, once there are some.
    batch: Option<usize>,
}

/// Keys and values `[batch, allocated, heads, d_head]` of one layer.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerCache {
    key: Option<Tensor<4>>,
    value: Option<Tensor<4>>,
}

/// Where new tokens go and which slots they may see; the same in every layer.
#[derive(Debug)]
pub(crate) struct Slots {
    /// The first slot of the new tokens, and the one after their last.
    start: usize,
    end: usize,
    /// The slots that the buffers have.
    allocated: usize,
    /// True where a used slot is padding: `[batch, used]`.
    padding: Option<Tensor<2, Bool>>,
    /// The positions of the new tokens in each row, row after row, if they are not the slots.
    positions: Option<Vec<usize>>,
}

impl KvCache {
    pub(super) fn new(depth: usize, capacity: usize) -> Self {
        Self { layers: vec![LayerCache::default(); depth], capacity, len: 0, padding: Vec::new(), batch: None }
    }

    /// The same cache for rows whose first tokens are padding, so many of them in each row.
    ///
    /// # Panics
    ///
    /// If the cache already holds tokens.
    pub fn with_padding(mut self, padding: Vec<usize>) -> Self {
        assert!(self.is_empty(), "KvCache: padding comes before the first token, but the cache holds {}", self.len);
        self.padding = padding;
        self
    }

    /// Slots in use, padding included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token has been seen.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Slots for the tokens of a row, padding included.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Takes new tokens `[batch, new]` through the blocks of a model with this context, and adds them to the cache: `embed` gives
    /// their features `[batch, new, d_model]`, and `forward` is that of one block.
    ///
    /// # Errors
    ///
    /// If there are no tokens, more than fit the context or the cache, or a batch of another size than before. The cache is left
    /// as it was.
    ///
    /// # Panics
    ///
    /// If the cache is that of a model of another depth.
    pub(crate) fn extend<B: Sync, S>(
        &mut self,
        [batch, new]: [usize; 2],
        (context, device): (usize, &Device),
        blocks: &[B],
        embed: impl FnOnce(&Slots) -> (Tensor<3>, S) + Send,
        forward: impl Fn(&B, Tensor<3>, &mut LayerCache, &Slots, &S) -> Tensor<3> + Sync,
    ) -> Result<Tensor<3>, DecoderError> {
        let (depth, layers) = (blocks.len(), self.layers.len());
        assert_eq!(layers, depth, "KvCache: made for a model of {layers} blocks, used with one of {depth}");
        let slots = self.slots([batch, new], context, device)?;
        let x = on_pool(device, || {
            let (embedded, shared) = embed(&slots);
            let layers = blocks.iter().zip(&mut self.layers);
            layers.fold(embedded, |x, (block, layer)| forward(block, x, layer, &slots, &shared))
        });
        (self.len, self.batch) = (self.len + new, Some(batch));
        Ok(x)
    }

    /// The slots for `new` tokens in each of `batch` rows, or why there are none. The cache is not changed.
    fn slots(&self, [batch, new]: [usize; 2], context: usize, device: &Device) -> Result<Slots, DecoderError> {
        let (start, end) = (self.len, self.len + new);
        if batch == 0 || new == 0 {
            return Err(DecoderError::NoTokens);
        }
        let padded = Some(self.padding.len()).filter(|rows| *rows > 0);
        if let Some(expected) = self.batch.or(padded).filter(|rows| *rows != batch) {
            return Err(DecoderError::CacheBatch { expected, found: batch });
        }
        let longest = end - self.padding.iter().min().map_or(0, |padding| end.min(*padding));
        check_length(longest, context)?;
        if end > self.capacity {
            return Err(DecoderError::CacheFull { used: start, new, capacity: self.capacity });
        }
        let allocated = end.next_multiple_of(STEP).min(self.capacity);
        let is_padded = self.padding.iter().any(|padding| *padding > 0);
        Ok(Slots {
            start,
            end,
            allocated,
            padding: is_padded.then(|| self.padding_of(end, device)),
            positions: is_padded.then(|| self.positions(start..end)),
        })
    }

    /// True where one of the first `slots` slots is padding: `[batch, slots]`.
    fn padding_of(&self, slots: usize, device: &Device) -> Tensor<2, Bool> {
        let padding = self.padding.iter().flat_map(|padding| (0..slots).map(move |slot| slot < *padding));
        let padding = TensorData::new(padding.collect::<Vec<bool>>(), [self.padding.len(), slots]);
        Tensor::from_data(padding, device)
    }

    /// The positions of the tokens in these slots of each row; that of padding is 0.
    fn positions(&self, slots: Range<usize>) -> Vec<usize> {
        let rows = self.padding.iter();
        rows.flat_map(|padding| slots.clone().map(|slot| slot.saturating_sub(*padding))).collect()
    }
}

impl LayerCache {
    /// Adds the keys and values of new tokens, `[batch, new, heads, d_head]`; returns those of all used slots.
    pub fn append(&mut self, key: Tensor<4>, value: Tensor<4>, slots: &Slots) -> [Tensor<4>; 2] {
        [append(&mut self.key, key, slots), append(&mut self.value, value, slots)]
    }
}

/// Writes `new` to its slots. The buffer is taken out meanwhile: with a single owner it is written in place.
fn append(buffer: &mut Option<Tensor<4>>, new: Tensor<4>, slots: &Slots) -> Tensor<4> {
    let new = new.detach();
    let [batch, _, heads, d_head] = new.dims();
    let zeros = |slots| Tensor::zeros([batch, slots, heads, d_head], (&new.device(), new.dtype()));
    let grown = match buffer.take() {
        None => zeros(slots.allocated),
        Some(buffer) if buffer.dims()[1] == slots.allocated => buffer,
        Some(buffer) => {
            let added = slots.allocated - buffer.dims()[1];
            Tensor::cat(vec![buffer, zeros(added)], 1)
        }
    };
    let filled = grown.slice_assign([0..batch, slots.start..slots.end, 0..heads, 0..d_head], new);
    *buffer = Some(filled.clone());
    filled.narrow(1, 0, slots.end)
}

impl Slots {
    /// The slots that are padding, if any is.
    pub fn padding(&self) -> Option<Tensor<2, Bool>> {
        self.padding.clone()
    }

    /// The positions of the new tokens in each row, row after row; `None` if they are their slots in every row.
    pub fn positions(&self) -> Option<&[usize]> {
        self.positions.as_deref()
    }

    /// The slots of the new tokens.
    pub fn new_slots(&self) -> Range<usize> {
        self.start..self.end
    }
}
