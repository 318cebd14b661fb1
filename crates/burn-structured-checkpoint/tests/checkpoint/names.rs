//! Which tensors are linear layers.

use crate::build::checkpoint;
use burn_structured_checkpoint::{BlockName, Checkpoint, Family, LinearInfo, Orientation, family, linears};

fn names(file: &Checkpoint) -> Vec<String> {
    linears(file).into_iter().map(|linear| linear.name).collect()
}

/// Two blocks of each layer, the second one first.
fn blocks(container: &str, layers: &[(&'static str, [usize; 2])], others: &[&str]) -> Checkpoint {
    let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
    for block in [10, 9] {
        for (layer, shape) in layers {
            shapes.push((format!("{container}.{block}.{layer}.weight"), shape.to_vec()));
            shapes.push((format!("{container}.{block}.norm.weight"), vec![4]));
        }
    }
    shapes.dedup();
    shapes.sort();
    shapes.dedup();
    shapes.extend(others.iter().map(|name| (name.to_string(), vec![6, 4])));
    let shapes: Vec<(&str, &[usize])> = shapes.iter().map(|(name, shape)| (&**name, &**shape)).collect();
    checkpoint(&shapes)
}

fn assert_order(file: &Checkpoint, container: &str, layers: &[(&'static str, [usize; 2])]) {
    let expected: Vec<String> = [9, 10]
        .into_iter()
        .flat_map(|block| layers.iter().map(move |(layer, _)| format!("{container}.{block}.{layer}")))
        .collect();
    assert_eq!(names(file), expected);
    assert!(linears(file).iter().all(|linear| linear.block == Some(9) || linear.block == Some(10)));
}

const BERT: [(&str, [usize; 2]); 6] = [
    ("attention.self.query", [4, 4]),
    ("attention.self.key", [4, 4]),
    ("attention.self.value", [4, 4]),
    ("attention.output.dense", [4, 4]),
    ("intermediate.dense", [8, 4]),
    ("output.dense", [4, 8]),
];

#[test]
fn linears_of_bert_are_those_of_its_layers() {
    let others = ["embeddings.word_embeddings.weight", "pooler.dense.weight", "cls.predictions.decoder.weight"];
    for prefix in ["", "bert.", "0.auto_model."] {
        let container = format!("{prefix}encoder.layer");
        let file = blocks(&container, &BERT, &others);
        assert_eq!(family(&file), Family::Bert);
        assert_order(&file, &container, &BERT);
        let expected = LinearInfo {
            name: format!("{container}.9.intermediate.dense"),
            weight: format!("{container}.9.intermediate.dense.weight"),
            bias: None,
            d_input: 4,
            d_output: 8,
            orientation: Orientation::OutIn,
            block: Some(9),
            fused: false,
        };
        assert_eq!(linears(&file)[4], expected);
    }
}

#[test]
fn linears_of_vision_transformers_have_either_kind_of_names() {
    let hugging_face = [
        ("attention.attention.query", [4, 4]),
        ("attention.attention.key", [4, 4]),
        ("attention.attention.value", [4, 4]),
        ("attention.output.dense", [4, 4]),
        ("intermediate.dense", [8, 4]),
        ("output.dense", [4, 8]),
    ];
    let file = blocks("vit.encoder.layer", &hugging_face, &["classifier.weight"]);
    assert_eq!(family(&file), Family::Vit);
    assert_order(&file, "vit.encoder.layer", &hugging_face);
    let timm = [("attn.qkv", [12, 4]), ("attn.proj", [4, 4]), ("mlp.fc1", [8, 4]), ("mlp.fc2", [4, 8])];
    let file = blocks("blocks", &timm, &["head.weight"]);
    assert_eq!(family(&file), Family::Vit);
    assert_order(&file, "blocks", &timm);
    assert_eq!(linears(&file).iter().filter(|linear| linear.fused).count(), 2);
}

#[test]
fn linears_of_gpt2_are_transposed() {
    let layers = [("attn.c_attn", [4, 12]), ("attn.c_proj", [4, 4]), ("mlp.c_fc", [4, 16]), ("mlp.c_proj", [16, 4])];
    for container in ["h", "transformer.h"] {
        let file = blocks(container, &layers, &["wte.weight", "wpe.weight", "lm_head.weight"]);
        assert_eq!(family(&file), Family::Gpt2);
        assert_order(&file, container, &layers);
        let found = linears(&file);
        let sides: Vec<_> = found[..4].iter().map(|linear| (linear.d_input, linear.d_output, linear.fused)).collect();
        assert_eq!(sides, [(4, 12, true), (4, 4, false), (4, 16, false), (16, 4, false)]);
        assert!(found.iter().all(|linear| linear.orientation == Orientation::InOut));
    }
    // Reimplementations with `Linear` under the same names.
    let layers = layers.map(|(name, [rows, columns])| (name, [columns, rows]));
    let found = linears(&blocks("transformer.h", &layers, &[]));
    assert_eq!((found[0].d_input, found[0].d_output, found[0].orientation), (4, 12, Orientation::OutIn));
    assert_eq!((found[3].d_input, found[3].d_output), (16, 4));
}

#[test]
fn linears_of_llama_are_in_order() {
    let layers = [
        ("self_attn.q_proj", [4, 4]),
        ("self_attn.k_proj", [2, 4]),
        ("self_attn.v_proj", [2, 4]),
        ("self_attn.o_proj", [4, 4]),
        ("mlp.gate_proj", [8, 4]),
        ("mlp.up_proj", [8, 4]),
        ("mlp.down_proj", [4, 8]),
    ];
    let file = blocks("model.layers", &layers, &["model.embed_tokens.weight", "lm_head.weight"]);
    assert_eq!(family(&file), Family::Llama);
    assert_order(&file, "model.layers", &layers);
}

#[test]
fn linears_of_unknown_models_are_matrices_that_are_no_embeddings() {
    let file = checkpoint(&[
        ("encoder.layers.10.fc.weight", &[4, 6]),
        ("encoder.layers.10.fc.bias", &[4]),
        ("encoder.layers.9.fc.weight", &[4, 6]),
        ("encoder.layers.9.fc.bias", &[5]),
        ("encoder.layers.9.norm.weight", &[4]),
        ("encoder.layers.9.conv.weight", &[4, 4, 3, 3]),
        ("encoder.layers.9.mask", &[4, 4]),
        ("encoder.layers.9.none.weight", &[0, 4]),
        ("encoder.embed_positions.weight", &[9, 4]),
        ("wte.weight", &[9, 4]),
        ("head.weight", &[2, 4]),
    ]);
    assert_eq!(family(&file), Family::Other);
    assert_eq!(names(&file), ["encoder.layers.9.fc", "encoder.layers.10.fc", "head"]);
    let found = linears(&file);
    assert_eq!((found[0].block, found[1].block, found[2].block), (Some(9), Some(10), None));
    // A bias of another length is none.
    assert_eq!((found[0].bias.as_deref(), found[1].bias.as_deref()), (None, Some("encoder.layers.10.fc.bias")));
    assert_eq!((found[0].d_input, found[0].d_output), (6, 4));
}

#[test]
fn family_of_several_models_is_other() {
    let file = checkpoint(&[
        ("encoder.encoder.layer.0.attention.attention.query.weight", &[4, 4]),
        ("decoder.transformer.h.0.attn.c_attn.weight", &[4, 12]),
        ("decoder.transformer.wte.weight", &[9, 4]),
    ]);
    assert_eq!(family(&file), Family::Other);
    let found = linears(&file);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].d_input, found[0].d_output, found[0].fused), (4, 12, true));
    assert_eq!((found[1].orientation, found[1].block), (Orientation::OutIn, Some(0)));
}

#[test]
fn family_is_told_by_factors_as_well() {
    let file = checkpoint(&[("bert.encoder.layer.0.attention.self.query.u", &[1, 4, 2]), ("head.weight", &[2, 4])]);
    assert_eq!((family(&file), names(&file)), (Family::Bert, Vec::new()));
}

#[test]
fn strange_names_are_no_layers() {
    let file = checkpoint(&[
        ("encoder.layer.0.attention.self.query.weight", &[4, 4]),
        ("encoder.layer.+1.attention.self.query.weight", &[4, 4]),
        ("encoder.layer.99999999999999999999999.attention.self.query.weight", &[4, 4]),
        ("xencoder.layer.0.attention.self.key.weight", &[4, 4]),
        ("encoder.layer..attention.self.key.weight", &[4, 4]),
        ("encoder.layer.0.xattention.self.key.weight", &[4, 4]),
        (".weight", &[4, 4]),
        ("weight", &[4, 4]),
    ]);
    assert_eq!(names(&file), ["encoder.layer.0.attention.self.query"]);
}

#[test]
fn block_name_is_the_first_number_behind_the_container() {
    for (family, name, block, renamed) in [
        (Family::Bert, "bert.encoder.layer.10.output.LayerNorm.bias", 10, "bert.encoder.layer.3.output.LayerNorm.bias"),
        (Family::Gpt2, "h.0.attn.bias", 0, "h.3.attn.bias"),
        (Family::Gpt2, "transformer.h.11.ln_1.weight", 11, "transformer.h.3.ln_1.weight"),
        (Family::Llama, "model.layers.7.input_layernorm.weight", 7, "model.layers.3.input_layernorm.weight"),
        (Family::Vit, "blocks.2.attn.qkv.weight", 2, "blocks.3.attn.qkv.weight"),
    ] {
        let found = BlockName::parse(family, name).unwrap();
        assert_eq!((found.block, found.of_block(3).as_str()), (block, renamed));
        assert_eq!(found.of_block(block), name);
    }
    for (family, name) in [
        (Family::Bert, "embeddings.LayerNorm.weight"),
        (Family::Bert, "encoder.layer.1"),
        (Family::Bert, "encoder.layer.x.output.dense.weight"),
        (Family::Bert, "encoder.layer..output.dense.weight"),
        (Family::Bert, "encoder.layers.1.output"),
        (Family::Gpt2, "wh.1.weight"),
        (Family::Gpt2, "h.-1.weight"),
        (Family::Other, "h.1.weight"),
    ] {
        assert_eq!(BlockName::parse(family, name), None, "{name}");
    }
}
