//! The description of a structure, as a configuration file or a command line holds it.
//!
//! The text form is `name` or `name:key=value,key=value`:
//!
//! | text | meaning |
//! |---|---|
//! | `dense` | an ordinary linear layer |
//! | `blast:b=6,ratio=0.5` | BLAST, 6×6 blocks, half of the dense parameters |
//! | `blast:b=3x6,r=40` | BLAST, 3 row blocks, 6 column blocks, rank 40 |
//! | `blast` | BLAST, blocks chosen, half of the dense parameters |
//! | `low-rank:r=64` | low rank, rank 64 |
//! | `ss1:c=4` | SS1, every weight used four times, blocks of 16 features and 64 rows, the additive hash |
//! | `ss1:c=4,k=8,n=32,hash=independent,seed=1` | SS1 with every setting |

use crate::{Blocks, Rank};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Which structure a [`crate::StructuredLinear`] has. Serialised as its text form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Structure {
    /// An ordinary linear layer.
    #[default]
    Dense,
    /// A [`crate::BlastLinear`].
    Blast {
        /// The block grid.
        blocks: Blocks,
        /// The rank, or the share of the dense parameters.
        rank: Rank,
    },
    /// A [`crate::LowRankLinear`].
    LowRank {
        /// The rank, or the share of the dense parameters.
        rank: Rank,
    },
    /// A [`crate::Ss1Linear`].
    Ss1 {
        /// How many input blocks share their weights.
        reduction: usize,
        /// Input features of a block.
        block_k: usize,
        /// Output rows that share their rotations.
        block_n: usize,
        /// The seed of independent rotations with signs; `None` for the additive hash.
        independent: Option<u32>,
    },
}

impl Structure {
    /// The names the text form knows.
    pub const NAMES: [&'static str; 4] = ["dense", "blast", "low-rank", "ss1"];

    /// The name alone, without settings.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dense => "dense",
            Self::Blast { .. } => "blast",
            Self::LowRank { .. } => "low-rank",
            Self::Ss1 { .. } => "ss1",
        }
    }

    /// The same structure with another rank.
    ///
    /// A share of the dense parameters becomes the nearest reduction of [`Structure::Ss1`], which has no rank;
    /// [`Structure::Dense`] is returned unchanged.
    pub fn with_rank(self, rank: Rank) -> Self {
        match self {
            Self::Dense => Self::Dense,
            Self::Blast { blocks, .. } => Self::Blast { blocks, rank },
            Self::LowRank { .. } => Self::LowRank { rank },
            Self::Ss1 { reduction, block_k, block_n, independent } => match rank {
                Rank::Ratio(ratio) => {
                    Self::Ss1 { reduction: (1.0 / ratio).round().max(1.0) as usize, block_k, block_n, independent }
                }
                Rank::Fixed(_) => Self::Ss1 { reduction, block_k, block_n, independent },
            },
        }
    }

    /// The same structure with another block grid; structures without blocks are returned unchanged.
    pub fn with_blocks(self, blocks: Blocks) -> Self {
        match self {
            Self::Blast { rank, .. } => Self::Blast { blocks, rank },
            other => other,
        }
    }
}

/// Why a text is no [`Structure`]. The message lists what is valid.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum StructureParseError {
    /// No structure of that name.
    #[error("unknown structure `{name}`; the structures are {}", Structure::NAMES.join(", "))]
    UnknownName {
        /// The name given.
        name: String,
    },
    /// The structure has no such setting.
    #[error("`{name}` has no setting `{key}`; {}", settings(valid))]
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

fn settings(valid: &[&str]) -> String {
    match valid {
        [] => "it takes no settings".into(),
        _ => format!("its settings are {}", valid.join(", ")),
    }
}

