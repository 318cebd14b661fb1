//! Layers of every structure, written and read.

use crate::build::{counting, of_tensors};
use burn::module::Module;
use burn::tensor::{DType, Device, Distribution, Tensor, Tolerance};
use burn_structured_checkpoint::{
    Checkpoint, CheckpointError, Dtype, LayerEntry, Manifest, Orientation, TensorData, authors, dense_tensor, layer,
    layer_entry, layer_tensors,
};
use burn_structured_nn::{Ss1Hash, Ss1LinearConfig, StructuredLinear, StructuredLinearConfig};
use std::collections::BTreeMap;

const STRUCTURES: [&str; 14] = [
    "blast:b=2x4,r=5",
    "blast:b=4,r=1",
    "low-rank:r=5",
    "ss1:c=2,k=4,n=6",
    "ss1:c=2,k=3,n=7,hash=independent,seed=9",
    "monarch:b=4x2,r=2",
    "block-diagonal:b=4",
    "pixelfly:b=4,stride=2,r=2",
    "gaudi:r=4",
    "gaudi:r=4,width=0.25,sigma=5,windows=sharp",
    "btt:r=2",
    "btt:b=2x4,r=1",
    "kronecker:r=3",
    "kronecker:b=4x2,r=1",
];

fn new(text: &str, bias: bool) -> StructuredLinear {
    StructuredLinearConfig::new(16, 24, text.parse().unwrap()).with_bias(bias).init(&Device::flex())
}

fn saved(name: &str, layer: &StructuredLinear) -> (Vec<TensorData<'static>>, LayerEntry) {
    let entry = layer_entry(layer, Orientation::OutIn, Dtype::F32, Some(0.5)).unwrap();
    (layer_tensors(name, layer), entry)
}

