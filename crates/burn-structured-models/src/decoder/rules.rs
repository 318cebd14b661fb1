//! Which layer has which structure.

use burn_structured_nn::{Structure, StructureParseError};
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// The structure of every linear layer of the blocks, by ordered rules of which the first match wins. A layer that no rule
/// matches is dense. Serialised as the text form.
///
/// The text form is rules separated by `;`, each `pattern=structure`, or a structure alone for all layers:
///
/// | rule | layers |
/// |---|---|
/// | `blast:b=4,ratio=0.5` | all |
/// | `first=dense` | those of the first block |
/// | `last=dense` | those of the last block |
/// | `attention=blast` | those of the attention in every block |
/// | `mlp=low-rank:ratio=0.3` | those of the MLP in every block |
/// | `h\.[0-3]\.mlp\.c_fc=monarch` | those whose whole name the regular expression matches |
///
/// The name of a layer is that of Hugging Face's checkpoints without what they put before every name: `h.0.attn.c_attn` in a GPT-2,
/// `layers.0.self_attn.q_proj` in a Llama. A pattern contains no `:`, `=` or `;`.
///
/// # Example
///
/// ```
/// use burn_structured_models::decoder::LayerRules;
///
/// let rules: LayerRules = "first=dense;attention=blast:b=4,r=32;monarch".parse()?;
/// assert_eq!(rules.structure_of("h.0.attn.c_attn", 0, 12).name(), "dense");
/// assert_eq!(rules.structure_of("h.1.attn.c_attn", 1, 12).name(), "blast");
/// assert_eq!(rules.structure_of("h.1.mlp.c_fc", 1, 12).name(), "monarch");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerRules {
    rules: Vec<LayerRule>,
}

/// Why a text holds no [`LayerRules`], or why they do not fit a model.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LayerRulesError {
    /// What should be a structure is none.
    #[error("in the rule `{rule}`: {source}")]
    Structure {
        /// The rule.
        rule: String,
        /// Why it is none.
        source: StructureParseError,
    },
    /// There is nothing before the `=`.
    #[error(
        "the rule `{rule}` has no pattern before `=`; write first, last, attention, mlp or the name of a layer there"
    )]
    EmptyPattern {
        /// The rule.
        rule: String,
    },
    /// The pattern is no word and no regular expression.
    #[error("in the rule `{rule}`: {reason}; a pattern is first, last, attention, mlp or a regular expression")]
    Pattern {
        /// The rule.
        rule: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The pattern matches no layer.
    #[error(
        "the rule `{rule}` matches no layer; the layers are {} of blocks 0 to {}",
        layers.join(", "), depth - 1
    )]
    NoLayer {
        /// The rule.
        rule: String,
        /// The names of the first block's layers.
        layers: Vec<String>,
        /// The number of blocks.
        depth: usize,
    },
    /// Earlier rules match all layers that this one matches.
    #[error("the rule `{rule}` has no effect, as earlier rules match all of its layers; move it forward or remove it")]
    NoEffect {
        /// The rule.
        rule: String,
    },
}

#[derive(Clone, Debug, PartialEq)]
struct LayerRule {
    pattern: Pattern,
    structure: Structure,
}

#[derive(Clone, Debug)]
enum Pattern {
    All,
    First,
    Last,
    Attention,
    Mlp,
    Name { text: String, regex: Regex },
}

impl LayerRules {
    /// One rule for each layer, by its whole name.
    pub fn of_layers<N: AsRef<str>>(layers: impl IntoIterator<Item = (N, Structure)>) -> Self {
        let rule = |(name, structure): (N, Structure)| {
            let text = regex::escape(name.as_ref());
            let pattern = Pattern::name(&text).expect("an escaped name is a regular expression");
            LayerRule { pattern, structure }
        };
        Self { rules: layers.into_iter().map(rule).collect() }
    }

    /// The structure of the layer `name` in block `layer` of `depth`.
    pub fn structure_of(&self, name: &str, layer: usize, depth: usize) -> Structure {
        let rule = self.rules.iter().find(|rule| rule.pattern.matches(name, layer, depth));
        rule.map_or(Structure::Dense, |rule| rule.structure)
    }

