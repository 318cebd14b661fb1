//! The errors of a layer's structures at a few measured sizes, and at all ranks between them.

use super::{PlanConfig, Resolved};
use crate::CompressError;
use crate::budget::{CurvePoint, LayerCurve, measure};
use crate::calibrate::Moment;
use burn::tensor::Tensor;
use burn_structured_nn::{Rank, Structure, StructureError};

/// Steps between ranks are 8, which hardware reads well, unless that is more than this share of the dense weight.
const LARGEST_STEP: f64 = 0.05;
/// The most ranks of one structure among which is chosen.
const MAX_RANKS: usize = 256;

/// What a layer could become.
pub(super) struct LayerChoices {
    /// All choices, with relative errors; the dense layer is one of them where costs were measured.
    pub curve: LayerCurve,
    /// The measured ones of each structure, by parameters.
    measured: Vec<Vec<CurvePoint>>,
    shape: [usize; 2],
}

impl LayerChoices {
    /// Measures the structures of `config` on a dense `weight [d_output, d_input]`, for inputs of second moment `moment` if they
    /// are known.
    ///
    /// # Errors
    ///
    /// If no structure fits, with the reason why the first one does not, or a measurement fails.
    pub fn measure(
        weight: &Tensor<2>,
        config: &PlanConfig,
        moment: Option<&Moment>,
    ) -> Result<Result<Self, StructureError>, CompressError> {
        let [m, n] = weight.dims();
        let mut misfit = None;
        let mut tried: Vec<(usize, Structure)> = Vec::new();
        for (family, structure) in config.structures.iter().enumerate() {
            for share in &config.shares {
                let found = Resolved::new(structure.with_rank(Rank::Ratio(*share)), n, m);
                // A share below the lowest rank takes that.
                match found.or_else(|error| Resolved::new(with_one_rank(*structure), n, m).map_err(|_| error)) {
                    Ok(found) if found.weights.params >= m * n => {}
                    Ok(found) if tried.contains(&(family, found.structure)) => {}
                    Ok(found) => tried.push((family, found.structure)),
                    Err(error) => misfit = misfit.or(Some(error)),
                }
            }
        }
        if let (true, Some(misfit)) = (tried.is_empty(), misfit) {
            return Ok(Err(misfit));
        }
        let structures: Vec<Structure> = tried.iter().map(|(_, structure)| *structure).collect();
        let points = measure(weight, &structures, moment, &config.factorizer)?;
        let mut measured = vec![Vec::new(); config.structures.len()];
        for ((family, _), point) in tried.iter().zip(points) {
            measured[*family].push(point);
        }
        // Without measured costs, the prior is that no layer is worth more than others: none of them stays dense.
        let dense = CurvePoint { structure: Structure::Dense, params: m * n, squared_error: 0.0, relative_error: 0.0 };
        let mut all = if config.sensitivities.is_empty() { Vec::new() } else { vec![dense] };
        for points in &mut measured {
            points.sort_by_key(|point| point.params);
            all.extend(choices(points, [m, n]));
        }
        Ok(Ok(Self { curve: LayerCurve::new(all).with_relative_errors(), measured, shape: [m, n] }))
    }

    /// The share of the dense weights that a choice takes.
    pub fn share(&self, point: &CurvePoint) -> f64 {
        point.params as f64 / (self.shape[0] * self.shape[1]) as f64
    }

    /// The choice with the next higher rank; `None` if there is none, or the structure has no rank.
    pub fn next_rank(&self, point: &CurvePoint) -> Option<CurvePoint> {
        let [m, n] = self.shape;
        let rank = Resolved::new(point.structure, n, m).ok()?.rank?;
        let next = Resolved::new(point.structure.with_rank(Rank::Fixed(rank + 1)), n, m).ok()?;
        let same = |other: &CurvePoint| with_one_rank(other.structure) == with_one_rank(point.structure);
        let points = self.measured.iter().find(|points| points.first().is_some_and(same))?;
        (next.weights.params < m * n).then(|| interpolated(points, &next))
    }
}

