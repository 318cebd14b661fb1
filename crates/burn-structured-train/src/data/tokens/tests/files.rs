//! Token files.

use super::*;
use std::fs;
use std::path::Path;

const LAYOUTS: [TokenLayout; 2] = [TokenLayout::NanoGpt, TokenLayout::LlmC];

fn write(path: &Path, layout: TokenLayout, tokens: &[u32]) -> Result<TokenFile, DataError> {
    let mut writer = TokenWriter::create(path, layout, 65536)?;
    for tokens in tokens.chunks(3) {
        writer.write(tokens)?;
    }
    writer.finish()
}

/// llm.c's header with these numbers at its start.
fn header(numbers: [i32; 3]) -> Vec<u8> {
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    bytes.resize(1024, 0);
    bytes
}

#[test]
fn written_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    let tokens = [0, 1, 255, 256, 50256, 65535, 7];
    for layout in LAYOUTS {
        let file = write(&path, layout, &tokens).unwrap();
        assert_eq!((file.layout(), file.len(), file.path()), (layout, 7, &*path));
        assert_eq!(file.read(0..7, 65536).unwrap(), tokens);
        assert_eq!(file.read(2..5, 65536).unwrap(), tokens[2..5]);
        assert_eq!(file.read(7..7, 65536).unwrap(), [0; 0]);
    }
    // Nothing but the file itself is left.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn layouts_have_the_published_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    write(&path, TokenLayout::NanoGpt, &[15496, 995]).unwrap();
    assert_eq!(fs::read(&path).unwrap(), [0x88, 0x3c, 0xe3, 0x03]);
    write(&path, TokenLayout::LlmC, &[15496, 995]).unwrap();
    let expected = [header([20240520, 1, 2]), vec![0x88, 0x3c, 0xe3, 0x03]].concat();
    assert_eq!(fs::read(&path).unwrap(), expected);
}

#[test]
fn source_reads_and_slices_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    let tokens: Vec<u32> = (100..150).collect();
    write(&path, TokenLayout::LlmC, &tokens).unwrap();
    let source = TokenSource::open(&path).unwrap();
    let slice = source.slice(10..40).slice(5..20);
    assert_eq!((source.len(), slice.len(), slice.is_empty()), (50, 15, false));
    assert_eq!(slice.read(0..3, 150).unwrap(), [115, 116, 117]);
    assert_eq!(slice.read(14..15, 150).unwrap(), [129]);
    assert_eq!(slice.name(), path.display().to_string());
}

#[test]
fn unknown_token_is_named_with_its_position() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    let file = TokenSource::from(write(&path, TokenLayout::NanoGpt, &[1, 2, 300, 4]).unwrap());
    assert_eq!(file.read(0..2, 256).unwrap(), [1, 2]);
    let expected = format!(
        "{}: token 300 at position 2 is not in the vocabulary of 256; use the tokenizer that made the tokens, and a model for it",
        path.display()
    );
    assert_eq!(message(file.slice(1..4).read(0..3, 256)), expected);
    let memory = TokenSource::named("the list", vec![1, 2, 300]).slice(1..3);
    assert!(message(memory.read(0..2, 300)).starts_with("the list: token 300 at position 2 is not in"));
}

#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    for (bytes, problem) in [
        (vec![], "0 bytes are not one or more whole records of 2 bytes"),
        (vec![1, 2, 3], "3 bytes are not one or more whole records of 2 bytes"),
        (
            [header([20240520, 1, 3]), vec![0; 4]].concat(),
            "the header counts 3 tokens, which is not what its 1028 bytes hold",
        ),
        (
            [header([20240520, 1, 2]), vec![0; 5]].concat(),
            "the header counts 2 tokens, which is not what its 1029 bytes hold",
        ),
        (header([20240520, 1, 0]), "the header counts 0 tokens"),
        (header([20240520, 1, -1]), "the header counts -1 tokens"),
        (header([20240520, 1, 7])[..12].to_vec(), "the header counts 7 tokens"),
        (header([20240520, 2, 0]), "the header is of version 2 instead of 1"),
        (header([20240801, 7, 0]), "the header announces tokens of 32 bits instead of 16"),
    ] {
        fs::write(&path, bytes).unwrap();
        let message = message(TokenFile::open(&path));
        assert!(message.starts_with(&path.display().to_string()) && message.contains(problem), "{message}");
    }
    let missing = folder.path().join("missing.bin");
    assert!(message(TokenFile::open(&missing)).starts_with(&format!("cannot read {}: ", missing.display())));
}

#[test]
fn unfinished_file_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    write(&path, TokenLayout::NanoGpt, &[5]).unwrap();
    let mut writer = TokenWriter::create(&path, TokenLayout::NanoGpt, 256).unwrap();
    writer.write(&[1, 2]).unwrap();
    assert!(message(writer.write(&[3, 256])).contains("token 256 at position 3 is not in the vocabulary of 256"));
    drop(writer);
    assert_eq!(TokenFile::open(&path).unwrap().read(0..1, 256).unwrap(), [5]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn open_file_survives_its_replacement() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    let old = write(&path, TokenLayout::NanoGpt, &[5, 6]).unwrap();
    let new = write(&path, TokenLayout::NanoGpt, &[7]).unwrap();
    assert_eq!(old.read(0..2, 256).unwrap(), [5, 6]);
    assert_eq!(new.read(0..1, 256).unwrap(), [7]);
}

#[test]
fn writer_removes_what_a_killed_one_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    for name in ["train.bin.99-0.tmp", "valid.bin.99-0.tmp"] {
        fs::write(folder.path().join(name), [0; 8]).unwrap();
    }
    write(&path, TokenLayout::NanoGpt, &[1]).unwrap();
    assert!(!folder.path().join("train.bin.99-0.tmp").exists());
    assert!(folder.path().join("valid.bin.99-0.tmp").exists());
}

#[test]
fn writer_refuses_what_no_file_can_hold() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    let error = message(TokenWriter::create(&path, TokenLayout::NanoGpt, 65537).map(|_| ()));
    assert!(error.starts_with("vocabulary = 65537 is not usable; token files hold 16-bit numbers"), "{error}");
    let writer = TokenWriter::create(&path, TokenLayout::NanoGpt, 65536).unwrap();
    assert!(message(writer.finish()).contains("train.bin has 0 tokens"));
    assert!(!path.exists());
    let error = message(TokenWriter::create("/no/such/folder/train.bin", TokenLayout::LlmC, 256).map(|_| ()));
    assert!(error.starts_with("cannot write /no/such/folder/train.bin: "), "{error}");
}
