//! Texts, and their tokens.

use super::*;
use burn_structured_models::text::Tokenizer;
use std::fs;
use std::path::PathBuf;

const TEXT: &str = "To be, or not… naïve Straße 日本語 🦀 42 end. ";

fn file(folder: &tempfile::TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn all(source: &TokenSource) -> Vec<u32> {
    source.read(0..source.len(), usize::MAX).unwrap()
}

/// The tokens of `text` through blocks of `block` bytes.
fn in_blocks(text: &Text, tokenizer: &Tokenizer, block: usize) -> Vec<u32> {
    let mut tokens = Vec::new();
    let write = |block: &[u32]| {
        tokens.extend_from_slice(block);
        Ok(())
    };
    prepare::encode(text, tokenizer, block, write, |_| {}).unwrap();
    tokens
}

#[test]
fn blocks_of_any_size_give_the_same_tokens() {
    let text = Text::from_memory("text", TEXT).unwrap();
    for tokenizer in [Tokenizer::bytes(), Tokenizer::characters_of(TEXT)] {
        let expected = tokenizer.encode(TEXT).unwrap();
        for block in 1..=TEXT.len() + 1 {
            assert_eq!(in_blocks(&text, &tokenizer, block), expected, "{} in {block}", tokenizer.name());
        }
    }
}

#[cfg(feature = "tokenizers")]
#[test]
fn blocks_give_the_byte_pairs_of_the_whole_text() {
    let words =
        "It's  the\n\nquick brown   fox (a 'fox') of 2026, don't jump…  over\tthe 日本 dog!  Naïve x y z\n".repeat(4);
    let text = Text::from_memory("text", &words).unwrap();
    let tokenizer = Tokenizer::gpt2();
    let expected = tokenizer.encode(&words).unwrap();
    // Every block has a space after a letter.
    for block in 60..words.len() {
        assert_eq!(in_blocks(&text, &tokenizer, block), expected, "{block}");
    }
}

#[test]
fn split_is_by_characters_as_in_nanogpt() {
    let folder = tempfile::tempdir().unwrap();
    let paths = [file(&folder, "a.txt", "日本語日本語"), file(&folder, "b.txt", "éé🦀"), file(&folder, "c.txt", "x")];
    let text = Text::from_files(&paths).unwrap();
    assert_eq!((text.characters(), text.bytes(), text.alphabet()), (10, 27, "xé日本語🦀"));
    let tokenizer = Tokenizer::characters_of(text.alphabet());
    let decoded = |text: &Text| tokenizer.decode(&all(&text.tokens(&tokenizer).unwrap())).unwrap();
    for (share, train, validation) in [
        (0.1, "日", "本語日本語éé🦀x"),
        (0.25, "日本", "語日本語éé🦀x"),
        (0.6, "日本語日本語", "éé🦀x"),
        (0.8, "日本語日本語éé", "🦀x"),
        (0.99, "日本語日本語éé🦀", "x"),
    ] {
        let (first, second) = text.split(share).unwrap();
        assert_eq!((&*decoded(&first), &*decoded(&second)), (train, validation), "{share}");
        assert_eq!(first.characters() + second.characters(), 10);
        assert_eq!(first.bytes() + second.bytes(), 27);
        assert_eq!(first.alphabet(), text.alphabet());
    }
    let (first, _) = text.split(0.8).unwrap();
    let (start, end) = first.split(0.5).unwrap();
    assert_eq!((&*decoded(&start), &*decoded(&end)), ("日本語日", "本語éé"));
}

#[test]
fn split_leaves_no_part_empty() {
    let text = Text::from_memory("text", "abcde").unwrap();
    for share in [0.0, 1.0, -0.5, 1.5, f64::NAN, 0.1] {
        let message = message(text.split(share).map(|_| ()));
        assert!(message.starts_with(&format!("training share = {share} is not usable; ")), "{message}");
    }
}

#[cfg(feature = "tokenizers")]
#[test]
fn end_of_text_stands_between_files() {
    let folder = tempfile::tempdir().unwrap();
    let text = Text::from_files(&[file(&folder, "a.txt", "Hello world"), file(&folder, "b.txt", " don't")]).unwrap();
    assert_eq!(all(&text.tokens(&Tokenizer::gpt2()).unwrap()), [15496, 995, 50256, 836, 470]);
    assert_eq!(all(&text.tokens(&Tokenizer::bytes()).unwrap()).len(), 17);
}

#[test]
fn prepare_writes_the_tokens_and_reports_progress() {
    let folder = tempfile::tempdir().unwrap();
    let words = TEXT.repeat(40_000);
    let text = Text::from_files(&[file(&folder, "text.txt", &words)]).unwrap();
    let tokenizer = Tokenizer::characters_of(text.alphabet());
    let mut steps = Vec::new();
    let path = folder.path().join("train.bin");
    let prepared = prepare(&text, &tokenizer, &path, TokenLayout::LlmC, |step| steps.push(step)).unwrap();
    assert_eq!(prepared.read(0..prepared.len(), tokenizer.vocab_size()).unwrap(), tokenizer.encode(&words).unwrap());
    // Two blocks of a mebibyte, and the rest.
    assert!(steps.len() > 2 && steps.is_sorted_by_key(|step| step.bytes), "{steps:?}");
    let last = PrepareProgress { bytes: text.bytes(), total_bytes: text.bytes(), tokens: text.characters() };
    assert_eq!(steps.last(), Some(&last));
}

#[test]
fn prepare_without_success_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let text = Text::from_memory("the fox", "a fox").unwrap();
    let path = folder.path().join("train.bin");
    let prepared = prepare(&text, &Tokenizer::characters_of("fo"), &path, TokenLayout::NanoGpt, |_| {});
    let expected = "the fox: the character 'a' (U+0061) is not among the 2 of the vocabulary; remove it, or use bytes";
    assert_eq!(message(prepared), expected);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn files_that_are_no_text_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(&folder, "good.txt", "text");
    for (name, bytes, problem) in [
        ("empty.txt", &b""[..], "is empty; name a file with text in it"),
        ("binary.bin", b"ab\xff\x00c", "is no text: its bytes from position 2 are not UTF-8"),
        ("cut.txt", b"ab\xe6\x97", "is no text: its bytes from position 2 are not UTF-8"),
        ("latin1.txt", b"na\xefve text", "is no text: its bytes from position 2 are not UTF-8"),
        ("text.xz", b"\xfd7zXZ\0\0\x04", "is compressed; unpack it first: xz -dk "),
        ("text.gz", b"\x1f\x8b\x08\0\0\0", "is compressed; unpack it first: gzip -dk "),
        ("text.zst", b"\x28\xb5\x2f\xfd\x24", "is compressed; unpack it first: zstd -d "),
    ] {
        let path = file(&folder, name, bytes);
        let message = message(Text::from_files(&[&good, &path]));
        assert!(message.starts_with(&format!("{} {problem}", path.display())), "{message}");
    }
    let missing = folder.path().join("missing.txt");
    assert!(message(Text::from_files(&[&missing])).starts_with(&format!("cannot read {}: ", missing.display())));
    assert!(message(Text::from_files::<PathBuf>(&[])).starts_with("the list of text files is empty"));
    assert!(message(Text::from_memory("nothing", "")).starts_with("nothing is empty"));
}

