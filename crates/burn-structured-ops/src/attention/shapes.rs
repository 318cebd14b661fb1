//! Shapes of operands and results.

use crate::operands::{axes, check};
use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};

/// The sizes of one attention, read off its operands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub batch: usize,
    pub heads: usize,
    pub queries: usize,
    pub keys: usize,
    /// Features of a query and a key.
    pub d_head: usize,
    /// Features of a value.
    pub d_value: usize,
}

impl Sizes {
    /// The sizes of `query`, `key` and `value`.
    ///
    /// # Panics
    ///
    /// If they do not fit each other, or `d_head` is 0.
    pub fn of_shapes([query, key, value]: [&Shape; 3]) -> Self {
        let [batch, queries, heads, d_head] = axes("attention", "query", query);
        let [_, keys, _, _] = axes("attention", "key", key);
        let [_, _, _, d_value] = axes("attention", "value", value);
        assert_eq!(
            key[..],
            [batch, keys, heads, d_head],
            "attention: `key` must be [batch, keys, heads, d_head] as `query` {:?} says, got {:?}",
            &query[..],
            &key[..]
        );
        assert_eq!(
            value[..],
            [batch, keys, heads, d_value],
            "attention: `value` must be [batch, keys, heads, d_value] as `key` {:?} says, got {:?}",
            &key[..],
            &value[..]
        );
        assert!(d_head > 0, "attention: queries and keys need at least one feature");
        Self { batch, heads, queries, keys, d_head, d_value }
    }

    /// The sizes of operands of one dtype, none of them empty.
    ///
    /// # Panics
    ///
    /// If they are not: kernels rely on it.
    pub fn of_operands(operands: [&impl TensorMetadata; 3]) -> Self {
        check(|[query, ..]: [&Shape; 3]| query.clone(), operands);
        let shapes = operands.map(TensorMetadata::shape);
        let sizes = Self::of_shapes(shapes.each_ref());
        assert!(!sizes.is_empty(), "attention: operands must not be empty");
        sizes
    }

    /// The sizes of the three parts of `qkv [batch, tokens, 3 heads, d_head]`.
    ///
    /// # Panics
    ///
    /// If the third axis is no multiple of 3, or `d_head` is 0.
    pub fn of_projection(qkv: &Shape) -> Self {
        let [batch, tokens, parts, d_head] = axes("attention", "qkv", qkv);
        assert!(parts % 3 == 0, "attention: the third axis of `qkv` must hold 3 times the heads, got {qkv:?}");
        let part = Shape::new([batch, tokens, parts / 3, d_head]);
        Self::of_shapes([&part; 3])
    }

    /// Whether there is nothing to compute: no output, or no key to see.
    pub fn is_empty(self) -> bool {
        self.batch * self.heads * self.queries * self.keys * self.d_value == 0
    }

    pub fn output(self) -> Shape {
        Shape::new([self.batch, self.queries, self.heads, self.d_value])
    }

    pub fn log_sum_exp(self) -> Shape {
        Shape::new([self.batch, self.heads, self.queries])
    }

    /// Checks that a padding of the keys is `[batch, keys]`.
    ///
    /// # Panics
    ///
    /// If it is not.
    pub fn check_padding(self, padding: &Shape) {
        let Self { batch, keys, .. } = self;
        let expected = [batch, keys];
        assert_eq!(padding[..], expected, "attention: `padding` must be [batch, keys] = {expected:?}, got {padding:?}");
    }

    /// Checks what the backward pass takes beside the operands.
    ///
    /// # Panics
    ///
    /// If the output or its gradient does not have the shape of the output and the operands' `dtype`, or the log-sum-exp is not `[batch,
    /// heads, queries]`.
    pub fn check_saved<T: TensorMetadata>(self, dtype: DType, output: &T, log_sum_exp: &T, output_grad: &T) {
        for (name, tensor) in [("output", output), ("output_grad", output_grad)] {
            let found = tensor.dtype();
            assert_eq!(found, dtype, "attention: `{name}` must be {dtype:?} as the operands, got {found:?}");
        }
        for (name, tensor, expected) in [
            ("output", output, self.output()),
            ("log_sum_exp", log_sum_exp, self.log_sum_exp()),
            ("output_grad", output_grad, self.output()),
        ] {
            let shape = tensor.shape();
            assert_eq!(shape, expected, "attention: `{name}` must be {expected:?}, got {shape:?}");
        }
        assert_eq!(
            output.dtype(),
            output_grad.dtype(),
            "attention: `output` and its gradient must have the same dtype"
        );
    }

    /// `1 / √d_head`.
    pub fn scale(self) -> f64 {
        (self.d_head as f64).sqrt().recip()
    }
}
