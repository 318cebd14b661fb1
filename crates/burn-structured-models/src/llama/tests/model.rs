use super::{random_model, tiny};
use crate::decoder::testing::random_tokens;
use crate::llama::LlamaConfig;
use burn::module::Module;
use burn::tensor::Device;
use burn_structured_nn::{Structure, StructuredLinearConfig};

#[test]
fn structured_weights_have_the_dense_variance() {
    let device = Device::flex();
    device.seed(2);
    let config = LlamaConfig::new(20).with_context(8).with_d_model(64).with_depth(1).with_heads(4).with_d_hidden(192);
    for name in Structure::NAMES {
        let model = config.clone().with_structure(name.parse().unwrap()).init(&device);
        for (layer, linear) in model.linears() {
            let ratio = linear.to_dense().square().mean().sqrt().into_scalar::<f64>() / 0.02;
            assert!((0.85..1.15).contains(&ratio), "{layer}, {name}: {ratio}");
            assert!(linear.bias().is_none(), "{layer}, {name}");
        }
    }
}

#[test]
fn hidden_states_end_in_the_features() {
    let device = Device::flex();
    let model = random_model(&tiny(), &device);
    let tokens = random_tokens(2, 6, 17, &device);
    let states = model.hidden_states(tokens.clone());
    assert_eq!(states.len(), 3);
    states[0].to_data().assert_eq(&model.tokens.forward(tokens.clone()).into_data(), true);
    states[1].to_data().assert_eq(&model.blocks[0].forward(states[0].clone()).into_data(), true);
    let features = model.features(tokens.clone());
    states[2].to_data().assert_eq(&features.to_data(), true);
    model.logits(features).into_data().assert_eq(&model.forward(tokens).into_data(), true);
}

#[test]
fn linears_have_the_names_of_checkpoints() {
    let device = Device::flex();
    let config = tiny().with_structures(r"layers\.1\.mlp\.up_proj=blast:b=2,r=4".parse().unwrap());
    let mut model = config.init(&device);
    let names: Vec<String> = model.linears().map(|(name, _)| name).collect();
    assert_eq!(names[..2], ["layers.0.self_attn.q_proj", "layers.0.self_attn.k_proj"]);
    assert_eq!((names.len(), names[13].as_str()), (14, "layers.1.mlp.down_proj"));
    let shapes: Vec<[usize; 2]> = model.linears().map(|(_, layer)| layer.to_dense().dims()).collect();
    assert_eq!(shapes[..7], [[16, 16], [8, 16], [8, 16], [16, 16], [24, 16], [24, 16], [16, 24]]);
    assert_eq!(model.factors().len(), 3);

    let structure: Structure = "low-rank:r=2".parse().unwrap();
    for (_, layer) in model.linears_mut().filter(|(name, _)| name.ends_with("q_proj")) {
        *layer = StructuredLinearConfig::new(16, 16, structure).with_bias(false).init(&device);
    }
    assert_eq!(model.factors().len(), 3 + 2 * 2);
}

#[test]
fn rules_choose_by_part_and_place() {
    let rules = "first=dense;attention=monarch:b=2,r=1;low-rank:r=2";
    let model = tiny().with_structures(rules.parse().unwrap()).init(&Device::flex());
    let names: Vec<&str> = model.linears().map(|(_, layer)| layer.structure().unwrap().name()).collect();
    let expected = [["dense"; 7], ["monarch", "monarch", "monarch", "monarch", "low-rank", "low-rank", "low-rank"]];
    assert_eq!(names, expected.concat());
}

