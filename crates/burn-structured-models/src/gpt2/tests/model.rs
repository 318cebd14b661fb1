use super::{random_model, tiny};
use crate::decoder::testing::random_tokens;
use crate::gpt2::Gpt2Config;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use burn_structured_nn::Structure;

#[test]
fn hidden_states_end_in_the_features() {
    let device = Device::flex();
    let model = random_model(&tiny(), &device);
    let tokens = random_tokens(2, 6, 17, &device);
    let states = model.hidden_states(tokens.clone());
    assert_eq!(states.len(), 3);
    let embedded = model.tokens.forward(tokens.clone()) + model.positions.weight.val().narrow(0, 0, 6).unsqueeze();
    states[0].to_data().assert_eq(&embedded.into_data(), true);
    let middle = model.blocks[0].forward(states[0].clone()).into_data();
    states[1].to_data().assert_eq(&middle, true);
    let features = model.features(tokens.clone());
    states[2].to_data().assert_eq(&features.to_data(), true);
    model.logits(features).into_data().assert_eq(&model.forward(tokens).into_data(), true);
}

#[test]
fn tied_head_trains_the_embedding_of_unseen_tokens() {
    let device = Device::flex().autodiff();
    let model = tiny().init(&device);
    let logits = model.forward(Tensor::<2, Int>::from_data([[1, 2]], &device));
    let gradients = logits.square().sum().backward();
    let gradient = model.tokens.weight.grad(&gradients).unwrap();
    assert!(gradient.abs().sum_dim(1).min().into_scalar::<f32>() > 0.0);
}

#[test]
fn linears_have_the_names_of_checkpoints() {
    let device = Device::flex();
    let config = tiny().with_structures(r"h\.1\.mlp\.c_fc=blast:b=2,r=4".parse().unwrap());
    let mut model = config.init(&device);
    let names: Vec<String> = model.linears().map(|(name, _)| name).collect();
    let block =
        |layer| ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"].map(|name| format!("h.{layer}.{name}"));
    assert_eq!(names, [block(0), block(1)].concat());
    let shapes: Vec<[usize; 2]> = model.linears().map(|(_, layer)| layer.to_dense().dims()).collect();
    assert_eq!(shapes[..4], [[48, 16], [16, 16], [64, 16], [16, 64]]);
    assert_eq!(model.factors().len(), 3);

    let structure: Structure = "low-rank:r=2".parse().unwrap();
    for (name, layer) in model.linears_mut().filter(|(name, _)| name.ends_with("c_attn")) {
        let config = burn_structured_nn::StructuredLinearConfig::new(16, 48, structure);
        *layer = config.init(&device);
        assert!(name.contains(".attn."), "{name}");
    }
    assert_eq!(model.factors().len(), 3 + 2 * 2);
}

#[test]
fn costs_add_up() {
    let device = Device::flex();
    let dense = tiny().init(&device).cost();
    // qkv, proj, fc1 and fc2 of two blocks, with their biases.
    let (weights, biases) = (2 * (16 * 48 + 16 * 16 + 2 * 16 * 64), 2 * (48 + 16 + 64 + 16));
    assert_eq!(dense.replaced.params, weights + biases);
    assert_eq!(dense.replaced_flops(), 2 * weights + biases);
    // Embeddings, and the norms of the blocks and the last one.
    assert_eq!(dense.params, weights + biases + (17 + 12) * 16 + 5 * 2 * 16);
    // Two products with 12 keys and values in two blocks, and the head.
    assert_eq!(dense.other_flops, 2 * 2 * 2 * 12 * 16 + 2 * 16 * 17);
    assert_eq!(dense.model_flops(), dense.replaced_flops() + dense.other_flops);
    assert_eq!((dense.model_flops_ratio(), dense.dense_params()), (1.0, dense.params));

    let blast = tiny().with_structure("blast:b=2,ratio=0.4".parse().unwrap()).init(&device).cost();
    assert!(blast.replaced.flops_ratio() <= 0.43, "{}", blast.replaced.flops_ratio());
    assert_eq!((blast.dense_model_flops(), blast.dense_params()), (dense.model_flops(), dense.params));
    assert_eq!(blast.params + dense.replaced.params, dense.params + blast.replaced.params);
}

