//! The rank of a structured matrix, given outright or as a share of the dense parameters.

use crate::StructureError;
use burn::config::Config;

/// How many components a factorized matrix keeps.
#[derive(Config, Debug, Copy, PartialEq)]
pub enum Rank {
    /// This rank.
    Fixed(usize),
    /// The highest rank that takes at most this share, in `(0, 1]`, of the dense matrix's parameters.
    ///
    /// Where a multiple of 16, or else of 8, is at most 2 % below it, it is that one: rows of the factors then begin where vector
    /// registers and tensor cores read them best, 304 instead of 305.
    Ratio(f64),
}

/// What ranks chosen here are multiples of, the best first, if it costs no more than [`ALIGN_TOLERANCE`].
const MULTIPLES: [usize; 2] = [16, 8];
/// The largest relative reduction of a rank for the sake of a multiple.
const ALIGN_TOLERANCE: f64 = 0.02;

/// The nearest rank below that hardware reads well, if there is one near enough.
fn aligned(rank: usize) -> usize {
    let mut below = MULTIPLES.into_iter().map(|multiple| rank - rank % multiple);
    below.find(|below| (rank - below) as f64 <= ALIGN_TOLERANCE * rank as f64).unwrap_or(rank)
}

/// What a rank is measured against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RankBudget {
    pub d_input: usize,
    pub d_output: usize,
    /// Parameters whatever the rank.
    pub fixed: usize,
    /// Parameters that one more rank costs.
    pub params_per_rank: usize,
    /// What helps beside a higher ratio, as the end of a sentence.
    pub hint: &'static str,
    /// The rank from which on every matrix is representable.
    pub max: usize,
}

impl Rank {
    pub(crate) fn resolve(self, budget: RankBudget) -> Result<usize, StructureError> {
        let RankBudget { d_input, d_output, fixed, params_per_rank, hint, max } = budget;
        match self {
            Self::Fixed(0) => Err(StructureError::ZeroRank { max }),
            Self::Fixed(rank) if rank > max => Err(StructureError::RankTooLarge { rank, max, d_output, d_input }),
            Self::Fixed(rank) => Ok(rank),
            Self::Ratio(ratio) => {
                if !(ratio > 0.0 && ratio <= 1.0) {
                    return Err(StructureError::RatioOutOfRange { ratio });
                }
                let dense = (d_input * d_output) as f64;
                match ((ratio * dense - fixed as f64) / params_per_rank as f64) as usize {
                    0 => Err(StructureError::RatioTooSmall {
                        ratio,
                        smallest: (fixed + params_per_rank) as f64 / dense,
                        hint,
                    }),
                    rank if rank < max => Ok(aligned(rank)),
                    _ => Ok(max),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: RankBudget =
        RankBudget { d_input: 16, d_output: 16, fixed: 0, params_per_rank: 32, hint: "", max: 16 };

    #[test]
    fn a_ratio_is_the_highest_rank_within_the_budget() {
        assert_eq!(Rank::Ratio(0.5).resolve(BUDGET), Ok(4));
        assert_eq!(Rank::Ratio(1.0).resolve(BUDGET), Ok(8));
        assert_eq!(Rank::Ratio(0.49).resolve(BUDGET), Ok(3));
    }

    #[test]
    fn ratio_ranks_are_multiples_within_the_tolerance() {
        let budget = RankBudget { d_input: 768, d_output: 3072, params_per_rank: 1, max: 4096, ..BUDGET };
        let highest = |rank: usize| Rank::Ratio(rank as f64 / (768.0 * 3072.0)).resolve(budget);
        for (rank, chosen) in [(305, 304), (1022, 1008), (496, 496), (511, 504), (152, 152), (153, 152), (288, 288)] {
            assert_eq!(highest(rank), Ok(chosen));
        }
        // The next multiple is below the tolerance.
        for rank in [1, 7, 15, 17, 150, 303] {
            assert_eq!(highest(rank), Ok(rank));
        }
        assert_eq!(Rank::Fixed(305).resolve(budget), Ok(305));
    }

    #[test]
    fn fixed_parameters_reduce_the_rank() {
        let budget = RankBudget { fixed: 64, ..BUDGET };
        assert_eq!(Rank::Ratio(0.5).resolve(budget), Ok(2));
        assert_eq!(
            Rank::Ratio(0.3).resolve(budget),
            Err(StructureError::RatioTooSmall { ratio: 0.3, smallest: 0.375, hint: "" })
        );
    }

    #[test]
    fn ranks_of_zero_or_above_the_maximum_are_errors() {
        assert_eq!(Rank::Fixed(0).resolve(BUDGET), Err(StructureError::ZeroRank { max: 16 }));
        let error = Rank::Fixed(17).resolve(BUDGET).unwrap_err();
        assert_eq!(
            error.to_string(),
            "rank 17 is above 16, which already represents every 16×16 matrix exactly; use a rank up to 16"
        );
    }

    #[test]
    fn ratios_outside_the_unit_interval_are_errors() {
        for ratio in [0.0, -0.5, 1.01, f64::NAN, f64::INFINITY] {
            assert!(
                matches!(Rank::Ratio(ratio).resolve(BUDGET), Err(StructureError::RatioOutOfRange { .. })),
                "{ratio}"
            );
        }
    }

    #[test]
    fn the_ratio_that_the_error_names_works() {
        // Rank 1 takes 0.197917 of the parameters.
        let budget = RankBudget { d_input: 128, d_output: 384, fixed: 9216, params_per_rank: 512, hint: "", max: 128 };
        let message = Rank::Ratio(0.1).resolve(budget).unwrap_err().to_string();
        assert!(message.contains("takes 0.1980 of"), "{message}");
        assert_eq!(Rank::Ratio(0.1980).resolve(budget), Ok(1));
    }

    #[test]
    fn a_ratio_below_rank_one_says_what_rank_one_takes() {
        assert_eq!(
            Rank::Ratio(0.1).resolve(BUDGET),
            Err(StructureError::RatioTooSmall { ratio: 0.1, smallest: 0.125, hint: "" })
        );
    }
}
