//! Any bytes as a safetensors file: an error, or a checkpoint whose every tensor can be read.
#![no_main]

use burn_structured_checkpoint::authors::{self, CouplingOrder};
use burn_structured_checkpoint::{Checkpoint, family, linears};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(checkpoint) = Checkpoint::from_bytes(data.to_vec()) else { return };
    let mut total = 0;
    for tensor in checkpoint.tensors() {
        let bytes = checkpoint.bytes(&tensor.name).unwrap();
        assert_eq!(bytes.len() * 8, tensor.elements() * tensor.dtype.bitsize());
        assert!(tensor.name.chars().all(|c| !c.is_control()));
        total += bytes.len();
        if let Ok(values) = checkpoint.values(&tensor.name) {
            assert_eq!(values.len(), tensor.elements());
        }
    }
    assert!(total < data.len());
    assert_eq!(checkpoint.fingerprint().len(), 64);
    if let Ok(Some(manifest)) = checkpoint.manifest() {
        assert!(manifest.layers.values().all(|entry| entry.d_input.checked_mul(entry.d_output).is_some()));
    }
    let _ = family(&checkpoint);
    for linear in linears(&checkpoint) {
        let weight = checkpoint.tensor(&linear.weight).unwrap();
        assert_eq!(weight.elements(), linear.d_input * linear.d_output);
        assert_eq!(checkpoint.values(&linear.weight).unwrap().len(), weight.elements());
    }
    for order in [None, Some(CouplingOrder::BlocksFirst), Some(CouplingOrder::RankFirst)] {
        if let Ok(import) = authors::blast(&checkpoint, order) {
            let bytes: usize = import.tensors.iter().map(|tensor| tensor.bytes.len()).sum();
            assert_eq!(bytes, total);
        }
    }
});
