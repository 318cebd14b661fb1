//! Closed forms for known inputs: optimal, and equal to the plain approximation for white inputs.

use super::targets::drawn;
use super::tensor;
use burn::tensor::{DType, Tensor};
use burn_structured_compress::approximate;
use burn_structured_compress::calibrate::Moment;
use burn_structured_nn::{
    Approximation, Blocks, LowRankLinearConfig, MonarchLinearConfig, Rank, Ss1Hash, Ss1LinearConfig,
};

const M: usize = 18;
const N: usize = 24;

/// Correlated inputs of different sizes, and their moment.
fn inputs() -> (Tensor<2>, Moment) {
    let inputs = drawn([300, N], 41).matmul(drawn([N, N], 42));
    let mut moment = Moment::new(N);
    moment.add(inputs.clone()).unwrap();
    (inputs, moment)
}

/// `‖X (W − Ŵ)ᵀ‖ / ‖X Wᵀ‖`.
fn output_error(inputs: &Tensor<2>, weight: &Tensor<2>, dense: Tensor<2>) -> f64 {
    let norm = |outputs: Tensor<2>| outputs.powf_scalar(2.0).sum().sqrt().into_scalar::<f64>();
    let outputs = |weight: Tensor<2>| inputs.clone().matmul(weight.transpose());
    norm(outputs(dense - weight.clone())) / norm(outputs(weight.clone()))
}

/// An approximation, plain or for known inputs: its dense matrix and the error that it reports.
type ApproximateFn<'a> = Box<dyn Fn(Tensor<2>, Option<&Moment>) -> (Tensor<2>, f64) + 'a>;

fn approximations() -> Vec<(&'static str, ApproximateFn<'static>)> {
    let low_rank = LowRankLinearConfig::new(N, M).with_rank(Rank::Fixed(5)).with_bias(false);
    let monarch = |b1: usize, b2: usize, rank: usize| {
        let blocks = Blocks::Grid { output: b1, input: b2 };
        MonarchLinearConfig::new(N, M).with_blocks(blocks).with_rank(Rank::Fixed(rank)).with_bias(false)
    };
    let (monarch, whole) = (monarch(3, 2, 2), monarch(3, 1, 3));
    let ss1 = |hash: Ss1Hash| {
        let config = Ss1LinearConfig::new(N, M).with_reduction(3).with_block_k(4).with_block_n(5);
        config.with_hash(hash).with_bias(false)
    };
    let (additive, independent) = (ss1(Ss1Hash::default()), ss1(Ss1Hash::Independent { seed: 3, signs: true }));
    fn dense<L>(found: Approximation<L>, to_dense: impl Fn(&L) -> Tensor<2>) -> (Tensor<2>, f64) {
        (to_dense(&found.layer), found.relative_error)
    }
    let for_monarch = |config: MonarchLinearConfig| -> ApproximateFn<'static> {
        Box::new(move |weight, moment| {
            let found = match moment {
                Some(moment) => approximate::monarch(&config, weight, None, moment).unwrap(),
                None => config.from_dense(weight, None).unwrap(),
            };
            dense(found, |layer| layer.to_dense())
        })
    };
    let for_ss1 = |config: Ss1LinearConfig| -> ApproximateFn<'static> {
        Box::new(move |weight, moment| {
            let found = match moment {
                Some(moment) => approximate::ss1(&config, weight, None, moment).unwrap(),
                None => config.from_dense(weight, None).unwrap(),
            };
            dense(found, |layer| layer.to_dense())
        })
    };
    let for_low_rank: ApproximateFn<'static> = Box::new(move |weight, moment| {
        let found = match moment {
            Some(moment) => approximate::low_rank(&low_rank, weight, None, moment).unwrap(),
            None => low_rank.from_dense(weight, None).unwrap(),
        };
        dense(found, |layer| layer.to_dense())
    });
    vec![
        ("low rank", for_low_rank),
        ("monarch", for_monarch(monarch)),
        ("monarch with one column block", for_monarch(whole)),
        ("additive ss1", for_ss1(additive)),
        ("independent ss1", for_ss1(independent)),
    ]
}