fn written(tensors: &[TensorData<'_>], name: &str, entry: LayerEntry) -> Checkpoint {
    let mut metadata = BTreeMap::new();
    let layers = BTreeMap::from([(name.to_string(), entry)]);
    Manifest { layers, ..Manifest::new("test", 0) }.insert_into(&mut metadata);
    of_tensors(tensors, &metadata)
}

fn refused(tensors: &[TensorData<'_>], entry: LayerEntry) -> String {
    match layer(&written(tensors, "fc", entry), "fc", &Device::flex()) {
        Ok(layer) => panic!("{layer} was read"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn layer_reads_every_structure() {
    let device = Device::flex();
    device.seed(3);
    let x = Tensor::<2>::random([5, 16], Distribution::Default, &device);
    for (text, bias) in STRUCTURES.iter().zip([true, false].into_iter().cycle()) {
        let original = new(text, bias);
        let (tensors, entry) = saved("block.0.fc", &original);
        let file = written(&tensors, "block.0.fc", entry.clone());
        assert_eq!((entry.d_input, entry.d_output), (16, 24));
        let read = layer(&file, "block.0.fc", &device).unwrap();
        let expected = original.forward(x.clone()).into_data();
        read.forward(x.clone()).into_data().assert_eq(&expected, true);
        assert_eq!(read.structure(), original.structure(), "{text}");
        // What is read is written again.
        let (again, again_entry) = saved("block.0.fc", &read);
        assert_eq!(again_entry, entry);
        for (a, b) in tensors.iter().zip(&again) {
            assert_eq!((&a.name, &a.bytes), (&b.name, &b.bytes), "{text}");
        }
    }
}

/// Those with an int8 form.
fn quantized() -> impl Iterator<Item = (&'static str, StructuredLinear)> {
    let structures = STRUCTURES.into_iter().chain(["dense"]);
    structures.filter_map(|text| Some((text, new(text, true).quantize().ok()?)))
}

#[test]
fn layer_reads_int8_weights_of_every_structure() {
    let device = Device::flex();
    let x = Tensor::<2>::random([5, 16], Distribution::Default, &device);
    assert_eq!(quantized().count(), 10);
    for (text, original) in quantized() {
        let (tensors, entry) = saved("block.0.fc", &original);
        assert!(entry.int8, "{text}");
        let integers: usize =
            tensors.iter().filter(|tensor| tensor.dtype == Dtype::I8).map(|tensor| tensor.bytes.len()).sum();
        assert!(integers > 0 && integers <= 16 * 24, "{text}: {integers}");
        let file = written(&tensors, "block.0.fc", entry.clone());
        let read = layer(&file, "block.0.fc", &device).unwrap();
        read.forward(x.clone()).into_data().assert_eq(&original.forward(x.clone()).into_data(), true);
        assert_eq!((read.structure(), read.is_int8()), (original.structure(), true), "{text}");
        let (again, again_entry) = saved("block.0.fc", &read);
        assert_eq!(again_entry, entry);
        for (a, b) in tensors.iter().zip(&again) {
            assert_eq!((&a.name, &a.bytes), (&b.name, &b.bytes), "{text}");
        }
    }
}

#[test]
fn int8_weights_that_do_not_fit_are_refused() {
    let (tensors, entry) = saved("fc", &new("blast:b=2x4,r=5", true).quantize().unwrap());
    // The floats of the same structure.
    let floats = saved("fc", &new("blast:b=2x4,r=5", true)).0;
    let message = refused(&floats, entry.clone());
    assert!(message.contains("has no tensor fc.u_scale; "), "{message}");
    let message = refused(&tensors, LayerEntry { int8: false, ..entry.clone() });
    assert!(message.contains("fc.v has shape [4, 5, 4] instead of [4, 4, 5]"), "{message}");
    let mut lowest = tensors.clone();
    lowest.iter_mut().find(|tensor| tensor.name == "fc.u").unwrap().bytes.to_mut()[7] = 128;
    let message = refused(&lowest, entry.clone());
    assert!(message.contains("weights are from -127 to 127"), "{message}");
    let message = refused(&tensors, LayerEntry { structure: "kronecker:b=4x2,r=1".into(), ..entry });
    assert!(message.contains("a kronecker layer has no int8 form"), "{message}");
}

#[test]
fn layer_tensors_are_named_as_in_a_model() {
    let names = |text: &str| -> Vec<String> {
        layer_tensors("a.b", &new(text, true)).into_iter().map(|tensor| tensor.name).collect()
    };
    assert_eq!(names("blast:b=2,r=3"), ["a.b.u", "a.b.s", "a.b.v", "a.b.bias"]);
    assert_eq!(names("low-rank:r=3"), ["a.b.v", "a.b.ut", "a.b.bias"]);
    assert_eq!(names("dense"), ["a.b.weight", "a.b.bias"]);
    let ss1 = names("ss1:c=2,k=4");
    assert_eq!(ss1, ["a.b.z", "a.b.bias", "a.b.hash"]);
    let int8: Vec<String> = layer_tensors("a.b", &new("blast:b=2,r=3", true).quantize().unwrap())
        .into_iter()
        .map(|tensor| tensor.name)
        .collect();
    assert_eq!(int8, ["a.b.u", "a.b.u_scale", "a.b.s", "a.b.v", "a.b.v_scale", "a.b.bias"]);
}

#[test]
fn layer_draws_no_random_numbers() {
    let device = Device::flex();
    let drawn = |read: bool| {
        device.seed(11);
        if read {
            for text in ["blast:b=2,r=3", "low-rank:r=3", "ss1:c=2,k=4", "monarch:b=2,r=2"] {
                let (tensors, entry) = saved("fc", &new(text, true));
                let file = written(&tensors, "fc", entry);
                device.seed(11);
                layer(&file, "fc", &device).unwrap();
            }
        }
        Tensor::<1>::random([4], Distribution::Default, &device).into_data()
    };
    drawn(true).assert_eq(&drawn(false), true);
}

#[test]
fn layer_takes_factors_of_half_precision_and_gradients() {
    let device = Device::flex().autodiff();
    let (mut tensors, entry) = saved("fc", &new("low-rank:r=5", true));
    for tensor in &mut tensors {
        let values: Vec<f32> = tensor.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        tensor.bytes =
            values.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes()).collect::<Vec<_>>().into();
        tensor.dtype = Dtype::BF16;
    }
    let read = layer(&written(&tensors, "fc", entry), "fc", &device).unwrap();
    let StructuredLinear::LowRank(low_rank) = &read else { panic!("{read}") };
    assert_eq!(low_rank.v.val().dtype(), DType::F32);
    let gradients = read.forward(Tensor::<2>::ones([1, 16], &device)).sum().backward();
    assert!(low_rank.v.grad(&gradients).is_some());
}

#[test]
fn missing_and_misshapen_factors_are_refused() {
    for text in STRUCTURES {
        let (tensors, entry) = saved("fc", &new(text, true));
        for (position, tensor) in tensors.iter().enumerate().filter(|(_, tensor)| tensor.name != "fc.bias") {
            let mut fewer = tensors.clone();
            fewer.remove(position);
            if fewer.iter().any(|tensor| tensor.name != "fc.bias") {
                let message = refused(&fewer, entry.clone());
                assert!(message.contains(&format!("has no tensor {}; ", tensor.name)), "{text}: {message}");
            }
            for change in [-1, 1] {
                let mut other = tensors.clone();
                let mut shape = tensor.shape.clone();
                *shape.last_mut().unwrap() = shape.last().unwrap().strict_add_signed(change);
                other[position] = TensorData { dtype: tensor.dtype, ..counting(&tensor.name, &shape) };
                let message = refused(&other, entry.clone());
                let expected = format!("{} has shape {shape:?} instead of [", tensor.name);
                assert!(message.contains(&expected), "{text}: {message}");
            }
            // Values of another kind.
            let (mut other, size) = (tensors.clone(), tensor.shape.iter().product());
            other[position].dtype = Dtype::BOOL;
            other[position].bytes = vec![0; size].into();
            assert!(refused(&other, entry.clone()).contains("holds BOOL, but only"), "{text}");
        }
        let mut more = tensors.clone();
        more.push(counting("fc.more", &[2]));
        assert!(refused(&more, entry.clone()).contains("has a tensor more, which its structure has not"), "{text}");
        let mut bias = tensors.clone();
        bias.retain(|tensor| tensor.name != "fc.bias");
        bias.push(counting("fc.bias", &[23]));
        assert!(refused(&bias, entry).contains("fc.bias has shape [23] instead of [24]"), "{text}");
    }
}

#[test]
fn descriptions_of_other_layers_are_refused() {
    let (tensors, entry) = saved("fc", &new("blast:b=2x4,r=5", true));
    let huge = 1u64 << 60;
    for (structure, expected) in [
        (format!("blast:b=2x4,r={huge}"), "cannot be: rank 1152921504606846976 is above".to_string()),
        (
            "blast:b=2x4,r=99999999999999999999999".into(),
            "has no known structure: `99999999999999999999999` is no value".into(),
        ),
        ("blast:b=2x4,r=6".into(), "fc.u has shape [2, 12, 5] instead of [2, 12, 6]".into()),
        ("blast:b=4x2,r=5".into(), "fc.u has shape [2, 12, 5] instead of [4, 6, 5]".into()),
        ("blast:b=5,r=5".into(), "cannot be: d_output = 24 cannot be cut into 5 equal blocks".into()),
        (format!("blast:b={huge},r=5"), "cannot be cut into 1152921504606846976 equal blocks".into()),
        ("low-rank:r=5".into(), "fc.v has shape [4, 4, 5] instead of [16, 5]".into()),
        ("butterfly".into(), "has no known structure: unknown structure `butterfly`".into()),
        ("\u{1b}[2J".into(), "has no known structure: unknown structure `\u{fffd}[2J`".into()),
        ("dense".into(), "is described as compressed and dense".into()),
        (String::new(), "has no known structure".into()),
    ] {
        let message = refused(&tensors, LayerEntry { structure, ..entry.clone() });
        assert!(message.contains(&expected), "{message} does not contain {expected}");
    }
    let message = refused(&tensors, LayerEntry { d_input: 32, ..entry });
    assert!(message.contains("fc.v has shape [4, 4, 5] instead of [4, 8, 5]"), "{message}");
}

#[test]
fn shapes_are_compared_before_anything_is_allocated() {
    // The largest layers that a description may have: terabytes of factors, and of masks.
    for structure in [
        "low-rank:r=131072",
        "blast:b=1,r=131072",
        "monarch:b=1,r=131072",
        "gaudi:r=131072",
        "pixelfly:b=16,r=131072",
        "kronecker:b=1x1,r=1",
        "block-diagonal:b=1",
        "btt:b=1x1,r=131072",
        "ss1:c=1",
    ] {
        let entry = LayerEntry {
            structure: structure.into(),
            d_input: 1 << 18,
            d_output: 1 << 17,
            ..saved("fc", &new("low-rank:r=1", true)).1
        };
        let tensors = ["v", "u", "ut", "w", "z", "a", "b", "s", "left", "right"]
            .map(|name| counting(&format!("fc.{name}"), &[2, 2]));
        let int8 = LayerEntry { int8: true, ..entry.clone() };
        let message = refused(&tensors, entry);
        assert!(message.contains("has shape [2, 2] instead of ["), "{structure}: {message}");
        if !["gaudi", "pixelfly", "kronecker"].iter().any(|other| structure.starts_with(other)) {
            let message = refused(&tensors, int8);
            let expected = ["has shape [2, 2] instead of [", "as int8 it may sum over 65536 at most"];
            assert!(expected.iter().any(|expected| message.contains(expected)), "{structure}: {message}");
        }
    }
}

#[test]
fn hash_of_another_layer_is_refused() {
    let (tensors, entry) = saved("fc", &new("ss1:c=2,k=4,n=6", true));
    let (others, _) = saved("fc", &new("ss1:c=2,k=8,n=6", true));
    let hash = |tensors: &[TensorData<'static>]| tensors.iter().position(|tensor| tensor.dtype != Dtype::F32).unwrap();
    let mut changed = tensors.clone();
    changed[hash(&tensors)] = others[hash(&others)].clone();
    assert!(refused(&changed, entry.clone()).contains("has a `hash` of another layer"));
    let at = hash(&tensors);
    changed[at].bytes = vec![0xff; tensors[at].bytes.len()].into();
    assert!(refused(&changed, entry.clone()).contains("has a `hash` of another layer"));
    // Another integer type is no other hash.
    let size = tensors[at].dtype.bitsize() / 8;
    let narrow: Vec<u8> = tensors[at].bytes.chunks(size).flat_map(|number| [&number[..4]].concat()).collect();
    let wide: Vec<u8> =
        narrow.as_chunks::<4>().0.iter().flat_map(|n| i64::from(i32::from_le_bytes(*n)).to_le_bytes()).collect();
    for (dtype, bytes) in [(Dtype::I32, narrow), (Dtype::I64, wide)] {
        changed[at].dtype = dtype;
        changed[at].bytes = bytes.into();
        assert!(layer(&written(&changed, "fc", entry.clone()), "fc", &Device::flex()).is_ok());
    }
}

#[test]
fn layer_entry_refuses_what_cannot_be_described() {
    let refused = |layer: StructuredLinear| {
        let error = layer_entry(&layer, Orientation::OutIn, Dtype::F32, None).unwrap_err();
        assert!(matches!(error, CheckpointError::Unsaveable { .. }));
        error.to_string()
    };
    assert!(refused(new("dense", true)).contains("it is dense"));
    assert!(refused(new("gaudi:r=2", true).freeze_windows()).contains("its windows are frozen"));
    let entry = layer_entry(&new("low-rank:r=2", true), Orientation::InOut, Dtype::BF16, Some(f64::NAN)).unwrap();
    assert_eq!((entry.relative_error, entry.dtype.as_str()), (None, "BF16"));
}

#[test]
fn dense_tensor_has_the_orientation_and_type_of_the_file() {
    let device = Device::flex();
    let weight = Tensor::<2>::from_data([[1.0f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &device);
    for (orientation, shape, expected) in [
        (Orientation::OutIn, [2, 3], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        (Orientation::InOut, [3, 2], [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]),
    ] {
        for dtype in [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::BF16] {
            let tensor = dense_tensor("w", weight.clone(), orientation, dtype).unwrap();
            let file = of_tensors(&[tensor], &BTreeMap::new());
            let found = file.tensor("w").unwrap();
            assert_eq!((found.dtype, found.shape.as_slice()), (dtype, &shape[..]));
            assert_eq!(file.values("w").unwrap(), expected);
        }
    }
    let message = dense_tensor("w", weight, Orientation::OutIn, Dtype::I8).unwrap_err().to_string();
    assert!(message.contains("I8 is not one of F64, F32, F16 and BF16"), "{message}");
}

#[test]
fn authors_blast_is_the_layer_that_it_was() {
    let device = Device::flex();
    let original = new("blast:b=2x4,r=5", true);
    let StructuredLinear::Blast(blast) = &original else { panic!("{original}") };
    let saved = |name: &str, tensor: Tensor<3>| {
        let (shape, data) = (tensor.dims(), tensor.into_data());
        crate::build::floats(name, &shape, &data.iter::<f32>().collect::<Vec<_>>())
    };
    let bias = layer_tensors("fc", &original).pop().unwrap();
    let (b, c) = (saved("fc.B", blast.u.val()), saved("fc.C", blast.v.val().swap_dims(1, 2)));
    for d in [blast.s.val(), blast.s.val().permute([2, 0, 1])] {
        let file = of_tensors(&[b.clone(), c.clone(), saved("fc.D", d), bias.clone()], &BTreeMap::new());
        let import = authors::blast(&file, None).unwrap();
        let imported = written(&import.tensors, "fc", import.layers["fc"].clone());
        let read = layer(&imported, "fc", &device).unwrap();
        read.to_dense().into_data().assert_eq(&original.to_dense().into_data(), true);
        assert_eq!(read.num_params(), original.num_params());
    }
}

#[test]
fn authors_ss1_is_rotated_back() {
    let device = Device::flex();
    let (m, n, c, k, rows) = (6usize, 20, 2usize, 4usize, 4);
    let ([r3, r2, r1, r0], vec) = ([7usize, 5, 11, 13], 8usize);
    let hash = Ss1Hash::Additive { constants: [7, 5, 11, 13], vec: 8 };
    let config = Ss1LinearConfig::new(n, m).with_reduction(c).with_block_k(k).with_block_n(rows).with_hash(hash);
    let width = n.div_ceil(k).div_ceil(c) * k;
    let file = of_tensors(&[counting("fc.weight", &[m, width]), counting("fc.bias", &[m])], &BTreeMap::new());
    let read = authors::ss1(&file, "fc", &config, &device).unwrap();
    let stored = file.values("fc.weight").unwrap();
    let mut expected = Vec::new();
    for o in 0..m {
        for i in 0..n {
            let (block, p) = (i / k, i % k);
            let (g, j) = (block / c, block % c);
            let shift = (r3 + r2 * (o / rows) + r1 * (g + 1) + r0 * (j + 1)) * vec % k;
            expected.push(stored[o * width + g * k + (p + k - shift) % k]);
        }
    }
    let dense: Vec<f32> = read.to_dense().into_data().iter::<f32>().collect();
    assert_eq!(dense, expected);
    let y = read.forward(Tensor::<2>::zeros([1, n], &device)).into_data();
    y.assert_approx_eq::<f32>(
        &Tensor::<1>::from_data([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &device).reshape([1, 6]).into_data(),
        Tolerance::absolute(1e-6),
    );
    let message = authors::ss1(&file, "fc", &config.clone().with_reduction(3), &device).unwrap_err().to_string();
    assert!(message.contains("fc.weight has shape [6, 12] instead of [6, 8]"), "{message}");
    let message = authors::ss1(&file, "fc", &config.with_reduction(0), &device).unwrap_err().to_string();
    assert!(message.contains("the layer fc cannot have these settings: reduction is 0"), "{message}");
}
