//! The lowest rank for a given error.

use super::CurvePoint;
use super::curve::Trials;
use crate::CompressError;
use crate::calibrate::Moment;
use crate::factorize::FactorizerConfig;
use burn::tensor::Tensor;
use burn_structured_nn::{Rank, Structure};

/// The lowest rank at which `structure` approximates `weight` within `relative_error`, with its point; `None` if not even the highest
/// rank does.
///
/// Found by bisection: the best approximation of a higher rank is never worse.
///
/// # Errors
///
/// As [`approximate`](fn@crate::approximate); if the structure has no rank, or the error is not above 0.
pub fn smallest_rank(
    weight: &Tensor<2>,
    structure: Structure,
    relative_error: f64,
    moment: Option<&Moment>,
    factorizer: &FactorizerConfig,
) -> Result<Option<(usize, CurvePoint)>, CompressError> {
    if !(relative_error > 0.0 && relative_error.is_finite()) {
        return Err(CompressError::Setting { name: "relative_error", value: relative_error, range: "use more than 0" });
    }
    if structure.with_rank(Rank::Fixed(1)) == structure.with_rank(Rank::Fixed(2)) {
        return Err(CompressError::NoRank { structure });
    }
    let mut trials = Trials::new(weight, moment, factorizer)?;
    let mut tried = |rank: usize| -> Result<Option<CurvePoint>, CompressError> {
        match trials.point(structure.with_rank(Rank::Fixed(rank))) {
            // A rank above what the blocks need: there is nothing beyond.
            Err(CompressError::Structure(burn_structured_nn::StructureError::RankTooLarge { .. })) => Ok(None),
            Err(error) => Err(error),
            Ok(point) => Ok(Some(point)),
        }
    };
    // A rank that is enough, by doubling.
    let (mut too_low, mut rank) = (0, 1);
    let mut enough = loop {
        match tried(rank)? {
            Some(point) if point.relative_error <= relative_error => break (rank, point),
            Some(_) => (too_low, rank) = (rank, 2 * rank),
            None if rank - too_low <= 1 => return Ok(None),
            // Between the last that is possible and this.
            None => rank = too_low + (rank - too_low) / 2,
        }
    };
    while enough.0 - too_low > 1 {
        let middle = too_low + (enough.0 - too_low) / 2;
        match tried(middle)? {
            Some(point) if point.relative_error <= relative_error => enough = (middle, point),
            _ => too_low = middle,
        }
    }
    Ok(Some(enough))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::measure;
    use burn::tensor::{Device, Distribution};

    #[test]
    fn smallest_rank_is_the_lowest_sufficient() {
        let device = Device::flex();
        let weight = Tensor::<2>::random([18, 13], Distribution::Normal(0.0, 1.0), &device);
        let settings = FactorizerConfig::new();
        let structure: Structure = "low-rank:r=1".parse().unwrap();
        let error = |rank: usize| {
            measure(&weight, &[structure.with_rank(Rank::Fixed(rank))], None, &settings).unwrap()[0].relative_error
        };
        for rank in [1, 2, 5, 12, 13] {
            // Rounding is all that is left at full rank.
            let wanted = error(rank).max(1e-5) * 1.0001;
            let (found, point) = smallest_rank(&weight, structure, wanted, None, &settings).unwrap().unwrap();
            assert_eq!((found, point.params), (rank, rank * 31));
        }
        assert_eq!(smallest_rank(&weight, structure, 1e-30, None, &settings).unwrap(), None);
        assert!(smallest_rank(&weight, structure, 0.0, None, &settings).is_err());
        let error = smallest_rank(&weight, Structure::Dense, 0.1, None, &settings).unwrap_err().to_string();
        assert!(error.contains("dense"), "{error}");
    }
}