#[test]
fn closed_form_lowers_the_output_error() {
    let (inputs, moment) = inputs();
    let weight = drawn([M, N], 43);
    for (name, approximate) in approximations() {
        let (plain, _) = approximate(weight.clone(), None);
        let (calibrated, reported) = approximate(weight.clone(), Some(&moment));
        let (plain, calibrated) = (output_error(&inputs, &weight, plain), output_error(&inputs, &weight, calibrated));
        assert!(calibrated < 0.95 * plain, "{name}: {calibrated} against {plain}");
        assert!((reported / calibrated - 1.0).abs() < 1e-6, "{name}: {reported} for {calibrated}");
    }
}

#[test]
fn closed_form_of_white_inputs_is_the_plain_one() {
    let identity = Tensor::<2>::eye(N, &super::device()).cast(DType::F64);
    let mut white = Moment::new(N);
    white.add(identity).unwrap();
    let weight = drawn([M, N], 44);
    for (name, approximate) in approximations() {
        let (plain, error) = approximate(weight.clone(), None);
        let (calibrated, reported) = approximate(weight.clone(), Some(&white));
        let difference = (plain - calibrated).abs().max().into_scalar::<f64>();
        assert!(difference < 1e-9, "{name}: {difference}");
        assert!((error - reported).abs() < 1e-9, "{name}: {reported} for {error}");
    }
}

/// Moving any weight of an optimum raises the error.
#[test]
fn closed_form_has_no_gradient() {
    let (_, moment) = inputs();
    let weight = drawn([M, N], 45);
    let c = tensor(moment.sum().iter().map(|sum| sum / moment.tokens() as f64).collect(), [N, N]);
    let gradient = |dense: &Tensor<2>| (dense.clone() - weight.clone()).matmul(c.clone());
    // A low-rank optimum Ŵ = U Vᵀ has gradients (Ŵ − W) C V = 0 and Uᵀ (Ŵ − W) C = 0.
    let config = LowRankLinearConfig::new(N, M).with_rank(Rank::Fixed(4));
    let layer = approximate::low_rank(&config, weight.clone(), None, &moment).unwrap().layer;
    let gradient_of = gradient(&layer.to_dense());
    for product in [gradient_of.clone().matmul(layer.v.val()), layer.ut.val().matmul(gradient_of)] {
        let largest = product.abs().max().into_scalar::<f64>();
        assert!(largest < 1e-8, "{largest}");
    }
    // The tied entries of an SS1 optimum's gradient cancel.
    let hash = Ss1Hash::Independent { seed: 5, signs: true };
    let config = Ss1LinearConfig::new(N, M).with_reduction(2).with_block_k(6).with_block_n(4).with_hash(hash);
    let layer = approximate::ss1(&config, weight.clone(), None, &moment).unwrap().layer;
    let tied = config.from_dense(gradient(&layer.to_dense()), None).unwrap().layer.z.val();
    let largest = tied.abs().max().into_scalar::<f64>();
    assert!(largest < 1e-9, "{largest}");
}

#[test]
fn mismatched_shape_or_moment_is_named() {
    let (_, moment) = inputs();
    let config = LowRankLinearConfig::new(N, M).with_rank(Rank::Fixed(4));
    let error = approximate::low_rank(&config, drawn([M, N + 1], 1), None, &moment).unwrap_err().to_string();
    assert!(error.contains("[18, 25]") && error.contains("[18, 24]"), "{error}");
    let few = Moment::new(N);
    let error = approximate::low_rank(&config, drawn([M, N], 1), None, &few).unwrap_err().to_string();
    assert!(error.contains("not positive definite; calibrate on more text"), "{error}");
    let error = approximate::low_rank(&config, drawn([M, N], 1), None, &Moment::new(3)).unwrap_err().to_string();
    assert!(error.contains("3 features"), "{error}");
}