/// The settings of a text form while they are read.
struct Settings<'a> {
    name: &'static str,
    text: &'a str,
    valid: &'static [&'static str],
    blocks: Option<Blocks>,
    rank: Option<(&'static str, Rank)>,
    /// The whole numbers that were given, by key.
    numbers: Vec<(&'static str, u32)>,
    independent: Option<bool>,
}

impl<'a> Settings<'a> {
    fn read(name: &'static str, text: &'a str, valid: &'static [&'static str]) -> Result<Self, StructureParseError> {
        let mut settings = Self { name, text, valid, blocks: None, rank: None, numbers: Vec::new(), independent: None };
        settings.parse()?;
        Ok(settings)
    }

    fn parse(&mut self) -> Result<(), StructureParseError> {
        for setting in self.text.split(',').map(str::trim).filter(|setting| !setting.is_empty()) {
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| StructureParseError::NotASetting { text: setting.to_string() })?;
            let (key, value) = (key.trim(), value.trim());
            match self.valid.iter().find(|valid| **valid == key) {
                Some(&"b") => {
                    if self.blocks.replace(parse_blocks(value)?).is_some() {
                        return Err(StructureParseError::Contradiction { first: "b", second: "b" });
                    }
                }
                Some(&"r") => {
                    self.set_rank("r", Rank::Fixed(parse_number("r", value, "a whole number, such as r=64")?))?
                }
                Some(&"ratio") => {
                    let expected = "a share of the dense parameters above 0 and at most 1, such as ratio=0.5";
                    let ratio: f64 = parse_number("ratio", value, expected)?;
                    if !(ratio > 0.0 && ratio <= 1.0) {
                        return Err(invalid("ratio", value, expected));
                    }
                    self.set_rank("ratio", Rank::Ratio(ratio))?;
                }
                Some(&"hash") => {
                    let independent = match value {
                        "additive" => false,
                        "independent" => true,
                        _ => return Err(invalid("hash", value, "additive or independent")),
                    };
                    if self.independent.replace(independent).is_some() {
                        return Err(StructureParseError::Contradiction { first: "hash", second: "hash" });
                    }
                }
                Some(&key) => {
                    let number = parse_number(key, value, "a whole number")?;
                    if number == 0 && key != "seed" {
                        return Err(invalid(key, value, "a whole number above 0"));
                    }
                    if self.numbers.iter().any(|(given, _)| *given == key) {
                        return Err(StructureParseError::Contradiction { first: key, second: key });
                    }
                    self.numbers.push((key, number));
                }
                None => {
                    return Err(StructureParseError::UnknownSetting {
                        name: self.name,
                        key: key.to_string(),
                        valid: self.valid,
                    });
                }
            }
        }
        Ok(())
    }

    fn set_rank(&mut self, key: &'static str, rank: Rank) -> Result<(), StructureParseError> {
        match self.rank.replace((key, rank)) {
            Some((first, _)) => Err(StructureParseError::Contradiction { first, second: key }),
            None => Ok(()),
        }
    }

    fn number(&self, key: &str, default: u32) -> u32 {
        self.numbers.iter().find(|(given, _)| *given == key).map_or(default, |(_, number)| *number)
    }

    fn independent(&self) -> Result<Option<u32>, StructureParseError> {
        let seeded = self.numbers.iter().any(|(given, _)| *given == "seed");
        match self.independent {
            Some(true) => Ok(Some(self.number("seed", 0))),
            _ if seeded => Err(StructureParseError::Contradiction { first: "hash=additive", second: "seed" }),
            _ => Ok(None),
        }
    }

    fn rank(&self) -> Rank {
        self.rank.map_or(Rank::Ratio(0.5), |(_, rank)| rank)
    }
}

fn invalid(key: &'static str, value: &str, expected: &'static str) -> StructureParseError {
    StructureParseError::InvalidValue { key, value: value.to_string(), expected }
}

fn parse_number<T: FromStr>(key: &'static str, value: &str, expected: &'static str) -> Result<T, StructureParseError> {
    value.parse().map_err(|_| invalid(key, value, expected))
}

fn parse_blocks(value: &str) -> Result<Blocks, StructureParseError> {
    let expected = "a number of blocks, rows by columns or `auto`, such as b=6, b=3x6, b=auto";
    let number = |value: &str| match parse_number("b", value, expected)? {
        0 => Err(invalid("b", value, expected)),
        blocks => Ok(blocks),
    };
    match value.split_once('x') {
        _ if value == "auto" => Ok(Blocks::Auto),
        Some((output, input)) => Ok(Blocks::Grid { output: number(output)?, input: number(input)? }),
        None => Ok(Blocks::Square(number(value)?)),
    }
}