#[test]
fn invalid_text_behind_the_first_block_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let start = TEXT.repeat(40_000);
    let path = file(&folder, "long.txt", [start.as_bytes(), b"\xff\xfe"].concat());
    let problem = format!("its bytes from position {} are not UTF-8", start.len());
    assert!(message(Text::from_files(&[path])).contains(&problem));
}

#[test]
fn file_that_became_shorter_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "text.txt", "some text");
    let text = Text::from_files(&[&path]).unwrap();
    fs::write(&path, "some").unwrap();
    assert!(message(text.tokens(&Tokenizer::bytes())).starts_with(&format!("cannot read {}: ", path.display())));
}

/// The counts are those that nanoGPT prints in `data/shakespeare_char` and `data/shakespeare`.
#[test]
#[allow(clippy::print_stderr, reason = "a skipped test must say so")]
fn shakespeare_has_the_tokens_of_nanogpt() {
    let Some(path) = std::env::var_os("BURN_STRUCTURED_SHAKESPEARE") else {
        eprintln!("skipped: set BURN_STRUCTURED_SHAKESPEARE to the file of tiny Shakespeare");
        return;
    };
    let text = Text::from_files(&[path]).unwrap();
    let (train, validation) = text.split(0.9).unwrap();
    let counts = |tokenizer: &Tokenizer| [&train, &validation].map(|half| half.tokens(tokenizer).unwrap().len());
    let characters = Tokenizer::characters_of(text.alphabet());
    assert_eq!((characters.vocab_size(), counts(&characters)), (65, [1_003_854, 111_540]));
    #[cfg(feature = "tokenizers")]
    assert_eq!(counts(&Tokenizer::gpt2()), [301_966, 36_059]);
}
