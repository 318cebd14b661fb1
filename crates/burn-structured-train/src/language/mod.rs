//! Training, evaluating and retraining GPT-2.
//!
//! | function | what |
//! |---|---|
//! | [`train_language`] | trains a model in a [`RunFolder`](crate::training::RunFolder), on one device or several |
//! | [`search_learning_rate`] | short runs with several learning rates, evaluated on held-out training tokens |
//! | [`perplexity`] | loss and perplexity by a sliding window |
//! | [`retrain`] | trains a compressed model further, on text or to imitate the model it came from |
//!
//! # The files of a run
//!
//! | file | what |
//! |---|---|
//! | `settings.json` | the [`LanguageSettings`] |
//! | `losses.csv` | the training loss and the learning rate of every step |
//! | `validation.csv` | the validation loss after every `eval_interval` steps |
//! | `checkpoint/` | model, optimizer and schedule of the last two evaluations |
//! | `model.bpk`, `result.json` | the weights and the [`LanguageResult`] of a finished run |
//!
//! # Resuming
//!
//! A run that was killed at any moment continues from its last evaluation with the losses of an undisturbed run, step for
//! step. On a device that computes the same way every time, as Flex does, they are the same to the last bit: the weights, the
//! optimizer's state and the schedule are in the checkpoint, the windows of a step follow from the seed and its number, and
//! every epoch reseeds the device for dropout. So they are on several devices, unless these share one generator of random
//! numbers for dropout, as those of one backend do.
//!
//! # Several devices
//!
//! The sequences of a step are shared by all devices, and the gradients added up, so that the losses are those of one device
//! up to rounding. The gradients of each parameter are added up on the device that owns it, through Burn's
//! `MultiDeviceOptim::OptimSharded`, which works on every backend, also for devices of other machines
//! ([`device::from_name`](crate::device::from_name)).
//!
//! With [`Launch::distributed`] the sum is a collective operation of the devices, and every device updates weights of its own.
//! In Burn 0.22.1 only CUDA has it, here or on a server: `Dispatch` passes collective operations to CubeCL's runtimes and to
//! remote devices, not to Flex, LibTorch or NdArray, and of CubeCL's runtimes only CUDA's implements `all_reduce` (by NCCL).

mod batches;
mod clip;
mod curve;
mod evaluation;
mod learner;
mod loss;
mod metric;
mod optimizer;
mod parallel;
mod progress;
mod recipe;
mod retrain;
mod schedule;
mod search;
mod settings;
mod steps;

pub(crate) use clip::clip_global_norm;
pub use curve::read_curve;
pub use evaluation::{Evaluation, perplexity};
pub use learner::train_language;
pub(crate) use optimizer::ParameterGroups;
pub use recipe::{LanguageRecipe, Optimizer, Precision};
pub use retrain::{Parameters, RetrainConfig, RetrainStep, Retrained, retrain};
pub(crate) use schedule::WarmupCosine;
pub use search::{Trial, best_learning_rate, search_learning_rate};
pub use settings::{LanguageResult, LanguageSettings, Launch, TokenData};
pub use steps::AfterEvaluation;
