//! Reading the text form.

use super::Structure;
use crate::{BlockCount, Blocks, Rank};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Why a text is no [`Structure`]. The message lists what is valid.
///
/// `Debug` prints the message as well: it is what `unwrap` and a `main` that returns the error show.
#[derive(Clone, Error, PartialEq)]
#[non_exhaustive]
pub enum StructureParseError {
    /// No structure of that name.
    #[error("unknown structure `{name}`; the structures are {}", Structure::NAMES.join(", "))]
    UnknownName {
        /// The name given.
        name: String,
    },
    /// The structure has no such setting.
    #[error("`{name}` has no setting `{key}`; {}", list(valid))]
    UnknownSetting {
        /// The structure.
        name: &'static str,
        /// The setting given.
        key: String,
        /// The settings it has.
        valid: &'static [&'static str],
    },
    /// A setting is not of the form `key=value`.
    #[error("`{text}` is not a setting; write key=value, as in `blast:b=6,ratio=0.5`")]
    NotASetting {
        /// The text given.
        text: String,
    },
    /// A setting has a value of the wrong kind.
    #[error("`{value}` is no value for `{key}`; {expected}")]
    InvalidValue {
        /// The setting.
        key: &'static str,
        /// The value given.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A setting is given twice, or two settings exclude each other.
    #[error("`{first}` and `{second}` contradict each other; give one of them")]
    Contradiction {
        /// The setting that came first.
        first: &'static str,
        /// The setting that came after it.
        second: &'static str,
    },
}

impl fmt::Debug for StructureParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn list(valid: &[&str]) -> String {
    match valid {
        [] => "it takes no settings".into(),
        _ => format!("its settings are {}", valid.join(", ")),
    }
}

fn invalid(key: &'static str, value: &str, expected: &'static str) -> StructureParseError {
    StructureParseError::InvalidValue { key, value: value.to_string(), expected }
}

/// The settings of a text form, by key.
struct Settings<'a> {
    given: Vec<(&'static str, &'a str)>,
}

impl<'a> Settings<'a> {
    fn read(name: &'static str, text: &'a str, valid: &'static [&'static str]) -> Result<Self, StructureParseError> {
        let mut given: Vec<(&'static str, &'a str)> = Vec::new();
        for setting in text.split(',').map(str::trim).filter(|setting| !setting.is_empty()) {
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| StructureParseError::NotASetting { text: setting.to_string() })?;
            let key = valid
                .iter()
                .find(|valid| **valid == key.trim())
                .ok_or_else(|| StructureParseError::UnknownSetting { name, key: key.trim().to_string(), valid })?;
            if given.iter().any(|(other, _)| other == key) {
                return Err(StructureParseError::Contradiction { first: key, second: key });
            }
            given.push((key, value.trim()));
        }
        Ok(Self { given })
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.given.iter().find(|(given, _)| *given == key).map(|(_, value)| *value)
    }

    fn parse<T: FromStr>(
        &self,
        key: &'static str,
        default: T,
        expected: &'static str,
        valid: impl Fn(&T) -> bool,
    ) -> Result<T, StructureParseError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        value.parse().ok().filter(valid).ok_or_else(|| invalid(key, value, expected))
    }

    /// A number of something there has to be.
    fn count(&self, key: &'static str, default: usize) -> Result<usize, StructureParseError> {
        self.parse(key, default, "a whole number above 0", |count| *count > 0)
    }

    fn ratio(&self) -> Result<Option<f64>, StructureParseError> {
        let expected = "a share of the dense parameters above 0 and at most 1, such as ratio=0.5";
        let ratio = self.parse("ratio", 0.5, expected, |ratio| *ratio > 0.0 && *ratio <= 1.0)?;
        Ok(self.get("ratio").map(|_| ratio))
    }

    fn rank(&self) -> Result<Rank, StructureParseError> {
        let fixed = self.parse("r", 0, "a whole number above 0, such as r=64", |rank| *rank > 0)?;
        match (self.get("r"), self.ratio()?) {
            (Some(_), Some(_)) => Err(self.exclusive("r", "ratio")),
            (Some(_), None) => Ok(Rank::Fixed(fixed)),
            (None, ratio) => Ok(Rank::Ratio(ratio.unwrap_or(0.5))),
        }
    }

    fn blocks(&self) -> Result<Blocks, StructureParseError> {
        let Some(value) = self.get("b") else { return Ok(Blocks::Auto) };
        let number = |value: &str| value.parse().ok().filter(|count| *count > 0);
        let blocks = match value.split_once('x') {
            _ if value == "auto" => Some(Blocks::Auto),
            Some((output, input)) => {
                number(output).zip(number(input)).map(|(output, input)| Blocks::Grid { output, input })
            }
            None => number(value).map(Blocks::Square),
        };
        let expected = "a number of blocks, rows by columns or `auto`, such as b=6, b=3x6, b=auto";
        blocks.ok_or_else(|| invalid("b", value, expected))
    }

    fn block_count(&self) -> Result<BlockCount, StructureParseError> {
        match (self.get("b"), self.ratio()?) {
            (Some(_), Some(_)) => Err(self.exclusive("b", "ratio")),
            (_, Some(ratio)) => Ok(BlockCount::Ratio(ratio)),
            (_, None) => Ok(BlockCount::Fixed(self.count("b", 4)?)),
        }
    }

    fn independent(&self) -> Result<Option<u32>, StructureParseError> {
        let independent = match self.get("hash") {
            None | Some("additive") => false,
            Some("independent") => true,
            Some(value) => return Err(invalid("hash", value, "additive or independent")),
        };
        let seed = self.parse("seed", 0, "a whole number", |_| true)?;
        match (independent, self.get("seed")) {
            (true, _) => Ok(Some(seed)),
            (false, Some(_)) => Err(StructureParseError::Contradiction { first: "hash=additive", second: "seed" }),
            (false, None) => Ok(None),
        }
    }

    /// The error for two settings that were both given, in the order in which they were.
    fn exclusive(&self, a: &'static str, b: &'static str) -> StructureParseError {
        let place = |key: &str| self.given.iter().position(|(given, _)| *given == key);
        let (first, second) = if place(a) <= place(b) { (a, b) } else { (b, a) };
        StructureParseError::Contradiction { first, second }
    }
}

