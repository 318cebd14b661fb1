//! Structures from the command line.

use burn_structured::nn::{Rank, Structure, StructureParseError};
use burn_structured::train::comparison::split_structures;
use std::str::FromStr;

/// A structure and whether its settings were given.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    pub structure: Structure,
    /// Whether the name stood alone, without settings.
    pub bare: bool,
}

impl Named {
    /// The structure, with this share of the dense parameters if nothing else was said.
    #[allow(dead_code, reason = "one of the programs settles ranks and blocks itself")]
    pub fn or_ratio(self, ratio: f64) -> Structure {
        if self.bare { self.structure.with_rank(Rank::Ratio(ratio)) } else { self.structure }
    }
}

impl FromStr for Named {
    type Err = StructureParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self { structure: text.parse()?, bare: !text.contains(':') })
    }
}

#[derive(Clone, Debug)]
pub struct Structures(pub Vec<Named>);

/// Several structures, which commas separate.
pub fn parse(text: &str) -> Result<Structures, String> {
    let structures =
        split_structures(&text.replace(';', ",")).iter().map(|text| text.parse()).collect::<Result<_, _>>();
    structures.map(Structures).map_err(|error: StructureParseError| error.to_string())
}