#[test]
fn costs_add_up() {
    let device = Device::flex();
    let dense = tiny().init(&device).cost();
    // Query and output, key and value, and the three of the MLP, of two blocks.
    let weights = 2 * (2 * 16 * 16 + 2 * 16 * 8 + 3 * 16 * 24);
    assert_eq!((dense.replaced.params, dense.replaced_flops()), (weights, 2 * weights));
    // Embedding and head, and the norms of the blocks and the last one.
    assert_eq!(dense.params, weights + 2 * 17 * 16 + 5 * 16);
    // Two products with 12 keys and values for each of 16 query features in two blocks, and the head.
    assert_eq!(dense.other_flops, 2 * 2 * 2 * 12 * 16 + 2 * 16 * 17);
    assert_eq!((dense.model_flops_ratio(), dense.dense_params()), (1.0, dense.params));
    let wide = tiny().with_d_head(6).init(&device).cost();
    assert_eq!(wide.other_flops, 2 * 2 * 2 * 12 * 24 + 2 * 16 * 17);

    let blast = tiny().with_structure("blast:b=2,ratio=0.5".parse().unwrap()).init(&device).cost();
    assert!(blast.replaced.flops_ratio() <= 0.53, "{}", blast.replaced.flops_ratio());
    assert_eq!((blast.dense_model_flops(), blast.dense_params()), (dense.model_flops(), dense.params));
    let tied = tiny().with_head(None).init(&device).cost();
    assert_eq!((tied.params + 16 * 17, tied.other_flops), (dense.params, dense.other_flops));
}

#[test]
fn presets_have_their_published_sizes() {
    let params = |config: LlamaConfig| config.init(&Device::flex()).num_params();
    assert_eq!(params(LlamaConfig::tinyllama(32_000)), 1_100_048_384);
    assert_eq!(params(LlamaConfig::smollm2_135m(49_152)), 134_515_008);
    assert_eq!(params(LlamaConfig::llama3_2_1b(128_256)), 1_235_814_400);
    assert_eq!(params(LlamaConfig::tiny(256)), 2 * 256 * 128 + 4 * (3 * 128 * 128 + 3 * 128 * 384 + 2 * 128) + 128);
}

#[test]
fn sizes_are_those_of_the_configuration() {
    let model = tiny().with_d_head(6).with_rope_theta(500.0).init(&Device::flex());
    assert_eq!((model.vocab_size(), model.context(), model.d_model()), (17, 12, 16));
    assert_eq!((model.heads(), model.kv_heads(), model.rotary().d_head(), model.rotary().theta()), (4, 2, 6, 500.0));
    assert!(model.to_string().contains("RmsNorm"), "{model}");
}

#[test]
fn configuration_survives_its_text_form() {
    let config = tiny().with_structures("first=dense;blast:b=2,r=3".parse().unwrap()).with_head(None);
    let json = serde_json::to_string(&config).unwrap();
    assert!(json.contains(r#""structures":"first=dense;blast:b=2,r=3""#), "{json}");
    assert_eq!(serde_json::from_str::<LlamaConfig>(&json).unwrap(), config);
}

#[test]
fn errors_name_the_setting_or_the_layer() {
    let message = |config: LlamaConfig| config.try_init(&Device::flex()).unwrap_err().to_string();
    let divisor = "choose a divisor of it";
    assert_eq!(
        message(tiny().with_heads(3).with_kv_heads(3)),
        format!("heads = 3 does not divide d_model = 16; {divisor}, or set d_head")
    );
    assert_eq!(message(tiny().with_kv_heads(3)), format!("kv_heads = 3 does not divide heads = 4; {divisor}"));
    assert!(message(tiny().with_heads(16)).starts_with("d_head = 1 must be even, "));
    assert_eq!(message(tiny().with_d_hidden(0)), "d_hidden = 0 must be at least 1");
    assert_eq!(message(tiny().with_rope_theta(f64::NAN)), "rope_theta = NaN must be a number above 0");
    let message = |rules: &str| message(tiny().with_structures(rules.parse().unwrap()));
    let none = message("h.0.mlp.c_fc=dense");
    assert!(
        none.starts_with("the rule `h.0.mlp.c_fc=dense` matches no layer; the layers are layers.0.self_attn.q_proj, ")
    );
    let up = message(r"layers\.1\.mlp\.up_proj=blast:b=5,r=2");
    assert!(up.starts_with("layers.1.mlp.up_proj (16 → 24, blast:b=5,r=2): "), "{up}");
}
