//! Keys and values of the tokens that a model has seen, so that each new token costs one step instead of a whole sequence.
//!
//! A cache has `capacity` slots for each row of a batch. New tokens take the next slots in every row, so that rows of
//! different lengths are padded on the left: their padding is masked and their positions count from their first token.
//!
//! The buffers are `[batch, allocated, heads, d_head]`, as a projection leaves new keys and values, and grow by [`STEP`] slots. The
//! attention reads a view of the used slots.

use super::{Gpt2, Gpt2Error};
use burn::tensor::{Bool, Int, Tensor, TensorData};
use burn_structured_nn::on_pool;

/// Slots by which the buffers grow: 2 % of a context of 1024 are copied again for a new token, and 3 % are unused.
const STEP: usize = 64;

/// Keys and values of the tokens seen so far, in every layer.
///
/// Created by [`Gpt2::cache`]. A clone is a cache of its own: it copies the buffers when either is extended.
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
pub(super) struct LayerCache {
    key: Option<Tensor<4>>,
    value: Option<Tensor<4>>,
}

/// Where new tokens go and which slots they may see; the same in every layer.
#[derive(Debug)]
pub(super) struct Slots {
    /// The first slot of the new tokens, and the one after their last.
    start: usize,
    end: usize,
    /// The slots that the buffers have.
    allocated: usize,
    /// True where a used slot is padding: `[batch, used]`.
    padding: Option<Tensor<2, Bool>>,
}

impl KvCache {
    fn new(depth: usize, capacity: usize) -> Self {
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

    /// The slots for `new` tokens in each of `batch` rows, or why there are none. The cache is not changed.
    fn slots(&self, [batch, new]: [usize; 2], model: &Gpt2) -> Result<Slots, Gpt2Error> {
        let (start, end) = (self.len, self.len + new);
        if batch == 0 || new == 0 {
            return Err(Gpt2Error::NoTokens);
        }
        let padded = Some(self.padding.len()).filter(|rows| *rows > 0);
        if let Some(expected) = self.batch.or(padded).filter(|rows| *rows != batch) {
            return Err(Gpt2Error::CacheBatch { expected, found: batch });
        }
        let longest = end - self.padding.iter().min().map_or(0, |padding| end.min(*padding));
        model.check_length(longest)?;
        if end > self.capacity {
            return Err(Gpt2Error::CacheFull { used: start, new, capacity: self.capacity });
        }
        let allocated = end.next_multiple_of(STEP).min(self.capacity);
        let padded = self.padding.iter().any(|padding| *padding > 0);
        Ok(Slots { start, end, allocated, padding: padded.then(|| self.padding_of(end, model)) })
    }

    /// True where one of the first `slots` slots is padding: `[batch, slots]`.
    fn padding_of(&self, slots: usize, model: &Gpt2) -> Tensor<2, Bool> {
        let padding = self.padding.iter().flat_map(|padding| (0..slots).map(move |slot| slot < *padding));
        let padding = TensorData::new(padding.collect::<Vec<bool>>(), [self.padding.len(), slots]);
        Tensor::from_data(padding, &model.device())
    }

    /// The features of the new tokens' positions: `[1 or batch, new, d_model]`.
    fn positions(&self, [batch, new]: [usize; 2], model: &Gpt2) -> Tensor<3> {
        if self.padding.is_empty() {
            return model.positions_from(self.len, new);
        }
        let positions = self.padding.iter().flat_map(|padding| {
            let slots = self.len..self.len + new;
            slots.map(|slot| slot.saturating_sub(*padding) as i32)
        });
        let positions = TensorData::new(positions.collect::<Vec<i32>>(), [batch, new]);
        model.positions.forward(Tensor::<2, Int>::from_data(positions, &model.device()))
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
}

impl Gpt2 {
    /// An empty cache for sequences of up to `capacity` tokens, padding included. Memory is taken as tokens come.
    pub fn cache(&self, capacity: usize) -> KvCache {
        KvCache::new(self.blocks.len(), capacity)
    }

    /// The logits that follow the last of the new tokens of each row.
    ///
    /// The new tokens continue those in the cache, and are added to it: first a prompt, whole or in chunks, then one token at a
    /// time. No gradient flows through the cache.
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, new]`
    /// - output: `[batch, 1, vocab_size]`
    ///
    /// # Errors
    ///
    /// If there are no tokens, more than fit the context or the cache, or a batch of another size than before. The cache is
    /// left as it was.
    ///
    /// # Panics
    ///
    /// If the cache is that of a model of another depth, or a token is not in the vocabulary.
    pub fn forward_cached(&self, tokens: Tensor<2, Int>, cache: &mut KvCache) -> Result<Tensor<3>, Gpt2Error> {
        let [_, new] = tokens.dims();
        let last = self.stream_cached(tokens, cache)?.narrow(1, new - 1, 1);
        Ok(self.logits(self.norm.forward(last)))
    }

    /// The features of all new tokens, as those of [`features`](Self::features), for [`logits`](Self::logits).
    ///
    /// # Shapes
    ///
    /// - tokens: `[batch, new]`
    /// - output: `[batch, new, d_model]`; what belongs to padding means nothing
    ///
    /// # Errors and panics
    ///
    /// As [`forward_cached`](Self::forward_cached).
    pub fn features_cached(&self, tokens: Tensor<2, Int>, cache: &mut KvCache) -> Result<Tensor<3>, Gpt2Error> {
        Ok(self.norm.forward(self.stream_cached(tokens, cache)?))
    }

    /// The output of the last block.
    fn stream_cached(&self, tokens: Tensor<2, Int>, cache: &mut KvCache) -> Result<Tensor<3>, Gpt2Error> {
        let (depth, layers) = (self.blocks.len(), cache.layers.len());
        assert_eq!(layers, depth, "KvCache: made for a model of {layers} blocks, used with one of {depth}");
        let dims @ [batch, new] = tokens.dims();
        let slots = cache.slots(dims, self)?;
        let x = on_pool(&self.device(), || {
            let embedded = self.embed(tokens, cache.positions(dims, self));
            let layers = self.blocks.iter().zip(&mut cache.layers);
            layers.fold(embedded, |x, (block, layer)| block.forward_cached(x, layer, &slots))
        });
        (cache.len, cache.batch) = (cache.len + new, Some(batch));
        Ok(x)
    }
}
