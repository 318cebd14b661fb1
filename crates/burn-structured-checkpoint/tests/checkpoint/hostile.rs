//! Files that are damaged, or made to do damage.

use crate::build::{folder, raw, refused};
use burn_structured_checkpoint::Checkpoint;

fn message(bytes: Vec<u8>) -> String {
    Checkpoint::from_bytes(bytes).unwrap_err().to_string()
}

/// The message for a header with no data behind it but eight bytes.
fn of_header(header: &str) -> String {
    message(raw(header, &[0; 8]))
}

fn assert_contains(message: &str, expected: &str) {
    assert!(message.contains(expected), "{message:?} does not contain {expected:?}");
}

#[test]
fn from_bytes_reads_the_smallest_files() {
    for header in ["{}", "{}      ", r#"{"__metadata__":{}}"#, r#"{"__metadata__":null}"#] {
        assert_eq!(Checkpoint::from_bytes(raw(header, &[])).unwrap().tensors().count(), 0);
    }
    let scalar = raw(r#"{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#, &1.5f32.to_le_bytes());
    assert_eq!(Checkpoint::from_bytes(scalar).unwrap().values("a").unwrap(), [1.5]);
    let empty = raw(r#"{"a":{"dtype":"F32","shape":[3,0],"data_offsets":[0,0]}}"#, &[]);
    assert!(Checkpoint::from_bytes(empty).unwrap().values("a").unwrap().is_empty());
}

#[test]
fn header_length_is_checked_before_anything_is_read() {
    assert_contains(&message(vec![]), "the safetensors data has 0 bytes, but its header ends at byte 8");
    assert_contains(&message(vec![1; 7]), "has 7 bytes, but its header ends at byte 8; it is cut off");
    for length in [u64::MAX, 1 << 63, 100_000_001] {
        let bytes = [&length.to_le_bytes()[..], b"{}"].concat();
        assert_contains(&message(bytes), &format!("a header of {length} bytes is above the limit of 100000000"));
    }
    let bytes = [&100_000_000u64.to_le_bytes()[..], b"{}"].concat();
    assert_contains(&message(bytes), "has 10 bytes, but its header ends at byte 100000008");
}

#[test]
fn pointer_of_git_lfs_is_not_the_file() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:53aa\nsize 90868376\n";
    assert_contains(&message(pointer.into()), "is a pointer of Git LFS, not the file itself");
}

#[test]
fn header_must_be_json_of_tensors() {
    for (header, expected) in [
        ("", "EOF while parsing"),
        ("[]", "invalid type: sequence, expected an object of tensors"),
        ("{", "EOF while parsing"),
        ("{} x", "trailing characters"),
        (r#"{"a":1}"#, r#""a": invalid type: integer `1`"#),
        (r#"{"a":{}}"#, r#""a": missing field `dtype`"#),
        (r#"{"a":{"dtype":"F7","shape":[],"data_offsets":[0,8]}}"#, r#""a": unknown variant `F7`"#),
        (r#"{"a":{"dtype":"F64","shape":[-1],"data_offsets":[0,8]}}"#, "invalid value: integer `-1`"),
        (r#"{"a":{"dtype":"F64","shape":[1.5],"data_offsets":[0,8]}}"#, "invalid type: floating point"),
        (
            r#"{"a":{"dtype":"F64","shape":[99999999999999999999],"data_offsets":[0,8]}}"#,
            "invalid type: floating point",
        ),
        (r#"{"a":{"dtype":"F64","shape":[1],"data_offsets":[0]}}"#, "invalid length 1"),
        (r#"{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8,8]}}"#, "\"a\": "),
        (r#"{"__metadata__":{"a":1}}"#, r#""a": invalid type: integer `1`, expected a string"#),
        (r#"{"__metadata__":[]}"#, "invalid type: sequence"),
    ] {
        assert_contains(&of_header(header), "has no valid safetensors header: ");
        assert_contains(&of_header(header), expected);
    }
    assert_contains(&message(raw("{\u{0}}", &[])), "has no valid safetensors header");
    let bytes = [&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat();
    assert_contains(&message(bytes), "has no valid safetensors header");
    let deep = format!(r#"{{"a":{}"#, "[".repeat(100_000));
    assert_contains(&of_header(&deep), "has no valid safetensors header");
    let deep = format!(r#"{{"a":{{"dtype":"U8","shape":[8],"data_offsets":[0,8],"x":{}"#, "[".repeat(100_000));
    assert_contains(&of_header(&deep), "has no valid safetensors header");
}

#[test]
fn names_must_be_unique_and_printable() {
    let twice =
        r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#;
    assert_contains(&of_header(twice), r#""a" occurs twice"#);
    let twice = r#"{"__metadata__":{"a":"1","a":"2"}}"#;
    assert_contains(&of_header(twice), r#""a" occurs twice"#);
    assert_contains(&of_header(r#"{"__metadata__":{},"__metadata__":{}}"#), r#""__metadata__" occurs twice"#);
    let dtype = of_header(r#"{"a":{"dtype":"\u001b[2J","shape":[],"data_offsets":[0,8]}}"#);
    assert!(dtype.contains("unknown variant") && !dtype.contains(char::is_control), "{dtype:?}");
    for name in ["", r"\u001b[2J", r"a\nb"] {
        let header = format!(r#"{{"{name}":{{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}}}"#);
        let message = of_header(&header);
        assert_contains(&message, "is no name for a tensor");
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}

#[test]
fn tensors_must_have_the_size_of_their_shape() {
    for (dtype, shape) in [
        ("F64", "[2]"),
        ("F32", "[1,1]"),
        ("U8", "[7]"),
        ("U8", "[]"),
        ("F64", "[0]"),
        ("F4", "[17]"),
        ("F6_E2M3", "[9]"),
        // Overflows that wrap to 8 bytes, or to 0.
        ("U8", "[18446744073709551615,18446744073709551608]"),
        ("F64", "[2305843009213693953]"),
        ("U8", "[4294967296,4294967296]"),
        ("F64", "[2305843009213693952,8]"),
    ] {
        let header = format!(r#"{{"big":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,8]}}}}"#);
        assert_contains(&of_header(&header), "has 8 bytes, which is not the size of that shape");
        assert_contains(&of_header(&header), "the safetensors data: big (");
    }
    // Four bits each.
    let header = r#"{"a":{"dtype":"F4","shape":[16],"data_offsets":[0,8]}}"#;
    assert_eq!(Checkpoint::from_bytes(raw(header, &[0; 8])).unwrap().bytes("a").unwrap().len(), 8);
}

#[test]
fn offsets_must_cover_the_file_once() {
    let tensor = |name: &str, length: usize, start: u64, end: u64| {
        format!(r#""{name}":{{"dtype":"U8","shape":[{length}],"data_offsets":[{start},{end}]}}"#)
    };
    for (tensors, expected) in [
        (vec![tensor("a", 4, 8, 4)], "a is at bytes 8 to 4, which ends before it begins"),
        (vec![tensor("a", 4, 4, 12)], "a is at bytes 4 to 12, which is beyond the end of the file"),
        (vec![tensor("a", 4, u64::MAX - 4, u64::MAX)], "which is beyond the end of the file"),
        (vec![tensor("a", 4, 0, 4)], "has 4 bytes behind its last tensor"),
        (vec![tensor("a", 4, 4, 8)], "a is at bytes 4 to 8, which leaves a gap in front of it"),
        (vec![tensor("a", 8, 0, 8), tensor("b", 4, 4, 8)], "b is at bytes 4 to 8, which overlaps another tensor"),
        (vec![tensor("a", 8, 0, 8), tensor("b", 8, 0, 8)], "b is at bytes 0 to 8, which overlaps another tensor"),
        (vec![tensor("a", 3, 0, 3), tensor("b", 4, 4, 8)], "b is at bytes 4 to 8, which leaves a gap"),
        (vec![], "has 8 bytes behind its last tensor"),
    ] {
        assert_contains(&of_header(&format!("{{{}}}", tensors.join(","))), expected);
    }
    // In any order, and with empty tensors between them.
    let tensors = [tensor("b", 5, 3, 8), tensor("a", 3, 0, 3), tensor("c", 0, 3, 3), tensor("d", 0, 8, 8)];
    let bytes = raw(&format!("{{{}}}", tensors.join(",")), &[0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(Checkpoint::from_bytes(bytes).unwrap().bytes("b").unwrap(), [3, 4, 5, 6, 7]);
}

#[test]
fn open_refuses_files_cut_at_any_byte() {
    let header =
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[1],"data_offsets":[8,9]}}"#;
    let whole = raw(header, &[7; 9]);
    assert!(Checkpoint::from_bytes(whole.clone()).is_ok());
    for length in 0..whole.len() {
        let cut = folder(&[("model.safetensors", &whole[..length])]);
        assert!(Checkpoint::open(cut.path()).is_err(), "{length}");
        assert!(Checkpoint::read(cut.path()).is_err(), "{length}");
    }
    let longer = [&whole[..], &[0]].concat();
    assert_contains(&message(longer), "has 1 bytes behind its last tensor");
}

#[test]
fn open_names_what_it_cannot_read() {
    assert_contains(&refused("/no/such/model"), "cannot read /no/such/model: ");
    let empty = folder(&[("config.json", b"{}")]);
    assert_contains(&refused(empty.path()), "holds neither model.safetensors nor model.safetensors.index.json");
    std::fs::create_dir(empty.path().join("model.safetensors")).unwrap();
    assert_contains(&refused(empty.path()), "is neither a file nor a folder");
    if cfg!(target_os = "linux") {
        assert_contains(&refused("/dev/zero"), "/dev/zero is neither a file nor a folder; give a .safetensors file");
    }
    let file = folder(&[("model.safetensors", b"hello")]);
    assert_contains(&refused(file.path()), "model.safetensors has 5 bytes, but its header ends at byte 8");
}