/// The points to choose from between the first and the last of `points`, all of one structure: at ranks that hardware reads well, if
/// the structure has ranks.
fn choices(points: &[CurvePoint], [m, n]: [usize; 2]) -> Vec<CurvePoint> {
    let resolved = |point: &CurvePoint| Resolved::new(point.structure, n, m).ok();
    let (Some(first), Some(last)) = (points.first().and_then(resolved), points.last().and_then(resolved)) else {
        return Vec::new();
    };
    let (Some(lowest), Some(highest)) = (first.rank, last.rank) else { return points.to_vec() };
    let ranks = highest - lowest;
    let per_rank = (last.weights.params - first.weights.params) / ranks.max(1);
    let aligned = (8 * per_rank) as f64 <= LARGEST_STEP * (m * n) as f64;
    let step = if aligned { 8 * (ranks / 8).div_ceil(MAX_RANKS).max(1) } else { ranks.div_ceil(MAX_RANKS).max(1) };
    // The lowest ranks are few, and the sizes between them large.
    let first_rank = (lowest < step).then_some(lowest);
    let all = first_rank.into_iter().chain((lowest.next_multiple_of(step)..=highest).step_by(step));
    let found = all.filter_map(|rank| Resolved::new(first.structure.with_rank(Rank::Fixed(rank)), n, m).ok());
    let found: Vec<CurvePoint> = found.map(|found| interpolated(points, &found)).collect();
    if found.is_empty() { points.to_vec() } else { found }
}

/// The point of a structure: the logarithm of the squared error is linear in the parameters between measured points, and
/// constant beyond them.
fn interpolated(points: &[CurvePoint], found: &Resolved) -> CurvePoint {
    let params = found.weights.params;
    let above = points.iter().position(|point| point.params >= params).unwrap_or(points.len() - 1);
    let (below, above) = (points[above.saturating_sub(1)], points[above]);
    let range = (above.params - below.params) as f64;
    let share = if range > 0.0 { (params.saturating_sub(below.params)) as f64 / range } else { 1.0 };
    let mix = |below: f64, above: f64| {
        if below > 0.0 && above > 0.0 { (below.ln() + share.min(1.0) * (above.ln() - below.ln())).exp() } else { above }
    };
    CurvePoint {
        structure: found.structure,
        params,
        squared_error: mix(below.squared_error, above.squared_error),
        relative_error: mix(below.relative_error, above.relative_error),
    }
}

/// The fewest weights that one of the structures takes for a layer; `None` if none of them fits.
pub(super) fn smallest(structures: &[Structure], d_input: usize, d_output: usize) -> Option<usize> {
    let resolved = |structure: &Structure| Resolved::new(with_one_rank(*structure), d_input, d_output).ok();
    structures.iter().filter_map(resolved).map(|found| found.weights.params).min()
}

fn with_one_rank(structure: Structure) -> Structure {
    structure.with_rank(Rank::Fixed(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn choices_are_near_what_is_measured() {
        let weight = Tensor::<2>::random([64, 48], Distribution::Normal(0.0, 1.0), &Device::flex());
        let config = PlanConfig::new(0.5).with_structures(vec!["low-rank".parse().unwrap()]);
        let choices = LayerChoices::measure(&weight, &config, None).unwrap().unwrap();
        let points = &choices.curve.points;
        assert!(points.len() > 10, "{}", points.len());
        for point in points {
            let exact = measure(&weight, &[point.structure], None, &config.factorizer).unwrap()[0];
            assert_eq!(exact.params, point.params);
            assert!((point.relative_error / exact.relative_error - 1.0).abs() < 0.03, "{point:?} against {exact:?}");
        }
        let next = choices.next_rank(&points[0]).unwrap();
        assert_eq!(next.params, points[0].params + 64 + 48);
        let config = config.with_sensitivities([("a".to_string(), 1.0)].into());
        let choices = LayerChoices::measure(&weight, &config, None).unwrap().unwrap();
        let dense = choices.curve.points[0];
        assert_eq!((dense.structure, dense.params), (Structure::Dense, 64 * 48));
        assert_eq!(choices.next_rank(&dense), None);
    }

    #[test]
    fn structures_without_rank_have_their_settings() {
        let weight = Tensor::<2>::random([16, 32], Distribution::Normal(0.0, 1.0), &Device::flex());
        let structures = ["ss1:k=4", "block-diagonal"].map(|text| text.parse().unwrap()).to_vec();
        let config = PlanConfig::new(0.3).with_structures(structures);
        let choices = LayerChoices::measure(&weight, &config, None).unwrap().unwrap();
        let names: Vec<&str> = choices.curve.points.iter().map(|point| point.structure.name()).collect();
        assert!(names.contains(&"ss1") && names.contains(&"block-diagonal"), "{names:?}");
        assert!(choices.curve.points.iter().all(|point| choices.next_rank(point).is_none()));
    }
}