    /// Whether every rule decides about a layer of a model of `depth` blocks, of which `names` gives the names of the layers.
    ///
    /// # Errors
    ///
    /// If a rule matches no layer, or only layers that earlier rules match.
    pub fn check<N: IntoIterator<Item = String>>(
        &self,
        depth: usize,
        names: impl Fn(usize) -> N,
    ) -> Result<(), LayerRulesError> {
        let layers = || (0..depth).flat_map(|layer| names(layer).into_iter().map(move |name| (name, layer)));
        for (index, rule) in self.rules.iter().enumerate() {
            let matches = |rule: &LayerRule, (name, layer): &(String, usize)| rule.pattern.matches(name, *layer, depth);
            if !layers().any(|layer| matches(rule, &layer)) {
                let layers = names(0).into_iter().collect();
                return Err(LayerRulesError::NoLayer { rule: rule.to_string(), layers, depth });
            }
            let earlier = &self.rules[..index];
            if !layers().any(|layer| matches(rule, &layer) && !earlier.iter().any(|other| matches(other, &layer))) {
                return Err(LayerRulesError::NoEffect { rule: rule.to_string() });
            }
        }
        Ok(())
    }
}

impl Pattern {
    fn name(text: &str) -> Result<Self, regex::Error> {
        let regex = Regex::new(&format!("^(?:{text})$"))?;
        Ok(Self::Name { text: text.to_string(), regex })
    }

    fn matches(&self, name: &str, layer: usize, depth: usize) -> bool {
        match self {
            Self::All => true,
            Self::First => layer == 0,
            Self::Last => layer + 1 == depth,
            // Of a GPT-2, and of a Llama.
            Self::Attention => name.contains(".attn.") || name.contains(".self_attn."),
            Self::Mlp => name.contains(".mlp."),
            Self::Name { regex, .. } => regex.is_match(name),
        }
    }

    /// What stands before the `=`.
    fn text(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::First => Some("first"),
            Self::Last => Some("last"),
            Self::Attention => Some("attention"),
            Self::Mlp => Some("mlp"),
            Self::Name { text, .. } => Some(text),
        }
    }
}

/// Regular expressions are compared by their text.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl FromStr for Pattern {
    type Err = regex::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "first" => Self::First,
            "last" => Self::Last,
            "attention" => Self::Attention,
            "mlp" => Self::Mlp,
            name => Self::name(name)?,
        })
    }
}

impl FromStr for LayerRule {
    type Err = LayerRulesError;

    fn from_str(rule: &str) -> Result<Self, Self::Err> {
        // The settings of a structure contain `=` too, but only after a `:`.
        let (pattern, structure) = match rule.split_once('=').filter(|(pattern, _)| !pattern.contains(':')) {
            Some((pattern, structure)) => (Some(pattern.trim()), structure),
            None => (None, rule),
        };
        let pattern = match pattern {
            None => Pattern::All,
            Some("") => return Err(LayerRulesError::EmptyPattern { rule: rule.to_string() }),
            Some(pattern) => pattern.parse().map_err(|error: regex::Error| {
                // The last of several lines says what is wrong; the others point at the place.
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                LayerRulesError::Pattern { rule: rule.to_string(), reason: reason.to_string() }
            })?,
        };
        let structure = structure.parse().map_err(|source| LayerRulesError::Structure { rule: rule.into(), source })?;
        Ok(Self { pattern, structure })
    }
}

impl FromStr for LayerRules {
    type Err = LayerRulesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rules = text.split(';').map(str::trim).filter(|rule| !rule.is_empty());
        Ok(Self { rules: rules.map(str::parse).collect::<Result<_, _>>()? })
    }
}

impl fmt::Display for LayerRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pattern.text() {
            None => write!(f, "{}", self.structure),
            Some(pattern) => write!(f, "{pattern}={}", self.structure),
        }
    }
}

impl fmt::Display for LayerRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rule) in self.rules.iter().enumerate() {
            write!(f, "{}{rule}", if index > 0 { ";" } else { "" })?;
        }
        Ok(())
    }
}

/// The same structure for all layers.
impl From<Structure> for LayerRules {
    fn from(structure: Structure) -> Self {
        Self { rules: vec![LayerRule { pattern: Pattern::All, structure }] }
    }
}

