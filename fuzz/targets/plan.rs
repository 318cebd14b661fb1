//! Any text as a plan: read, written, read again, and resolved on layers of several sizes.

#![no_main]

use burn_structured_checkpoint::{LinearInfo, Orientation};
use burn_structured_compress::plan::Plan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(plan) = Plan::from_toml(text) else { return };
    let written = plan.to_toml();
    let read = Plan::from_toml(&written).expect("what is written can be read");
    assert_eq!(read.to_toml(), written);
    let layers = [("h.0.attn.c_attn", 768, 2304), ("encoder.layer.1.output.dense", 1536, 384), ("a", 1, 1)];
    let layers = layers.map(|(name, d_input, d_output)| LinearInfo {
        name: name.into(),
        weight: format!("{name}.weight"),
        bias: None,
        d_input,
        d_output,
        orientation: Orientation::OutIn,
        block: None,
        fused: false,
    });
    if let Ok(planned) = plan.resolve(&layers) {
        for (planned, layer) in planned.iter().zip(&layers) {
            assert_eq!(planned.before.params, layer.d_input * layer.d_output);
        }
    }
    plan.unused(&layers);
});
