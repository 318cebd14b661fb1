//! What a run tells while it runs.

use crate::optimize::TrainingStep;
use crate::sequential::SequentialStep;
use burn_structured_nn::Structure;
use std::ops::ControlFlow;
use std::path::Path;

/// Something that happened in a run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Units that an earlier run finished are used.
    Resumed {
        /// Finished units.
        finished: usize,
        /// All units of the run.
        units: usize,
    },
    /// A finished unit is damaged or gone; it and those behind it are computed again.
    Damaged {
        /// Its file.
        shard: &'a Path,
    },
    /// A unit begins: a layer, a block, or the distillation.
    Unit {
        /// Which one, from 0.
        index: usize,
        /// All units of the run.
        units: usize,
        /// Its name.
        name: &'a str,
    },
    /// A layer is compressed.
    Layer {
        /// Its name.
        name: &'a str,
        /// Its structure.
        structure: Structure,
        /// The relative error of what was minimised: of its outputs if its inputs are known, else of its weight.
        relative_error: f64,
    },
    /// Layers of a block are being fitted.
    Fit(&'a SequentialStep),
    /// A step of the refinement of a block is done.
    Refine {
        /// The block.
        block: usize,
        /// The step.
        step: &'a TrainingStep,
    },
    /// A step of the distillation is done.
    Distill(&'a TrainingStep),
    /// A unit is finished, and kept.
    UnitFinished {
        /// Which one, from 0.
        index: usize,
        /// All units of the run.
        units: usize,
        /// Its name.
        name: &'a str,
        /// The time it took.
        seconds: f64,
    },
    /// All units are finished; the output is being put together.
    Assemble,
}

/// Who is told. `Break` ends the run; what is finished is kept.
pub type Observer<'a> = dyn FnMut(&Event<'_>) -> ControlFlow<()> + 'a;