#[test]
fn structured_head_is_replaced_and_untied() {
    let device = Device::flex();
    let tied = tiny().init(&device).cost();
    let untied = tiny().with_head(Some(Structure::Dense)).init(&device);
    assert_eq!(untied.cost().params, tied.params + 16 * 17);
    assert_eq!((untied.cost().replaced, untied.cost().other_flops), (tied.replaced, tied.other_flops));

    let structured = tiny().with_head(Some("low-rank:r=2".parse().unwrap())).init(&device);
    let cost = structured.cost();
    assert_eq!(cost.params, tied.params + 2 * (16 + 17));
    assert_eq!(cost.replaced.params, tied.replaced.params + 2 * (16 + 17));
    assert_eq!(cost.dense_model_flops(), tied.model_flops());
    assert_eq!(structured.factors().len(), 2);
    let logits = structured.forward(random_tokens(1, 4, 17, &device));
    assert_eq!(logits.dims(), [1, 4, 17]);
}

#[test]
fn presets_have_their_published_sizes() {
    let params = |config: Gpt2Config| config.init(&Device::flex()).num_params();
    assert_eq!(params(Gpt2Config::small(50_257)), 124_439_808);
    assert_eq!(params(Gpt2Config::medium(50_257)), 354_823_168);
    // nanoGPT counts 0.80 million without biases and positions.
    assert_eq!(params(Gpt2Config::nano(65)) - 64 * 128 - 4 * (3 + 1 + 4 + 1 + 2) * 128 - 128, 795_904);
}

#[test]
fn sizes_are_those_of_the_configuration() {
    let config = tiny().with_d_hidden(24);
    let model = config.init(&Device::flex());
    assert_eq!((model.vocab_size(), model.context(), model.d_model(), model.heads()), (17, 12, 16, 2));
    assert_eq!(model.blocks[0].fc1.to_dense().dims(), [24, 16]);
    assert_eq!((config.mlp_features(), tiny().mlp_features()), (24, 64));
}

#[test]
fn configuration_survives_its_text_form() {
    let config = tiny().with_structures("first=dense;blast:b=2,r=3".parse().unwrap()).with_head(Some(Structure::Dense));
    let json = serde_json::to_string(&config).unwrap();
    assert!(json.contains(r#""structures":"first=dense;blast:b=2,r=3""#), "{json}");
    assert_eq!(serde_json::from_str::<Gpt2Config>(&json).unwrap(), config);
}

#[test]
fn errors_name_the_setting_or_the_layer() {
    let message = |config: Gpt2Config| config.try_init(&Device::flex()).unwrap_err().to_string();
    assert_eq!(message(tiny().with_heads(3)), "heads = 3 does not divide d_model = 16; choose a divisor of it");
    assert_eq!(message(tiny().with_context(0)), "context = 0 must be at least 1");
    assert_eq!(message(tiny().with_dropout(1.0)), "dropout = 1 is no probability from 0 to below 1");
    assert_eq!(message(tiny().with_norm_epsilon(0.0)), "norm_epsilon = 0 must be a number above 0, such as 0.00001");
    let message = |rules: &str| message(tiny().with_structures(rules.parse().unwrap()));
    assert!(message("h.2.attn.c_proj=dense").starts_with("the rule `h.2.attn.c_proj=dense` matches no layer; "));
    let fc = message("mlp=blast:b=3,r=2");
    assert!(fc.starts_with("h.0.mlp.c_fc (16 → 64, blast:b=3,r=2): d_output = 64 cannot be cut into 3"), "{fc}");
}
