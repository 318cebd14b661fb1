//! Empty inputs, and what the public function says about operands that do not fit.
#![cfg(feature = "flex")]

use burn::tensor::{DType, Device, Tensor};
use burn_structured_ops::blast_linear;

fn zeros<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::zeros(shape, &Device::flex())
}

#[test]
fn no_tokens_give_no_output() {
    let y = blast_linear(zeros([3, 0, 6]), zeros([2, 2, 4]), zeros([2, 3, 4]), zeros([3, 2, 4]), None);
    assert_eq!(y.dims(), [3, 0, 4]);
}

#[test]
fn leading_axes_are_kept() {
    let y = blast_linear(zeros([5, 1, 7, 6]), zeros([2, 2, 4]), zeros([2, 3, 4]), zeros([3, 2, 4]), None);
    assert_eq!(y.dims(), [5, 1, 7, 4]);
    let y = blast_linear(zeros([6]), zeros([2, 2, 4]), zeros([2, 3, 4]), zeros([3, 2, 4]), None);
    assert_eq!(y.dims(), [4]);
}

#[test]
#[should_panic(expected = "the last axis of `x` must be n = b2 · n/b2 = 6 as `v` [3, 2, 4] says, got 5")]
fn a_wrong_input_size_is_named() {
    blast_linear(zeros([1, 5]), zeros([2, 2, 4]), zeros([2, 3, 4]), zeros([3, 2, 4]), None);
}

#[test]
#[should_panic(expected = "`s` must be [b1, b2, r] = [2, 3, 4]")]
fn wrong_couplings_are_named() {
    blast_linear(zeros([1, 6]), zeros([2, 2, 4]), zeros([3, 2, 4]), zeros([3, 2, 4]), None);
}

#[test]
#[should_panic(expected = "`u` has rank 4 (its last axis), so `v` must have the same, got [3, 2, 5]")]
fn unequal_ranks_are_named() {
    blast_linear(zeros([1, 6]), zeros([2, 2, 4]), zeros([2, 3, 4]), zeros([3, 2, 5]), None);
}

#[test]
#[should_panic(expected = "`bias` must have m = 4 elements")]
fn a_wrong_bias_is_named() {
    blast_linear(zeros([1, 6]), zeros([2, 2, 4]), zeros([2, 3, 4]), zeros([3, 2, 4]), Some(zeros([5])));
}

#[test]
#[should_panic(expected = "`s` and `x` must have the same dtype")]
fn mixed_dtypes_are_named() {
    let s = zeros([2, 3, 4]).cast(DType::F64);
    blast_linear(zeros([1, 6]), zeros([2, 2, 4]), s, zeros([3, 2, 4]), None);
}
