//! Attention on Flex: blocks of keys through both products while they are in cache, from operands in place.
//!
//! ```text
//! pack.rs       tokens transposed into panels
//! heads.rs      one head's matrices, and the keys that its queries see
//! forward.rs    queries in tiles, blocks of keys packed once
//! few.rs        up to a few queries: keys and values read once, in place
//! gradients.rs  blocks of transposed scores, recomputed
//! softmax.rs    what happens to a block of scores
//! exp.rs        the exponential function of a register
//! ```

mod exp;
mod few;
mod forward;
mod gradients;
mod heads;
mod pack;
mod softmax;

use super::reference::{computed, parts};
use super::shapes::Sizes;
use super::{AttentionBackend, KeyPadding};
use crate::cpu::{ThreadTeam, contiguous, from_native, on_pool, to_native, with_native};
use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn_flex::FlexTensor;
use heads::{Heads, Mask};

/// Multiplications below which one thread is fastest.
const MIN_SHARED: usize = 1 << 18;

impl AttentionBackend for Flex {
    fn attention_forward(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        padding: KeyPadding<Self>,
        causal: bool,
    ) -> FloatTensor<Self> {
        forward([query, key, value], padding, causal, false).0
    }

    fn attention_forward_saving(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        padding: KeyPadding<Self>,
        causal: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (output, log_sum_exp) = forward([query, key, value], padding, causal, true);
        (output, log_sum_exp.expect("it is saved"))
    }

    fn attention_gradients(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        padding: KeyPadding<Self>,
        causal: bool,
        output: FloatTensor<Self>,
        log_sum_exp: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let saved = [output, log_sum_exp, output_grad];
        let gradients = gradients([query, key, value], padding, causal, saved, false);
        <[FlexTensor; 3]>::try_from(gradients).expect("three gradients").into()
    }

    fn self_attention_gradient(
        qkv: FloatTensor<Self>,
        padding: KeyPadding<Self>,
        causal: bool,
        output: FloatTensor<Self>,
        log_sum_exp: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let saved = [output, log_sum_exp, output_grad];
        gradients(parts::<Self>(qkv), padding, causal, saved, true).remove(0)
    }
}

/// The gradients of query, key and value, or one tensor that they are parts of if they are `packed`.
fn gradients(
    operands: [FlexTensor; 3],
    padding: KeyPadding<Flex>,
    causal: bool,
    [output, log_sum_exp, output_grad]: [FlexTensor; 3],
    packed: bool,
) -> Vec<FlexTensor> {
    let sizes = Sizes::of_operands(operands.each_ref());
    padding.check(sizes);
    sizes.check_saved(operands[0].dtype(), &output, &log_sum_exp, &output_grad);
    let dtype = operands[0].dtype();
    assert!(output.dtype() == dtype && log_sum_exp.dtype() == computed(dtype), "attention: dtypes of what is saved");
    let [query, key, value] = operands.map(|tensor| with_contiguous_features(to_native(tensor)));
    let [output, output_grad] = [output, output_grad].map(|tensor| with_contiguous_features(to_native(tensor)));
    let log_sum_exp = log_sum_exp.to_contiguous();
    let gradients = with_native!(query.dtype(), E => {
        let heads = Heads::<E>::new(sizes, [&query, &key, &value], Mask::new(padding, causal, sizes));
        let gradients = run(5 * heads.multiplications() / 2, sizes.batch * sizes.queries, |team| {
            gradients::gradients(team, &heads, [&output, &log_sum_exp, &output_grad], packed)
        });
        gradients.into_iter().map(|(values, shape)| contiguous(values, shape)).collect::<Vec<_>>()
    });
    gradients.into_iter().map(|gradient| from_native(gradient, dtype)).collect()
}

/// The output and, if it is saved, the log-sum-exp.
fn forward(
    operands: [FlexTensor; 3],
    padding: KeyPadding<Flex>,
    causal: bool,
    saved: bool,
) -> (FlexTensor, Option<FlexTensor>) {
    let sizes = Sizes::of_operands(operands.each_ref());
    padding.check(sizes);
    let dtype = operands[0].dtype();
    let [query, key, value] = operands.map(|tensor| with_contiguous_features(to_native(tensor)));
    let (output, log_sum_exp) = with_native!(query.dtype(), E => {
        let heads = Heads::<E>::new(sizes, [&query, &key, &value], Mask::new(padding, causal, sizes));
        let (output, log_sum_exp) = run(heads.multiplications(), sizes.batch * sizes.queries, |team| {
            forward::forward(team, &heads, saved)
        });
        (contiguous(output, sizes.output()), log_sum_exp.map(|values| contiguous(values, sizes.log_sum_exp())))
    });
    (from_native(output, dtype), log_sum_exp)
}

/// Runs something of so many multiplications for so many tokens, with a thread team if that is worth it.
fn run<R: Send>(multiplications: usize, tokens: usize, body: impl FnOnce(Option<&ThreadTeam>) -> R + Send) -> R {
    if multiplications < MIN_SHARED {
        return body(None);
    }
    on_pool(tokens, || body(Some(&ThreadTeam::default())))
}

/// Runs `task` for `0 .. tasks`, on the threads of a team if there is one.
fn for_each_task(team: Option<&ThreadTeam>, tasks: usize, task: impl Fn(usize) + Sync) {
    match team {
        Some(team) => team.parallel_for(tasks, task),
        None => (0..tasks).for_each(task),
    }
}

/// A tensor `[batch, tokens, heads, features]` itself if each token's features are contiguous, a copy elsewhere.
fn with_contiguous_features(tensor: FlexTensor) -> FlexTensor {
    let (shape, strides) = (tensor.layout().shape(), tensor.layout().strides());
    if (strides[3] == 1 || shape[3] == 1) && strides[1] >= 0 { tensor } else { tensor.to_contiguous() }
}
