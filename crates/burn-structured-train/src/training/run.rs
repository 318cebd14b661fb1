//! Burn's training loop as every kind of run has it: checkpoints of the last two epochs, progress, interruption.

use super::{Interrupter, LineRenderer, Pass, Prepared, Timing, TrainingError};
use burn::train::checkpoint::KeepLastNCheckpoints;
use burn::train::{Learner, LearnerModel, SupervisedTraining};
use std::io::IsTerminal;

/// How a kind of run uses the loop.
pub(crate) struct Run<F> {
    /// Epochs of the whole run.
    pub epochs: usize,
    /// Stops the run.
    pub interrupter: Interrupter,
    /// Measures its training passes.
    pub timing: Timing,
    /// The line that reports a pass.
    pub format: F,
    /// Whether progress is reported in lines even on a terminal, instead of Burn's dashboard.
    pub lines: bool,
}

/// A model after the loop.
pub(crate) enum Trained<M> {
    /// Every epoch was run.
    Complete(M),
    /// The run was interrupted; these are its weights.
    Interrupted(M),
}

impl<F: Fn(&Pass) -> String + Send + Sync + 'static> Run<F> {
    /// Runs the epochs that are left.
    ///
    /// # Errors
    ///
    /// If the loop stops on an error.
    pub fn launch<M: LearnerModel>(
        self,
        training: SupervisedTraining<M>,
        learner: Learner<M>,
        prepared: &Prepared,
    ) -> Result<Trained<M>, TrainingError> {
        let mut training = training
            .with_default_checkpointers()
            .with_checkpointing_strategy(KeepLastNCheckpoints::new(2))
            .with_progress_logger(self.timing)
            .with_interrupter(self.interrupter)
            .num_epochs(self.epochs);
        if let Some(epoch) = prepared.resumed {
            training = training.checkpoint(epoch);
        }
        if self.lines || !std::io::stdout().is_terminal() {
            training = training.renderer(Box::new(LineRenderer::new(self.format)));
        }
        let outcome = training.launch(learner);
        match (outcome.error, outcome.interrupted) {
            (Some(error), _) => Err(TrainingError::Loop(error.to_string())),
            (None, Some(_)) => Ok(Trained::Interrupted(outcome.model)),
            (None, None) => Ok(Trained::Complete(outcome.model)),
        }
    }
}
