//! Random shapes and settings, valid and not: what can be built is a correct layer, what cannot is an error, and nothing
//! panics.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use burn_structured::nn::{BlockCount, Blocks, Rank, Structure, StructuredLinearConfig};
use proptest::prelude::*;

fn rank() -> impl Strategy<Value = Rank> {
    prop_oneof![(0usize..10).prop_map(Rank::Fixed), (-0.1f64..1.2).prop_map(Rank::Ratio), Just(Rank::Ratio(f64::NAN)),]
}

fn blocks() -> impl Strategy<Value = Blocks> {
    prop_oneof![
        Just(Blocks::Auto),
        (0usize..5).prop_map(Blocks::Square),
        (0usize..5, 0usize..5).prop_map(|(output, input)| Blocks::Grid { output, input }),
    ]
}

fn structure() -> impl Strategy<Value = Structure> {
    prop_oneof![
        Just(Structure::Dense),
        (blocks(), rank()).prop_map(|(blocks, rank)| Structure::Blast { blocks, rank }),
        rank().prop_map(|rank| Structure::LowRank { rank }),
        (0usize..5, 0usize..7, 0usize..7, any::<Option<u32>>()).prop_map(
            |(reduction, block_k, block_n, independent)| Structure::Ss1 { reduction, block_k, block_n, independent }
        ),
        (blocks(), rank()).prop_map(|(blocks, rank)| Structure::Monarch { blocks, rank }),
        prop_oneof![(0usize..6).prop_map(BlockCount::Fixed), (-0.1f64..1.2).prop_map(BlockCount::Ratio)]
            .prop_map(|blocks| Structure::BlockDiagonal { blocks }),
        (0usize..9, 0usize..6, rank()).prop_map(|(blocks, stride, rank)| Structure::Pixelfly { blocks, stride, rank }),
        (rank(), -0.1f64..1.2, prop::option::of(-1.0f64..9.0), any::<bool>())
            .prop_map(|(rank, width, sigma, sharp)| Structure::Gaudi { rank, width, sigma, sharp }),
        (blocks(), rank()).prop_map(|(blocks, rank)| Structure::Btt { blocks, rank }),
        (blocks(), rank()).prop_map(|(blocks, rank)| Structure::Kronecker { blocks, rank }),
    ]
}

/// Sides with few divisors and with many, and none at all.
fn side() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(0usize), 6 => 1usize..14, 6 => prop::sample::select(vec![8, 12, 16, 24, 36])]
}

fn values(length: usize, salt: usize) -> Vec<f32> {
    (0..length).map(|index| ((index * 37 + salt) % 101) as f32 / 50.0 - 1.0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_layers_are_correct_or_errors(
        structure in structure(),
        d_input in side(),
        d_output in side(),
        tokens in 0usize..4,
        bias in any::<bool>(),
    ) {
        let device = Device::flex();
        let config = StructuredLinearConfig::new(d_input, d_output, structure).with_bias(bias);
        let weight = Tensor::<2>::from_data(TensorData::new(values(d_output * d_input, 3), [d_output, d_input]), &device);
        match config.try_init(&device) {
            Err(error) => {
                prop_assert!(!error.to_string().is_empty());
                prop_assert!(config.from_dense(weight, None).is_err());
            }
            Ok(layer) => {
                prop_assert_eq!(layer.cost().params, layer.num_params());
                let x = Tensor::<2>::from_data(TensorData::new(values(tokens * d_input, 1), [tokens, d_input]), &device);
                let y = layer.forward(x.clone());
                prop_assert_eq!(y.dims(), [tokens, d_output]);
                if tokens > 0 {
                    let offset = layer.forward(Tensor::<2>::zeros([1, d_input], &device));
                    let expected = x.matmul(layer.to_dense().transpose()) + offset;
                    let error = (y - expected).abs().max().into_scalar::<f32>();
                    prop_assert!(error < 1e-4, "off by {}", error);
                }
                // Nothing is farther than the zero matrix, which every structure contains.
                let approximation = config.from_dense(weight, None);
                let relative_error = approximation.map(|approximation| approximation.relative_error);
                prop_assert!(matches!(relative_error, Ok(error) if error < 1.0 + 1e-5), "{:?}", relative_error);
            }
        }
    }

    #[test]
    fn text_forms_round_trip(structure in structure()) {
        let text = structure.to_string();
        match text.parse::<Structure>() {
            Ok(read) => prop_assert_eq!(read.to_string(), text),
            // What the text form does not parse is an error of `try_init` as well, for any sides.
            Err(_) => {
                let config = StructuredLinearConfig::new(144, 144, structure);
                prop_assert!(config.try_init(&Device::flex()).is_err(), "{}", text);
            }
        }
    }

    #[test]
    fn no_text_panics(text in "(dense|blast|low-rank|ss1|monarch|block-diagonal|pixelfly|gaudi|btt|kronecker|x)?:?([a-z]{0,6}=?[0-9x.-]{0,5},?){0,4}") {
        if let Ok(structure) = text.parse::<Structure>() {
            prop_assert_eq!(structure.to_string().parse::<Structure>(), Ok(structure));
        }
    }
}