impl TryFrom<String> for LayerRules {
    type Error = LayerRulesError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<LayerRules> for String {
    fn from(rules: LayerRules) -> Self {
        rules.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpt2::linear_names;

    fn rules(text: &str) -> LayerRules {
        text.parse().unwrap()
    }

    #[test]
    fn first_match_wins_and_the_rest_is_dense() {
        let rules = rules(r"first=dense;last=dense;attention=blast:b=4,r=8;h\.1\.mlp\.c_fc=monarch:b=2,r=3");
        let names = |layer: usize| linear_names(layer).map(|name| rules.structure_of(&name, layer, 4).name());
        assert_eq!(names(0), ["dense"; 4]);
        assert_eq!(names(1), ["blast", "blast", "monarch", "dense"]);
        assert_eq!(names(2), ["blast", "blast", "dense", "dense"]);
        assert_eq!(names(3), ["dense"; 4]);
    }

    #[test]
    fn a_name_is_matched_as_a_whole() {
        let rules = rules(r"h\.1\..*=monarch");
        assert_eq!(rules.structure_of("h.1.mlp.c_fc", 1, 12).name(), "monarch");
        assert_eq!(rules.structure_of("h.11.mlp.c_fc", 11, 12).name(), "dense");
        assert_eq!(self::rules("mlp.c_fc=monarch").structure_of("h.1.mlp.c_fc", 1, 12).name(), "dense");
    }

    #[test]
    fn the_text_form_is_read_and_printed_back() {
        for text in [
            "",
            "blast:b=4,ratio=0.5",
            r"first=dense;mlp=low-rank:ratio=0.3;h\.3\.mlp.*=monarch:b=4,r=2;ss1:c=2,k=16,n=64,hash=additive",
        ] {
            assert_eq!(rules(text).to_string(), text);
            let json = serde_json::to_string(&rules(text)).unwrap();
            assert_eq!(serde_json::from_str::<LayerRules>(&json).unwrap(), rules(text));
        }
        assert_eq!(rules(" first = dense ; blast : r=4 ; "), rules("first=dense;blast:r=4"));
        assert_ne!(rules("first=dense"), rules("last=dense"));
    }

    #[test]
    fn rules_of_layers_name_each_of_them() {
        let structures = ["blast:b=2,r=4", "monarch:b=2,r=1"].map(|text| text.parse::<Structure>().unwrap());
        let rules = LayerRules::of_layers([("h.0.mlp.c_fc", structures[0]), ("h.1.mlp.c_fc", structures[1])]);
        assert_eq!(rules.to_string(), r"h\.0\.mlp\.c_fc=blast:b=2,r=4;h\.1\.mlp\.c_fc=monarch:b=2,r=1");
        assert_eq!(rules.structure_of("h.1.mlp.c_fc", 1, 2), structures[1]);
        assert_eq!(rules.structure_of("h.0.mlp.c_proj", 0, 2), Structure::Dense);
    }

    #[test]
    fn broken_text_names_the_rule() {
        let message = |text: &str| text.parse::<LayerRules>().unwrap_err().to_string();
        assert!(message("mlp=blsat").starts_with("in the rule `mlp=blsat`: unknown structure `blsat`; "));
        assert!(message("dense;mpl").starts_with("in the rule `mpl`: unknown structure `mpl`; "));
        assert_eq!(
            message("=dense"),
            "the rule `=dense` has no pattern before `=`; write first, last, attention, mlp or the name of a layer there"
        );
        assert_eq!(
            message("h.(=dense"),
            "in the rule `h.(=dense`: unclosed group; a pattern is first, last, attention, mlp or a regular expression"
        );
    }

    #[test]
    fn idle_rules_are_errors() {
        let message = |text: &str| rules(text).check(2, linear_names).unwrap_err().to_string();
        assert_eq!(
            message(r"attention=blast;h\.2\..*=dense"),
            r"the rule `h\.2\..*=dense` matches no layer; the layers are h.0.attn.c_attn, h.0.attn.c_proj, h.0.mlp.c_fc, h.0.mlp.c_proj of blocks 0 to 1"
        );
        assert_eq!(
            message("blast:r=2;mlp=dense"),
            "the rule `mlp=dense` has no effect, as earlier rules match all of its layers; move it forward or remove it"
        );
        rules("first=dense;last=blast").check(2, linear_names).unwrap();
        rules("").check(2, linear_names).unwrap();
    }
}
