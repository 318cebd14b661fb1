//! What a run leaves, what it resumes from, and what it refuses.

use crate::*;
use burn_structured_train::language::{
    Optimizer, best_learning_rate, perplexity, search_learning_rate, train_language,
};
use burn_structured_train::training::{Start, TrainingError};
use std::sync::Arc;

fn saved(settings: &LanguageSettings, path: &Path) -> Vec<TensorData> {
    let model = settings.model.init(&Device::flex()).load_file(path);
    weights(&model)
}

/// Stops a run after the evaluation at step 16, before its checkpoint is written, and resumes it after the one at step 8.
fn assert_resumes_exactly(settings: &LanguageSettings, devices: usize) {
    let folder = tempfile::tempdir().unwrap();
    let launch = |folder: &Path| launch(folder).with_devices(vec![Device::flex(); devices]);
    let [undisturbed, stopped] = ["undisturbed", "stopped"].map(|name| folder.path().join(name));
    let result = train_language(settings, &data(), &launch(&undisturbed)).unwrap().unwrap();

    let stopping = launch(&stopped);
    let interrupter = stopping.interrupter.clone();
    let stopping = stopping.with_after_evaluation(move |steps, _| {
        if steps == 16 {
            interrupter.stop(None);
        }
    });
    assert_eq!(train_language(settings, &data(), &stopping).unwrap(), None);
    assert_eq!(losses(&stopped).len(), 16);
    let error = train_language(settings, &data(), &launch(&stopped)).unwrap_err();
    assert!(matches!(error, TrainingError::Unfinished { epoch: 1, .. }), "{error}");

    // Another run in between leaves the device's random numbers elsewhere.
    Device::flex().seed(7);
    let resumed = train_language(settings, &data(), &launch(&stopped).with_start(Start::Resume)).unwrap().unwrap();
    assert_eq!(resumed.validation.loss, result.validation.loss);
    for file in ["losses.csv", "validation.csv"] {
        let read = |folder: &Path| std::fs::read_to_string(folder.join(file)).unwrap();
        assert_eq!(read(&stopped), read(&undisturbed), "{file}");
    }
    assert_eq!(losses(&stopped).len(), 20);
    assert_eq!(saved(settings, &stopped.join("model.bpk")), saved(settings, &undisturbed.join("model.bpk")));
}

#[test]
fn resumed_run_equals_an_undisturbed_one() {
    let _alone = alone();
    // Dropout, so that the random numbers have to be resumed as well.
    assert_resumes_exactly(&settings(model("blast:b=2,r=4").with_dropout(0.1), recipe()), 1);
}

#[test]
fn resumed_run_with_muon_and_factor_rates_equals_an_undisturbed_one() {
    let _alone = alone();
    let recipe = LanguageRecipe { optimizer: Optimizer::Muon, factor_rates: 0.5, accumulation: 2, ..recipe() };
    assert_resumes_exactly(&settings(model("attention=low-rank:r=4;mlp=blast:b=2,r=4"), recipe), 1);
}

#[test]
fn resumed_run_on_two_devices_equals_an_undisturbed_one() {
    let _alone = alone();
    assert_resumes_exactly(&settings(model("mlp=blast:b=2,r=4"), LanguageRecipe { accumulation: 2, ..recipe() }), 2);
}

#[test]
fn model_learns_a_short_text() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let recipe = LanguageRecipe { steps: 150, eval_interval: 75, ..recipe() };
    let settings = settings(model("dense"), recipe);
    let evaluated = Arc::new(Mutex::new(Vec::new()));
    let seen = evaluated.clone();
    let launch = launch(folder.path()).with_after_evaluation(move |steps, model| {
        let loss = perplexity(model, &data().validation, 16, 16, 4).unwrap().loss;
        seen.lock().unwrap().push((steps, loss));
    });
    let result = train_language(&settings, &data(), &launch).unwrap().unwrap();
    assert_eq!(result.steps, 150);
    let losses = losses(folder.path());
    // A uniform distribution over the bytes has a loss of 4.85.
    assert!((losses[0] - (VOCABULARY as f64).ln()).abs() < 0.2, "{}", losses[0]);
    assert!(result.validation.loss < 0.7, "{}", result.validation.loss);
    assert!(result.training_tokens_per_second.is_some_and(|rate| rate > 0.0));
    // What was called with is the model as it was evaluated.
    let evaluated = evaluated.lock().unwrap();
    assert_eq!(evaluated.iter().map(|(steps, _)| *steps).collect::<Vec<_>>(), [75, 150]);
    assert_eq!(evaluated[1].1, result.validation.loss);
    let curve = read_curve(&folder.path().join("validation.csv")).unwrap();
    assert_eq!(curve.iter().map(|(steps, _)| *steps).collect::<Vec<_>>(), [75, 150]);
    // What is read again, but for the last bit of a number, which its text does not keep.
    let read = launch.folder.finished(&settings).unwrap().unwrap();
    assert_eq!((read.steps, read.validation.tokens), (150, result.validation.tokens));
    assert!((read.validation.loss - result.validation.loss).abs() < 1e-12);
}

