//! Learning-rate search by short runs.
//!
//! Structures train best at different rates, so a comparison at one rate would favour some of them.

use super::{RunFolder, Settings, Start, TrainingError};

/// Each rate with what its run achieved.
pub(crate) type Trials<S> = Vec<(f64, <S as Settings>::Result)>;

/// One trial for each of `rates`, in a folder of its own below `folder`: the rate and what its run achieved.
///
/// `settings` gives the run of a rate, `check` whether it can be used, and `run` runs it. Trials that `folder` holds already
/// are not repeated with [`Start::Resume`]. Returns `None` if a trial was stopped.
///
/// # Errors
///
/// If the settings of any trial cannot be used, before the first one runs, or a trial fails.
pub(crate) fn run_trials<S: Settings>(
    folder: &RunFolder,
    start: Start,
    rates: &[f64],
    settings: impl Fn(f64) -> S,
    check: impl Fn(&S) -> Result<(), TrainingError>,
    mut run: impl FnMut(&S, &RunFolder) -> Result<Option<S::Result>, TrainingError>,
) -> Result<Option<Trials<S>>, TrainingError> {
    let trial = |lr: f64| (settings(lr), RunFolder::new(folder.path().join("search").join(format!("lr-{lr}"))));
    folder.check(start)?;
    for (settings, folder) in rates.iter().map(|lr| trial(*lr)) {
        check(&settings)?;
        folder.check(start)?;
    }
    let mut trials = Vec::new();
    for lr in rates {
        let (settings, folder) = trial(*lr);
        let finished = if start == Start::Resume { folder.finished(&settings)? } else { None };
        let result = match finished {
            Some(result) => Some(result),
            None => run(&settings, &folder)?,
        };
        let Some(result) = result else { return Ok(None) };
        trials.push((*lr, result));
    }
    Ok(Some(trials))
}

/// The rate with the highest score; of equal ones, the lowest.
pub(crate) fn lowest_best(scores: impl IntoIterator<Item = (f64, f64)>) -> Option<f64> {
    let better = |a: &(f64, f64), b: &(f64, f64)| a.1.total_cmp(&b.1).then(b.0.total_cmp(&a.0));
    scores.into_iter().max_by(better).map(|(lr, _)| lr)
}
