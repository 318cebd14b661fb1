use super::*;
use std::fs;

/// Letters of one to four bytes, an emoji of several characters, and U+FFFD itself.
const TEXT: &str = "To be, or not… naïve Straße 日本語 👩‍🚀🦀 \u{fffd}\n\tend";

/// What a decoder gives for one token after another, and at the end.
fn streamed(tokenizer: &Tokenizer, tokens: &[u32]) -> Vec<String> {
    let mut decoder = tokenizer.decoder();
    let mut pieces: Vec<String> = tokens.iter().map(|token| decoder.push(*token).unwrap()).collect();
    pieces.push(decoder.finish().unwrap());
    pieces
}

fn assert_round_trip(tokenizer: &Tokenizer, text: &str) {
    let tokens = tokenizer.encode(text).unwrap();
    assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
    assert_eq!(streamed(tokenizer, &tokens).concat(), text);
    assert!(tokens.iter().all(|token| (*token as usize) < tokenizer.vocab_size()));
}

#[test]
fn bytes_round_trip() {
    let tokenizer = Tokenizer::bytes();
    assert_round_trip(&tokenizer, TEXT);
    assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text(), &*tokenizer.name()), (256, None, "bytes"));
    assert_eq!(tokenizer.encode("é").unwrap(), [0xc3, 0xa9]);
    assert_eq!(tokenizer.encode("").unwrap(), [0; 0]);
}

#[test]
fn decoder_holds_back_incomplete_characters() {
    let tokenizer = Tokenizer::bytes();
    let tokens = tokenizer.encode("a🦀é").unwrap();
    assert_eq!(streamed(&tokenizer, &tokens), ["a", "", "", "", "🦀", "", "é", ""]);
    assert_eq!(streamed(&tokenizer, &tokens[..3]), ["a", "", "", "\u{fffd}"]);
    // A decoder that is finished starts anew.
    let mut decoder = tokenizer.decoder();
    decoder.push(0xf0).unwrap();
    assert_eq!(decoder.finish().unwrap(), "\u{fffd}");
    assert_eq!(decoder.push(u32::from(b'b')).unwrap(), "b");
}

#[test]
fn decoder_streams_invalid_bytes_as_decode() {
    let tokenizer = Tokenizer::bytes();
    // Continuation bytes without a start, starts without continuation, an overlong form, a surrogate.
    for bytes in
        [&b"\x80\xbfa"[..], b"\xf0\x9f\xf0\x9f\xa6\x80", b"\xc0\xaf", b"\xed\xa0\x80z", b"\xe6\x97", b"\xff\xfe"]
    {
        let tokens: Vec<u32> = bytes.iter().map(|byte| (*byte).into()).collect();
        let text = tokenizer.decode(&tokens).unwrap();
        assert_eq!(text, String::from_utf8_lossy(bytes));
        assert_eq!(streamed(&tokenizer, &tokens).concat(), text, "{bytes:x?}");
    }
}

#[test]
fn characters_are_sorted_by_code_point() {
    let tokenizer = Tokenizer::characters_of("hello 日 World");
    assert_eq!((tokenizer.vocab_size(), &*tokenizer.name()), (9, "characters (9)"));
    // ' ', 'W', 'd', 'e', 'h', 'l', 'o', 'r', '日'.
    assert_eq!(tokenizer.encode(" Who日").unwrap(), [0, 1, 4, 6, 8]);
    assert_round_trip(&Tokenizer::characters_of(TEXT), TEXT);
}

#[test]
fn unknown_characters_and_tokens_are_named() {
    let tokenizer = Tokenizer::characters_of("abc");
    let message = tokenizer.encode("abß").unwrap_err().to_string();
    let expected = "the character 'ß' (U+00DF) is not among the 3 of the vocabulary; remove it, or use bytes";
    assert_eq!(message, expected);
    let expected =
        "token 3 is not in the vocabulary of characters (3), which has 3; decode with the tokenizer that made it";
    assert_eq!(tokenizer.decode(&[0, 3]).unwrap_err().to_string(), expected);
    let mut decoder = tokenizer.decoder();
    assert!(matches!(decoder.push(7), Err(TextError::Token { token: 7, vocab_size: 3, .. })));
    assert_eq!(decoder.push(1).unwrap(), "b");
    assert!(matches!(Tokenizer::bytes().decode(&[256]), Err(TextError::Token { token: 256, .. })));
}

