//! Choice of a point of each layer's curve within one budget.

use super::{CurvePoint, LayerCurve};
use crate::CompressError;

/// The choices for all layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// The index of the chosen point of each curve.
    pub choices: Vec<usize>,
    /// Parameters of all layers together.
    pub params: usize,
    /// Sum of the squared errors of all layers, each times its sensitivity.
    pub squared_error: f64,
}

/// Chooses a point of each curve so that the sum of weighted squared errors is minimal with at most `budget` parameters.
///
/// Greedy steps along the layers' lower convex hulls, from the fewest parameters, by error reduction per parameter (Lagrangian
/// relaxation: optimal for the total that they end at); then the best single changes that still fit.
///
/// # Errors
///
/// If there is no curve, a curve has no point or an error or a sensitivity that is negative or not finite, or the fewest parameters are more than `budget`.
pub fn allocate(curves: &[LayerCurve], budget: usize) -> Result<Allocation, CompressError> {
    if curves.is_empty() {
        return Err(CompressError::NoMatrix);
    }
    for (layer, curve) in curves.iter().enumerate() {
        let valid = |point: &CurvePoint| point.squared_error.is_finite() && point.squared_error >= 0.0;
        let weighted = curve.sensitivity.is_finite() && curve.sensitivity >= 0.0;
        if curve.points.is_empty() || !curve.points.iter().all(valid) || !weighted {
            return Err(CompressError::Curve { layer });
        }
    }
    let mut choices: Vec<usize> = curves.iter().map(|curve| fewest(&curve.points)).collect();
    // A count that overflows is above every budget.
    let params = |choices: &[usize]| {
        let of_curve =
            |(curve, choice): (&LayerCurve, &usize)| curve.layers.saturating_mul(curve.points[*choice].params);
        curves.iter().zip(choices).map(of_curve).fold(0, usize::saturating_add)
    };
    let fewest = params(&choices);
    if fewest > budget {
        return Err(CompressError::Budget { budget, fewest });
    }
    let hulls: Vec<Vec<usize>> = curves.iter().map(|curve| hull(&curve.points)).collect();
    let mut left = budget - fewest;
    // Along the hulls, by gain per parameter; a layer whose next step does not fit is out.
    let mut at = vec![0; curves.len()];
    let mut open: Vec<usize> = (0..curves.len()).collect();
    loop {
        open.retain(|layer| at[*layer] + 1 < hulls[*layer].len());
        let best = open
            .iter()
            .map(|layer| {
                (*layer, Step::between(&curves[*layer], hulls[*layer][at[*layer]], hulls[*layer][at[*layer] + 1]))
            })
            .max_by(|a, b| a.1.rate().total_cmp(&b.1.rate()));
        let Some((layer, step)) = best else { break };
        if step.params > left {
            open.retain(|open| *open != layer);
            continue;
        }
        left -= step.params;
        at[layer] += 1;
        choices[layer] = hulls[layer][at[layer]];
    }
    // Single changes to any point, on a hull or not.
    loop {
        let changes = curves.iter().enumerate().flat_map(|(layer, curve)| {
            let from = choices[layer];
            (0..curve.points.len()).filter_map(move |to| {
                let grows = curve.points[to].params >= curve.points[from].params;
                (to != from && grows).then(|| (layer, to, Step::between(curve, from, to)))
            })
        });
        let fitting = changes.filter(|(.., step)| step.params <= left && step.gain > 0.0);
        let Some((layer, to, step)) = fitting.max_by(|a, b| a.2.gain.total_cmp(&b.2.gain)) else { break };
        left -= step.params;
        choices[layer] = to;
    }
    let squared_error =
        curves.iter().zip(&choices).map(|(curve, choice)| weight(curve) * curve.points[*choice].squared_error).sum();
    Ok(Allocation { params: params(&choices), choices, squared_error })
}

fn weight(curve: &LayerCurve) -> f64 {
    curve.sensitivity * curve.layers as f64
}

struct Step {
    params: usize,
    gain: f64,
}

impl Step {
    fn between(curve: &LayerCurve, from: usize, to: usize) -> Self {
        let (from, to) = (&curve.points[from], &curve.points[to]);
        let params = curve.layers.saturating_mul(to.params.saturating_sub(from.params));
        Self { params, gain: weight(curve) * (from.squared_error - to.squared_error) }
    }

    fn rate(&self) -> f64 {
        self.gain / self.params.max(1) as f64
    }
}

