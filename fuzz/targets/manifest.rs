//! Any text as the description of a checkpoint, and any names of its tensors.
//!
//! The first line is the description, each other line a shape, as one digit for each side, and a name.
#![no_main]

use burn_structured_checkpoint::{Checkpoint, MANIFEST_KEY, family, linears};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

fuzz_target!(|text: &str| {
    let (manifest, names) = text.split_once('\n').unwrap_or((text, ""));
    let mut header = Map::from_iter([("__metadata__".to_string(), json!({ MANIFEST_KEY: manifest }))]);
    let mut end = 0;
    for line in names.lines().take(64) {
        let digits = line.bytes().take(3).take_while(u8::is_ascii_digit).count();
        let (shape, name) = line.split_at(digits);
        let shape: Vec<u64> = shape.bytes().map(|digit| u64::from(digit - b'0')).collect();
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        if header.contains_key(name) {
            return;
        }
        header.insert(name.to_string(), json!({ "dtype": "F16", "shape": shape, "data_offsets": [start, end] }));
    }
    let header = Value::from(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + end as usize, 0);
    let Ok(checkpoint) = Checkpoint::from_bytes(bytes) else { return };
    let _ = family(&checkpoint);
    for linear in linears(&checkpoint) {
        assert!(checkpoint.tensor(&linear.weight).is_some() && linear.d_input > 0 && linear.d_output > 0);
    }
    if let Ok(Some(manifest)) = checkpoint.manifest() {
        let text = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<burn_structured_checkpoint::Manifest>(&text).unwrap(), manifest);
        for (layer, entry) in &manifest.layers {
            assert!(checkpoint.tensor(&format!("{layer}.weight")).is_none());
            assert!(entry.dtype().is_some());
        }
    }
});