#[test]
fn saved_tokenizer_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("new");
    Tokenizer::bytes().save(&inner).unwrap();
    assert_eq!(fs::read_to_string(inner.join("text.json")).unwrap(), "{\"kind\":\"bytes\"}\n");
    assert_eq!(Tokenizer::from_folder(&inner).unwrap().name(), "bytes");
    let characters = Tokenizer::characters_of(TEXT);
    characters.save(&inner).unwrap();
    let read = Tokenizer::from_file(inner.join("text.json")).unwrap();
    assert_eq!(read.encode(TEXT).unwrap(), characters.encode(TEXT).unwrap());
    // Nothing but the file itself is left.
    assert_eq!(fs::read_dir(&inner).unwrap().count(), 1);
}

#[test]
fn file_errors_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let message = Tokenizer::from_folder(folder.path()).unwrap_err().to_string();
    assert!(message.ends_with("has neither text.json nor tokenizer.json; add one, or choose a tokenizer by name"));
    let path = folder.path().join("text.json");
    let message = Tokenizer::from_file(&path).unwrap_err().to_string();
    assert!(message.starts_with(&format!("cannot read {}: ", path.display())), "{message}");
    for (json, reason) in [
        ("{", "EOF"),
        ("{\"kind\":\"words\"}", "unknown variant `words`"),
        ("{\"kind\":\"characters\"}", "missing field `characters`"),
        ("{\"kind\":\"characters\",\"characters\":\"abca\"}", "it lists 'a' twice"),
    ] {
        fs::write(&path, json).unwrap();
        let message = Tokenizer::from_folder(folder.path()).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{} cannot be used as a tokenizer: ", path.display())), "{message}");
        assert!(message.contains(reason), "{message}");
    }
    // The name of a file cannot be that of a folder.
    let message = Tokenizer::bytes().save(&path).unwrap_err().to_string();
    assert!(message.starts_with(&format!("cannot write {}", path.display())), "{message}");
}

#[cfg(not(feature = "tokenizers"))]
#[test]
fn missing_feature_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for json in ["{\"kind\":\"gpt2\"}", "{\"model\":{}}"] {
        let path = folder.path().join("tokenizer.json");
        fs::write(&path, json).unwrap();
        let message = Tokenizer::from_file(&path).unwrap_err().to_string();
        assert!(message.contains("needs the feature `tokenizers`"), "{message}");
    }
}

#[cfg(feature = "tokenizers")]
mod pairs {
    use super::*;
    use serde_json::json;