impl FromStr for Structure {
    type Err = StructureParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, settings) = text.trim().split_once(':').unwrap_or((text.trim(), ""));
        match name.trim() {
            "dense" => Settings::read("dense", settings, &[]).map(|_| Self::Dense),
            "blast" => {
                let settings = Settings::read("blast", settings, &["b", "r", "ratio"])?;
                Ok(Self::Blast { blocks: settings.blocks.unwrap_or(Blocks::Auto), rank: settings.rank() })
            }
            "low-rank" => {
                let settings = Settings::read("low-rank", settings, &["r", "ratio"])?;
                Ok(Self::LowRank { rank: settings.rank() })
            }
            "ss1" => {
                let settings = Settings::read("ss1", settings, &["c", "k", "n", "hash", "seed"])?;
                Ok(Self::Ss1 {
                    reduction: settings.number("c", 2) as usize,
                    block_k: settings.number("k", 16) as usize,
                    block_n: settings.number("n", 64) as usize,
                    independent: settings.independent()?,
                })
            }
            name => Err(StructureParseError::UnknownName { name: name.to_string() }),
        }
    }
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rank = |rank: &Rank| match rank {
            Rank::Fixed(rank) => format!("r={rank}"),
            Rank::Ratio(ratio) => format!("ratio={ratio}"),
        };
        match self {
            Self::Dense => write!(f, "dense"),
            Self::Blast { blocks, rank: r } => {
                let blocks = match blocks {
                    Blocks::Auto => "auto".to_string(),
                    Blocks::Square(blocks) => blocks.to_string(),
                    Blocks::Grid { output, input } => format!("{output}x{input}"),
                };
                write!(f, "blast:b={blocks},{}", rank(r))
            }
            Self::LowRank { rank: r } => write!(f, "low-rank:{}", rank(r)),
            Self::Ss1 { reduction, block_k, block_n, independent } => {
                write!(f, "ss1:c={reduction},k={block_k},n={block_n},")?;
                match independent {
                    Some(seed) => write!(f, "hash=independent,seed={seed}"),
                    None => write!(f, "hash=additive"),
                }
            }
        }
    }
}

impl TryFrom<String> for Structure {
    type Error = StructureParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Structure> for String {
    fn from(structure: Structure) -> Self {
        structure.to_string()
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
        ] {
            assert_eq!(text.parse::<Structure>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn settings_have_defaults_and_any_order() {
        assert_eq!("blast".parse::<Structure>().unwrap().to_string(), "blast:b=auto,ratio=0.5");
        assert_eq!("ss1:c=4".parse::<Structure>().unwrap().to_string(), "ss1:c=4,k=16,n=64,hash=additive");
        assert_eq!(" blast: r=4 , b=2 ".parse::<Structure>().unwrap().to_string(), "blast:b=2,r=4");
    }

    #[test]
    fn errors_list_what_is_valid() {
        for (text, message) in [
            ("monarc", "unknown structure `monarc`; the structures are dense, blast, low-rank, ss1"),
            ("low-rank:b=3", "`low-rank` has no setting `b`; its settings are r, ratio"),
            ("dense:r=3", "`dense` has no setting `r`; it takes no settings"),
            ("blast:r=3,ratio=0.5", "`r` and `ratio` contradict each other; give one of them"),
            ("ss1:c=0", "`0` is no value for `c`; a whole number above 0"),
            ("ss1:ratio=0.5", "`ss1` has no setting `ratio`; its settings are c, k, n, hash, seed"),
            ("ss1:hash=xor", "`xor` is no value for `hash`; additive or independent"),
            ("ss1:c=2,seed=3", "`hash=additive` and `seed` contradict each other; give one of them"),
            ("blast:6", "`6` is not a setting; write key=value, as in `blast:b=6,ratio=0.5`"),
            ("blast:r=-1", "`-1` is no value for `r`; a whole number, such as r=64"),
            (
                "blast:b=0",
                "`0` is no value for `b`; a number of blocks, rows by columns or `auto`, such as b=6, b=3x6, b=auto",
            ),
            (
                "blast:ratio=1.5",
                "`1.5` is no value for `ratio`; a share of the dense parameters above 0 and at most 1, such as ratio=0.5",
            ),
        ] {
            assert_eq!(text.parse::<Structure>().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn serialised_as_its_text_form() {
        let structure: Structure = "blast:b=6,ratio=0.5".parse().unwrap();
        let json = serde_json::to_string(&structure).unwrap();
        assert_eq!(json, "\"blast:b=6,ratio=0.5\"");
        assert_eq!(serde_json::from_str::<Structure>(&json).unwrap(), structure);
        assert!(serde_json::from_str::<Structure>("\"blst\"").is_err());
    }
}