const GRID: &[&str] = &["b", "r", "ratio"];

impl FromStr for Structure {
    type Err = StructureParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, settings) = text.trim().split_once(':').unwrap_or((text.trim(), ""));
        match name.trim() {
            "dense" => Settings::read("dense", settings, &[]).map(|_| Self::Dense),
            "blast" => {
                let settings = Settings::read("blast", settings, GRID)?;
                Ok(Self::Blast { blocks: settings.blocks()?, rank: settings.rank()? })
            }
            "low-rank" => {
                let settings = Settings::read("low-rank", settings, &["r", "ratio"])?;
                Ok(Self::LowRank { rank: settings.rank()? })
            }
            "ss1" => {
                let settings = Settings::read("ss1", settings, &["c", "k", "n", "hash", "seed"])?;
                Ok(Self::Ss1 {
                    reduction: settings.count("c", 2)?,
                    block_k: settings.count("k", 16)?,
                    block_n: settings.count("n", 64)?,
                    independent: settings.independent()?,
                })
            }
            "monarch" => {
                let settings = Settings::read("monarch", settings, GRID)?;
                Ok(Self::Monarch { blocks: settings.blocks()?, rank: settings.rank()? })
            }
            "block-diagonal" => {
                let settings = Settings::read("block-diagonal", settings, &["b", "ratio"])?;
                Ok(Self::BlockDiagonal { blocks: settings.block_count()? })
            }
            "pixelfly" => {
                let settings = Settings::read("pixelfly", settings, &["b", "stride", "r", "ratio"])?;
                Ok(Self::Pixelfly {
                    blocks: settings.count("b", 16)?,
                    stride: settings.count("stride", 4)?,
                    rank: settings.rank()?,
                })
            }
            "gaudi" => {
                let settings = Settings::read("gaudi", settings, &["r", "ratio", "width", "sigma", "windows"])?;
                let expected = "a share of the features above 0 and at most 1, such as width=0.5";
                let width = settings.parse("width", 0.5, expected, |width| *width > 0.0 && *width <= 1.0)?;
                let expected = "a number of harmonics above 0, such as sigma=20";
                let sigma = settings.parse("sigma", 1.0, expected, |sigma: &f64| *sigma > 0.0 && sigma.is_finite())?;
                let sharp = match settings.get("windows") {
                    None | Some("smooth") => false,
                    Some("sharp") => true,
                    Some(value) => return Err(invalid("windows", value, "smooth or sharp")),
                };
                let sigma = settings.get("sigma").map(|_| sigma);
                Ok(Self::Gaudi { rank: settings.rank()?, width, sigma, sharp })
            }
            "btt" => {
                let settings = Settings::read("btt", settings, GRID)?;
                Ok(Self::Btt { blocks: settings.blocks()?, rank: settings.rank()? })
            }
            "kronecker" => {
                let settings = Settings::read("kronecker", settings, GRID)?;
                Ok(Self::Kronecker { blocks: settings.blocks()?, rank: settings.rank()? })
            }
            name => Err(StructureParseError::UnknownName { name: name.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_read_and_printed_back() {
        for text in [
            "dense",
            "blast:b=6,ratio=0.5",
            "blast:b=3x6,r=40",
            "blast:b=auto,ratio=0.25",
            "low-rank:r=64",
            "low-rank:ratio=0.3",
            "ss1:c=4,k=16,n=64,hash=additive",
            "ss1:c=4,k=8,n=32,hash=independent,seed=1",
            "monarch:b=4,ratio=0.5",
            "monarch:b=4x6,r=2",
            "block-diagonal:b=4",
            "block-diagonal:ratio=0.3",
            "pixelfly:b=16,stride=4,r=32",
            "gaudi:r=64,width=0.25",
            "gaudi:r=64,width=0.25,sigma=20,windows=sharp",
            "btt:b=auto,r=2",
            "kronecker:b=24x48,r=4",
        ] {
            assert_eq!(text.parse::<Structure>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn settings_have_defaults_and_any_order() {
        assert_eq!("blast".parse::<Structure>().unwrap().to_string(), "blast:b=auto,ratio=0.5");
        assert_eq!("ss1:c=4".parse::<Structure>().unwrap().to_string(), "ss1:c=4,k=16,n=64,hash=additive");
        assert_eq!(" blast: r=4 , b=2 ".parse::<Structure>().unwrap().to_string(), "blast:b=2,r=4");
        assert_eq!("block-diagonal".parse::<Structure>().unwrap().to_string(), "block-diagonal:b=4");
        assert_eq!("gaudi:r=8".parse::<Structure>().unwrap().to_string(), "gaudi:r=8,width=0.5");
    }

    #[test]
    fn errors_list_what_is_valid() {
        for (text, message) in [
            (
                "monarc",
                "unknown structure `monarc`; the structures are dense, blast, low-rank, ss1, monarch, block-diagonal, \
                 pixelfly, gaudi, btt, kronecker",
            ),
            ("low-rank:b=3", "`low-rank` has no setting `b`; its settings are r, ratio"),
            ("dense:r=3", "`dense` has no setting `r`; it takes no settings"),
            ("blast:r=3,ratio=0.5", "`r` and `ratio` contradict each other; give one of them"),
            ("monarch:ratio=0.5,r=3", "`ratio` and `r` contradict each other; give one of them"),
            ("block-diagonal:b=3,ratio=0.5", "`b` and `ratio` contradict each other; give one of them"),
            ("blast:b=3,b=4", "`b` and `b` contradict each other; give one of them"),
            ("ss1:c=0", "`0` is no value for `c`; a whole number above 0"),
            ("pixelfly:stride=x", "`x` is no value for `stride`; a whole number above 0"),
            (
                "gaudi:width=2",
                "`2` is no value for `width`; a share of the features above 0 and at most 1, such as width=0.5",
            ),
            ("ss1:ratio=0.5", "`ss1` has no setting `ratio`; its settings are c, k, n, hash, seed"),
            ("ss1:hash=xor", "`xor` is no value for `hash`; additive or independent"),
            ("ss1:c=2,seed=3", "`hash=additive` and `seed` contradict each other; give one of them"),
            ("blast:6", "`6` is not a setting; write key=value, as in `blast:b=6,ratio=0.5`"),
            ("blast:r=-1", "`-1` is no value for `r`; a whole number above 0, such as r=64"),
            (
                "blast:b=0",
                "`0` is no value for `b`; a number of blocks, rows by columns or `auto`, such as b=6, b=3x6, b=auto",
            ),
            (
                "blast:ratio=2",
                "`2` is no value for `ratio`; a share of the dense parameters above 0 and at most 1, such as ratio=0.5",
            ),
        ] {
            assert_eq!(text.parse::<Structure>().unwrap_err().to_string(), message);
        }
    }
}
