//! What is measured: the layers of real networks, the structures and budgets, the numbers of tokens.
//!
//! The list itself is `catalogue.json`, which the PyTorch script reads as well, so that both time the same layers.

use super::arguments::{Layer, Pass, Selection};
use burn_structured::nn::Structure;
use serde::{Deserialize, Serialize};

/// Layers that are measured together: the structures and the dense baselines take turns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Case {
    /// The shape of the layer.
    pub layer: Layer,
    /// Rows of the input.
    pub tokens: usize,
    /// Forward, or forward and backward.
    pub pass: Pass,
    /// In the text form of [`Structure`].
    pub structures: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Catalogue {
    models: Vec<Model>,
    structures: Vec<String>,
    tokens: Vec<usize>,
    dtypes: Vec<String>,
    selections: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Model {
    layers: Vec<String>,
}

/// Every one of `layers` with every one of `structures`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Group {
    layers: Vec<String>,
    structures: Vec<String>,
    /// Tokens of the forward pass.
    forward: Vec<usize>,
    /// Tokens of the forward and backward pass.
    forward_backward: Vec<usize>,
}

/// The dtypes of the whole catalogue.
pub fn dtypes() -> Result<Vec<String>, String> {
    Ok(read()?.dtypes)
}

/// All structures, in their order.
pub fn structures() -> Result<Vec<String>, String> {
    Ok(read()?.structures)
}

/// The cases of `selection`, layers in the order of the catalogue.
///
/// # Errors
///
/// If the catalogue or a structure cannot be read, or nothing is left to measure; the message says which.
pub fn cases(selection: &Selection) -> Result<Vec<Case>, String> {
    let catalogue = read()?;
    let everything = || Group {
        layers: catalogue.models.iter().flat_map(|model| model.layers.clone()).collect(),
        structures: catalogue.structures.clone(),
        forward: catalogue.tokens.clone(),
        forward_backward: catalogue.tokens.clone(),
    };
    let mut groups = if selection.all { vec![everything()] } else { catalogue.selections.clone() };
    if !selection.structures.is_empty() || !selection.layers.is_empty() {
        // Layers or structures from the command line, with all that the catalogue lists of the other.
        let chosen = |all: Vec<String>, given: &[String]| if given.is_empty() { all } else { given.to_vec() };
        let layers: Vec<String> = selection.layers.iter().map(Layer::to_string).collect();
        for group in &mut groups {
            group.structures = chosen(group.structures.clone(), &selection.structures);
            group.layers = chosen(group.layers.clone(), &layers);
        }
    }

    let mut cases: Vec<Case> = Vec::new();
    for group in &groups {
        for layer in &group.layers {
            let layer: Layer = layer.parse()?;
            for (pass, listed) in [(Pass::Forward, &group.forward), (Pass::ForwardBackward, &group.forward_backward)] {
                if selection.pass.is_some_and(|wanted| wanted != pass)
                    || (listed.is_empty() && selection.pass.is_none())
                {
                    continue;
                }
                let tokens = if selection.tokens.is_empty() { listed } else { &selection.tokens };
                for &tokens in tokens {
                    let at =
                        cases.iter().position(|case| (case.layer, case.tokens, case.pass) == (layer, tokens, pass));
                    let at = at.unwrap_or_else(|| {
                        cases.push(Case { layer, tokens, pass, structures: Vec::new() });
                        cases.len() - 1
                    });
                    add(&mut cases[at].structures, &group.structures, selection.only.as_deref())?;
                }
            }
        }
    }
    cases.retain(|case| !case.structures.is_empty());
    cases.sort_by_key(|case| (case.layer.d_input * case.layer.d_output, case.layer.d_input, case.pass, case.tokens));
    if cases.is_empty() {
        return Err("nothing to measure: no structure of the selection matches; see --list".into());
    }
    Ok(cases)
}

fn add(known: &mut Vec<String>, structures: &[String], only: Option<&str>) -> Result<(), String> {
    for text in structures {
        text.parse::<Structure>().map_err(|error| format!("{text}: {error}"))?;
        if only.is_none_or(|only| text.contains(only)) && !known.contains(text) {
            known.push(text.clone());
        }
    }
    Ok(())
}

fn read() -> Result<Catalogue, String> {
    serde_json::from_str(include_str!("catalogue.json")).map_err(|error| format!("catalogue.json: {error}"))
}
