//! What holds for any file.

use burn_structured_checkpoint::{Checkpoint, Dtype, Manifest, TensorData, authors, family, linears, write};
use proptest::prelude::*;
use std::collections::BTreeMap;

const TYPES: [Dtype; 6] = [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::I64, Dtype::U8];

fn tensor() -> impl Strategy<Value = TensorData<'static>> {
    let name = "(encoder\\.layer\\.[0-9]\\.(attention\\.self\\.query|output\\.dense)|h\\.[0-9]\\.attn\\.c_attn|[a-z.\"é]{1,8})";
    let leaf = prop::sample::select(vec![".weight", ".bias", ".u", ".B", ""]);
    (name, leaf, prop::sample::select(TYPES.to_vec()), prop::collection::vec(0usize..4, 0..4)).prop_map(
        |(name, leaf, dtype, shape)| {
            let size = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            let bytes: Vec<u8> = (0..size).map(|at| at as u8).collect();
            TensorData { name: format!("{name}{leaf}"), dtype, shape, bytes: bytes.into() }
        },
    )
}

fn file() -> impl Strategy<Value = (Vec<TensorData<'static>>, BTreeMap<String, String>)> {
    let metadata = prop::collection::btree_map("[a-zé\\\\\" ]{0,4}", ".{0,8}", 0..3);
    (prop::collection::vec(tensor(), 0..6), metadata).prop_map(|(mut tensors, metadata)| {
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors.dedup_by(|a, b| a.name == b.name);
        (tensors, metadata)
    })
}

fn bytes_of(tensors: &[TensorData<'_>], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    write(&path, tensors, metadata).unwrap();
    std::fs::read(path).unwrap()
}

/// Everything that reads a checkpoint.
fn use_all(checkpoint: &Checkpoint) {
    for tensor in checkpoint.tensors() {
        let bytes = checkpoint.bytes(&tensor.name).unwrap();
        assert_eq!(bytes.len() * 8, tensor.elements() * tensor.dtype.bitsize());
        let _ = checkpoint.values(&tensor.name);
    }
    let _ = (family(checkpoint), checkpoint.manifest(), checkpoint.fingerprint(), authors::blast(checkpoint, None));
    for linear in linears(checkpoint) {
        assert_eq!(checkpoint.tensor(&linear.weight).unwrap().elements(), linear.d_input * linear.d_output);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn written_tensors_are_read((tensors, metadata) in file()) {
        let read = Checkpoint::from_bytes(bytes_of(&tensors, &metadata)).unwrap();
        prop_assert_eq!(read.metadata(), &metadata);
        prop_assert_eq!(read.tensors().count(), tensors.len());
        for TensorData { name, dtype, shape, bytes } in &tensors {
            let found = read.tensor(name).unwrap();
            prop_assert_eq!((found.dtype, &found.shape), (*dtype, shape));
            prop_assert_eq!(read.bytes(name).unwrap(), &**bytes);
        }
        use_all(&read);
    }

    #[test]
    fn the_reference_reads_what_is_written((tensors, metadata) in file()) {
        let bytes = bytes_of(&tensors, &metadata);
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        prop_assert_eq!(read.len(), tensors.len());
        for TensorData { name, dtype, shape, bytes } in &tensors {
            let found = read.tensor(name).unwrap();
            prop_assert_eq!((found.dtype(), found.shape(), found.data()), (*dtype, shape.as_slice(), &**bytes));
        }
    }

    /// What the reference refuses is refused; what is read besides can be used.
    #[test]
    fn damaged_files_are_errors_or_checkpoints(
        (tensors, metadata) in file(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = bytes_of(&tensors, &metadata);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
        let reference = safetensors::SafeTensors::deserialize(&bytes).is_ok();
        match Checkpoint::from_bytes(bytes.clone()) {
            Ok(checkpoint) => {
                prop_assert!(reference);
                use_all(&checkpoint);
            }
            Err(error) => prop_assert!(!error.to_string().contains('\u{1b}'), "{}", error),
        }
    }

    #[test]
    fn any_description_is_an_error_or_a_manifest(text in "\\PC{0,64}") {
        let mut metadata = BTreeMap::new();
        Manifest::new("test", 0).insert_into(&mut metadata);
        metadata.insert("burn_structured".into(), text);
        let _ = Checkpoint::from_bytes(bytes_of(&[], &metadata)).unwrap().manifest();
    }
}
