//! Strings that end a text as soon as they appear in it.

use super::GenerateError;

/// Watches a growing text for stop strings, which tokens may cut anywhere.
#[derive(Debug)]
pub(super) struct StopStrings<'a> {
    strings: &'a [String],
    /// The end of the text, which may be the start of a stop string.
    held: String,
}

impl<'a> StopStrings<'a> {
    pub fn new(strings: &'a [String]) -> Self {
        Self { strings, held: String::new() }
    }

    /// Adds `text`, and returns what of the text is certain to stand before a stop string, and whether one was found. The
    /// stop string itself is dropped, and so is what follows it.
    pub fn push(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        let found = self.strings.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        if let Some(at) = found {
            self.held.truncate(at);
            return (std::mem::take(&mut self.held), true);
        }
        let rest = self.held.split_off(self.certain());
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// What was held back, when the text ends.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The length of the text before the longest end of it with which a stop string starts.
    fn certain(&self) -> usize {
        let starts_stop = |end: &str| self.strings.iter().any(|stop| stop.starts_with(end));
        let ends = self.held.char_indices().map(|(at, _)| at);
        ends.into_iter().find(|at| starts_stop(&self.held[*at..])).unwrap_or(self.held.len())
    }
}

/// # Errors
///
/// If a string is empty: it would end every text at once.
pub(super) fn check(strings: &[String]) -> Result<(), GenerateError> {
    match strings.iter().any(String::is_empty) {
        true => Err(GenerateError::Setting {
            name: "stop string",
            value: "\"\"".into(),
            expected: "give at least one character, or leave it out",
        }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the pieces give with these stop strings: the pieces passed on, and whether a stop string was found.
    fn stream(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let stops: Vec<String> = stops.iter().map(ToString::to_string).collect();
        let mut watched = StopStrings::new(&stops);
        let mut passed = Vec::new();
        for piece in pieces {
            let (text, found) = watched.push(piece);
            passed.push(text);
            if found {
                return (passed, true);
            }
        }
        passed.push(watched.finish());
        (passed, false)
    }

    #[test]
    fn text_without_stop_strings_passes_at_once() {
        assert_eq!(stream(&[], &["ab", "", "c"]), (vec!["ab".into(), "".into(), "c".into(), "".into()], false));
    }

    #[test]
    fn stop_string_is_found_across_pieces() {
        assert_eq!(stream(&["END"], &["xE", "N", "Dyz"]), (vec!["x".into(), "".into(), "".into()], true));
        assert_eq!(stream(&["END"], &["aENDb", "c"]), (vec!["a".into()], true));
    }

    #[test]
    fn held_text_passes_when_it_was_no_stop_string() {
        assert_eq!(stream(&["END"], &["xEN", "X"]), (vec!["x".into(), "ENX".into(), "".into()], false));
        assert_eq!(stream(&["END"], &["xEN"]), (vec!["x".into(), "EN".into()], false));
        // The second start of the stop string stays possible when the first fails.
        assert_eq!(stream(&["aab"], &["aa", "a", "b"]), (vec!["".into(), "a".into(), "".into()], true));
    }

    #[test]
    fn first_of_several_stop_strings_ends_the_text() {
        assert_eq!(stream(&["later", "b"], &["abc later"]), (vec!["a".into()], true));
        assert_eq!(stream(&["abc", "b"], &["xab"]), (vec!["xa".into()], true));
    }

    #[test]
    fn characters_of_several_bytes_are_not_cut() {
        assert_eq!(stream(&["é!"], &["aé", "è"]), (vec!["a".into(), "éè".into(), "".into()], false));
        assert_eq!(stream(&["€"], &["10€"]), (vec!["10".into()], true));
    }

    #[test]
    fn empty_stop_string_is_an_error() {
        assert!(check(&["a".into(), String::new()]).unwrap_err().to_string().starts_with("stop string = \"\" "));
        assert!(check(&["a".into()]).is_ok());
    }
}
