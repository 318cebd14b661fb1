//! The area under the ROC curve.

/// The probability that a positive example has a higher score than a negative one, ties counting half; `None` without an example of each
/// kind, or if a score is no number.
///
/// ```
/// use burn_structured_train::clicks::auc;
///
/// assert_eq!(auc(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]), Some(0.75));
/// ```
///
/// # Panics
///
/// If there are not as many scores as labels.
pub fn auc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    assert_eq!(scores.len(), positive.len(), "every score has a label");
    let positives = positive.iter().filter(|positive| **positive).count();
    let negatives = positive.len() - positives;
    if positives == 0 || negatives == 0 || scores.iter().any(|score| score.is_nan()) {
        return None;
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
    // Mann and Whitney: the sum of the ranks of the positives, tied examples sharing their mean rank.
    let mut rank_sum = 0.0;
    let mut below = 0;
    for tied in order.chunk_by(|a, b| scores[*a] == scores[*b]) {
        let mean_rank = below as f64 + (tied.len() + 1) as f64 / 2.0;
        rank_sum += mean_rank * tied.iter().filter(|index| positive[**index]).count() as f64;
        below += tied.len();
    }
    let smallest = (positives * (positives + 1)) as f64 / 2.0;
    Some((rank_sum - smallest) / (positives as f64 * negatives as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    #[test]
    fn auc_counts_pairs_with_ties_as_halves() {
        let mut rng = StdRng::seed_from_u64(5);
        for values in [2, 5, 1000] {
            let scores: Vec<f64> = (0..120).map(|_| f64::from(rng.random_range(0..values))).collect();
            let positive: Vec<bool> = scores.iter().map(|_| rng.random_bool(0.3)).collect();
            let (mut won, mut pairs) = (0.0, 0.0);
            for first in (0..120).filter(|index| positive[*index]) {
                for second in (0..120).filter(|index| !positive[*index]) {
                    pairs += 1.0;
                    won += match scores[first].total_cmp(&scores[second]) {
                        std::cmp::Ordering::Greater => 1.0,
                        std::cmp::Ordering::Equal => 0.5,
                        std::cmp::Ordering::Less => 0.0,
                    };
                }
            }
            assert!((auc(&scores, &positive).unwrap() - won / pairs).abs() < 1e-12, "{values} values");
        }
    }

    #[test]
    fn perfect_reversed_and_constant_scores() {
        let positive = [false, false, true, true];
        assert_eq!(auc(&[1.0, 2.0, 3.0, 4.0], &positive), Some(1.0));
        assert_eq!(auc(&[4.0, 3.0, 2.0, 1.0], &positive), Some(0.0));
        assert_eq!(auc(&[1.0; 4], &positive), Some(0.5));
        // The two zeros are one value.
        assert_eq!(auc(&[0.0, -0.0], &[true, false]), Some(0.5));
    }

    #[test]
    fn what_has_no_area_is_none() {
        assert_eq!(auc(&[1.0, 2.0], &[true, true]), None);
        assert_eq!(auc(&[], &[]), None);
        assert_eq!(auc(&[f64::NAN, 2.0], &[true, false]), None);
    }
}