#[test]
fn initial_weights_follow_from_the_seed() {
    let _alone = alone();
    let run = |seed| {
        let folder = tempfile::tempdir().unwrap();
        let recipe = LanguageRecipe { steps: 2, warmup_steps: 1, eval_interval: 2, seed, ..recipe() };
        train_language(&settings(model("monarch:b=4"), recipe), &data(), &launch(folder.path())).unwrap();
        losses(folder.path())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn learning_rate_is_searched_on_held_out_tokens() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (settings, rates) = (settings(model("dense"), recipe()), [1e-2, 1e-5]);
    let search = |start| {
        let launch = launch(folder.path()).with_start(start);
        search_learning_rate(&settings, &data(), &launch, &rates, 10).unwrap().unwrap()
    };
    let trials = search(Start::New);
    assert!(trials[0].loss < trials[1].loss, "{trials:?}");
    assert_eq!(best_learning_rate(&trials), Some(1e-2));
    let written = || std::fs::metadata(folder.path().join("search/lr-0.01/model.bpk")).unwrap().modified().unwrap();
    let before = written();
    for (again, trial) in search(Start::Resume).iter().zip(&trials) {
        assert!(again.lr == trial.lr && (again.loss - trial.loss).abs() < 1e-12, "{again:?} instead of {trial:?}");
    }
    assert_eq!(written(), before);
}

#[test]
fn settings_that_cannot_be_used_are_one_error() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let error = |change: &dyn Fn(&mut LanguageSettings, &mut Launch)| {
        let (mut settings, mut launch) = (settings(model("dense"), recipe()), launch(&out));
        change(&mut settings, &mut launch);
        let error = train_language(&settings, &data(), &launch).unwrap_err().to_string();
        assert!(!out.exists(), "wrote something before `{error}`");
        error
    };
    let recipe = |change: fn(&mut LanguageRecipe)| error(&|settings, _| change(&mut settings.recipe));
    assert!(recipe(|recipe| recipe.steps = 0).starts_with("steps = 0 cannot be used"));
    assert!(recipe(|recipe| recipe.batch_size = 0).starts_with("batch size = 0"));
    assert!(recipe(|recipe| recipe.accumulation = 3).starts_with("accumulation = 3"));
    assert!(recipe(|recipe| recipe.eval_interval = 0).starts_with("evaluation interval = 0"));
    assert!(recipe(|recipe| recipe.lr = f64::NAN).starts_with("lr = NaN"));
    assert!(recipe(|recipe| recipe.min_lr = 1.0).starts_with("min lr = 1"));
    assert!(recipe(|recipe| recipe.warmup_steps = 21).starts_with("warm-up = 21"));
    assert!(recipe(|recipe| recipe.beta_2 = 1.0).starts_with("beta 2 = 1"));
    assert!(recipe(|recipe| recipe.weight_decay = -1.0).starts_with("weight decay = -1"));
    assert!(recipe(|recipe| recipe.clip_norm = Some(0.0)).starts_with("clip norm = 0"));
    assert!(recipe(|recipe| recipe.factor_rates = 2.0).starts_with("factor rates = 2"));
    assert!(error(&|_, launch| launch.devices.clear()).starts_with("there is no device"));
    assert!(error(&|_, launch| launch.devices = vec![Device::flex(); 3]).starts_with("batch size = 4"));
    let twice = |launch: &mut Launch| (launch.devices, launch.distributed) = (vec![Device::flex(); 2], true);
    assert!(error(&|_, launch| twice(launch)).contains("collective operations"));
    assert!(error(&|settings, _| settings.model.structures = "mlp=blast:b=5".parse().unwrap()).contains("c_fc"));
    assert!(error(&|settings, _| settings.model.context = 2000).contains("2001"));
    assert!(error(&|settings, _| settings.model.vocab_size = 100).contains("100"));
}

#[test]
fn run_starts_from_the_given_weights() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let [first, second, other] = ["first", "second", "other"].map(|name| folder.path().join(name));
    let mut settings = settings(model("dense"), recipe());
    train_language(&settings, &data(), &launch(&first)).unwrap().unwrap();
    let trained = settings.model.init(&Device::flex()).load_file(first.join("model.bpk"));

    settings.initial = Some("first".into());
    train_language(&settings, &data(), &launch(&second).with_initial(trained.clone())).unwrap().unwrap();
    let [untrained, start, end] = [losses(&first)[0], losses(&second)[0], losses(&first)[19]];
    assert!((start - end).abs() < 0.5 * (untrained - end), "{start} instead of about {end}");
    // The name is one of the settings, which a resumed run has to repeat.
    settings.initial = None;
    let error = launch(&second).folder.finished(&settings).unwrap_err().to_string();
    assert!(error.contains("initial was \"first\", now null"), "{error}");

    settings.model = model("blast:b=2,r=4");
    let error = train_language(&settings, &data(), &launch(&other).with_initial(trained)).unwrap_err().to_string();
    assert!(error.starts_with("the weights to start from do not fit the model: "), "{error}");
    assert!(!other.exists());
}