fn fewest(points: &[CurvePoint]) -> usize {
    let order = |a: &usize, b: &usize| {
        points[*a].params.cmp(&points[*b].params).then(points[*a].squared_error.total_cmp(&points[*b].squared_error))
    };
    (0..points.len()).min_by(order).unwrap_or(0)
}

/// The points on the lower convex hull, from the fewest parameters to the least error.
fn hull(points: &[CurvePoint]) -> Vec<usize> {
    let mut on_hull = vec![fewest(points)];
    loop {
        let from = points[on_hull[on_hull.len() - 1]];
        let rate =
            |to: &usize| (from.squared_error - points[*to].squared_error) / (points[*to].params - from.params) as f64;
        let ahead = (0..points.len())
            .filter(|to| points[*to].params > from.params && points[*to].squared_error < from.squared_error);
        // Of those on one line, the nearest.
        let next = ahead.max_by(|a, b| rate(a).total_cmp(&rate(b)).then(points[*b].params.cmp(&points[*a].params)));
        let Some(next) = next else { return on_hull };
        on_hull.push(next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_structured_nn::Structure;

    fn curve(points: &[(usize, f64)]) -> LayerCurve {
        let point = |(params, squared_error): &(usize, f64)| CurvePoint {
            structure: Structure::Dense,
            params: *params,
            squared_error: *squared_error,
            relative_error: 0.0,
        };
        LayerCurve::new(points.iter().map(point).collect())
    }

    fn best_by_trial(curves: &[LayerCurve], budget: usize) -> f64 {
        fn go(curves: &[LayerCurve], budget: usize) -> f64 {
            let Some((first, rest)) = curves.split_first() else { return 0.0 };
            let fits = first.points.iter().filter(|point| point.params <= budget);
            fits.map(|point| first.sensitivity * point.squared_error + go(rest, budget - point.params))
                .fold(f64::INFINITY, f64::min)
        }
        go(curves, budget)
    }

    #[test]
    fn allocate_prefers_the_largest_gain() {
        let curves = [curve(&[(10, 8.0), (20, 1.0), (30, 0.5)]), curve(&[(10, 8.0), (20, 6.0), (30, 4.5)])];
        let allocation = allocate(&curves, 40).unwrap();
        assert_eq!((allocation.choices, allocation.params), (vec![1, 1], 40));
        let sensitive = [curves[0].clone(), curves[1].clone().with_sensitivity(10.0)];
        assert_eq!(allocate(&sensitive, 40).unwrap().choices, [0, 2]);
    }

    #[test]
    fn allocate_is_near_the_optimum() {
        // Convex curves of random steps.
        let mut state = 7u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f64 / (1u64 << 24) as f64
        };
        for _ in 0..50 {
            let curves: Vec<LayerCurve> = (0..4)
                .map(|_| {
                    let scale = 1.0 + 9.0 * random();
                    let points: Vec<_> = (1..6).map(|at| (at * 10, scale * random() / at as f64)).collect();
                    curve(&points)
                })
                .collect();
            for budget in [40, 70, 110, 200] {
                let found = allocate(&curves, budget).unwrap();
                let best = best_by_trial(&curves, budget);
                assert!(found.params <= budget);
                // Within one step of a layer of the optimum.
                let largest = curves.iter().map(|curve| curve.points[0].squared_error).fold(0.0, f64::max);
                assert!(found.squared_error <= best + largest, "{} against {best}", found.squared_error);
                assert!(found.squared_error + 1e-12 >= best);
            }
        }
    }

    #[test]
    fn allocate_with_a_large_budget_is_exact() {
        let curves = [curve(&[(30, 0.5), (10, 8.0), (20, 9.0)]), curve(&[(5, 1.0), (50, 1.0)])];
        let allocation = allocate(&curves, 1000).unwrap();
        assert_eq!((allocation.choices, allocation.squared_error), (vec![0, 0], 1.5));
    }

    #[test]
    fn allocate_names_the_invalid_curve() {
        let error = allocate(&[curve(&[(10, 1.0)]), curve(&[(7, 1.0)])], 16).unwrap_err().to_string();
        assert!(error.contains("17"), "{error}");
        let error = allocate(&[curve(&[(1, 1.0)]), curve(&[])], 16).unwrap_err().to_string();
        assert!(error.contains("curve 1"), "{error}");
        assert!(allocate(&[curve(&[(1, f64::NAN)])], 16).is_err());
        assert!(allocate(&[], 16).is_err());
    }
}