    #[test]
    fn gpt2_gives_the_published_tokens() {
        let tokenizer = Tokenizer::gpt2();
        assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text(), &*tokenizer.name()), (50257, Some(50256), "gpt2"));
        for (text, tokens) in [
            ("Hello world", &[15496, 995][..]),
            ("hello world", &[31373, 995]),
            (" don't", &[836, 470]),
            ("Hello, my dog is cute", &[15496, 11, 616, 3290, 318, 13779]),
            ("\n\n", &[628]),
            ("", &[]),
        ] {
            assert_eq!(tokenizer.encode(text).unwrap(), tokens, "{text:?}");
        }
        assert_round_trip(&tokenizer, TEXT);
    }

    #[test]
    fn gpt2_characters_may_be_several_tokens() {
        let tokenizer = Tokenizer::gpt2();
        let tokens = tokenizer.encode("🦀!").unwrap();
        let pieces = streamed(&tokenizer, &tokens);
        assert_eq!(tokens.len(), 4);
        assert_eq!(pieces, ["", "", "🦀", "!", ""]);
    }

    #[test]
    fn spelled_out_end_of_text_is_text() {
        let tokenizer = Tokenizer::gpt2();
        let tokens = tokenizer.encode("<|endoftext|>").unwrap();
        assert!(tokens.len() > 1 && !tokens.contains(&50256), "{tokens:?}");
        assert_eq!(tokenizer.decode(&[50256]).unwrap(), "<|endoftext|>");
        assert!(matches!(tokenizer.decode(&[50257]), Err(TextError::Token { token: 50257, .. })));
    }

    #[test]
    fn gpt2_refuses_a_million_spaces() {
        let text = " ".repeat(3_000_000) + "x";
        let message = Tokenizer::gpt2().encode(&text).unwrap_err().to_string();
        assert!(message.starts_with("gpt2 cannot encode the text: "), "{message}");
        assert!(
            message.ends_with("Max stack size exceeded for backtracking; shorten its runs of a million spaces"),
            "{message}"
        );
    }

    /// A byte-level vocabulary of single bytes and "he", in the form of GPT-2's file, cut to 2 tokens and padded.
    fn byte_level() -> String {
        // The spelling of the bytes in such files: printable ones as themselves, the others from U+0100 on.
        let printable = |byte: u32| matches!(byte, 33..=126 | 161..=172 | 174..=255);
        let mut other = 0x100..;
        let spelled = |byte| if printable(byte) { byte } else { other.next().unwrap() };
        let names = (0..256).map(spelled).map(|code| char::from_u32(code).unwrap().to_string());
        let mut vocabulary: serde_json::Map<String, serde_json::Value> =
            names.zip(0..).map(|(name, token)| (name, json!(token))).collect();
        vocabulary.insert("he".into(), json!(256));
        json!({
            "version": "1.0",
            "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
            "padding": {"strategy": {"Fixed": 6}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                "pad_type_id": 0, "pad_token": "!"},
            "added_tokens": [{"id": 257, "content": "<|endoftext|>", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": true, "special": true}],
            "normalizer": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
                "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary,
                "merges": [["h", "e"]]},
        })
        .to_string()
    }

    #[test]
    fn tokenizer_json_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        fs::write(&path, byte_level()).unwrap();
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_text()), (258, Some(257)));
        assert_eq!(tokenizer.encode("hey").unwrap(), [256, u32::from(b'y')]);
        assert_eq!(tokenizer.encode("y").unwrap(), [u32::from(b'y')]);
        assert_round_trip(&tokenizer, TEXT);
        let spelled = tokenizer.encode("<|endoftext|>").unwrap();
        assert_eq!(spelled.len(), 13);
        assert_eq!(streamed(&tokenizer, &tokenizer.encode("a🦀é").unwrap()), ["a", "", "", "", "🦀", "", "é", ""]);
        assert!(matches!(tokenizer.decode(&[258]), Err(TextError::Token { token: 258, vocab_size: 258, .. })));
        let mut decoder = tokenizer.decoder();
        assert!(decoder.push(258).is_err());
        assert_eq!(decoder.push(256).unwrap(), "he");
    }

    /// A file like Llama's: words begin with `▁`, of which decoding takes the first away, and texts with `<s>`.
    fn word_pieces() -> String {
        let pieces = [("<s>", 0), ("<unk>", 1), ("▁once", 2), ("▁upon", 3), ("▁time", 4), ("s", 5)];
        let vocabulary: serde_json::Map<String, serde_json::Value> =
            pieces.iter().map(|(piece, id)| (piece.to_string(), json!(id))).collect();
        json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true}],
            "normalizer": null,
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
            "post_processor": {"type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
        })
        .to_string()
    }

    #[test]
    fn continuations_keep_their_first_space_and_prompts_begin_a_text() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tokenizer.json"), word_pieces()).unwrap();
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        assert_eq!(tokenizer.encode("once upon").unwrap(), [2, 3]);
        let prompt = tokenizer.encode_prompt("once upon").unwrap();
        assert_eq!(prompt, [0, 2, 3]);
        let mut decoder = tokenizer.decoder().after(&prompt);
        assert_eq!([4, 5].map(|token| decoder.push(token).unwrap()), [" time", "s"]);
        // A text of its own has no space in front.
        assert_eq!(tokenizer.decoder().push(4).unwrap(), "time");
        // What needs no context takes any.
        let bytes = Tokenizer::bytes();
        assert_eq!(bytes.encode_prompt("a").unwrap(), [97]);
        assert_eq!(bytes.decoder().after(&[97; 9]).push(98).unwrap(), "b");
    }

    #[test]
    fn stream_continues_after_invalid_bytes() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tokenizer.json"), byte_level()).unwrap();
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        let tokens = [0x80, 0x80, 0x80, 0x80, 0x80, u32::from(b'a')];
        let pieces = streamed(&tokenizer, &tokens);
        assert_eq!(pieces.concat(), "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}a");
        // Four at most are held back.
        assert_eq!(pieces[3], "\u{fffd}\u{fffd}\u{fffd}\u{fffd}");
    }

    #[test]
    fn tokenizer_json_is_saved_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.json");
        fs::write(&path, byte_level()).unwrap();
        let tokenizer = Tokenizer::from_file(&path).unwrap();
        let saved = folder.path().join("saved");
        // The earlier tokenizer does not hide the later one.
        Tokenizer::gpt2().save(&saved).unwrap();
        assert_eq!(Tokenizer::from_folder(&saved).unwrap().name(), "gpt2");
        tokenizer.save(&saved).unwrap();
        assert_eq!(Tokenizer::from_folder(&saved).unwrap().name(), "tokenizer.json (258 tokens)");
        assert_eq!(fs::read_to_string(saved.join("tokenizer.json")).unwrap(), byte_level());
    }

    #[test]
    fn broken_tokenizer_json_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        fs::write(&path, "{}").unwrap();
        let message = Tokenizer::from_folder(folder.path()).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{} cannot be used as a tokenizer: ", path.display())), "{message}");
    }
}
