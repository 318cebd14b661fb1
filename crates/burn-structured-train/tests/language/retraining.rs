//! Compressed models that are trained further.

use crate::*;
use burn::tensor::Int;
use burn::tensor::activation::{log_softmax, softmax};
use burn_structured_nn::{Structure, StructuredLinear};
use burn_structured_train::language::{Parameters, RetrainConfig, RetrainStep, Retrained, retrain};
use burn_structured_train::training::TrainingError;
use std::ops::ControlFlow;

/// A trained model.
fn teacher() -> Gpt2 {
    let recipe = LanguageRecipe { steps: 60, ..recipe() };
    let config = RetrainConfig { recipe, ..RetrainConfig::default() };
    run(model("dense").init(&Device::flex()), None, &config).unwrap().model
}

/// The model with its MLP layers cut to rank 4.
fn compressed(teacher: &Gpt2) -> Gpt2 {
    let mut student = teacher.clone();
    for (name, layer) in student.linears_mut() {
        if name.contains("mlp") {
            let StructuredLinear::Dense(linear) = &*layer else { panic!("{name} is dense") };
            let structure: Structure = "low-rank:r=4".parse().unwrap();
            *layer = structure.approximate(linear).unwrap().layer;
        }
    }
    student
}

/// The mean divergence of the distribution of `student` from that of `teacher`, on validation tokens.
fn divergence(student: &Gpt2, teacher: &Gpt2) -> f32 {
    let tokens: Vec<i32> =
        data().validation.read(0..64, VOCABULARY).unwrap().into_iter().map(|token| token as i32).collect();
    let tokens = Tensor::<1, Int>::from_data(tokens.as_slice(), &Device::flex()).reshape([4, 16]);
    let [student, teacher] = [student, teacher].map(|model| model.forward(tokens.clone()));
    let divergence = softmax(teacher.clone(), 2) * (log_softmax(teacher, 2) - log_softmax(student, 2));
    divergence.sum().into_scalar::<f32>() / 64.0
}

fn config(change: impl Fn(&mut RetrainConfig)) -> RetrainConfig {
    let recipe = LanguageRecipe { steps: 30, lr: 3e-3, min_lr: 3e-4, weight_decay: 0.0, ..recipe() };
    let mut config = RetrainConfig { recipe, ..RetrainConfig::distillation() };
    change(&mut config);
    config
}

fn run(student: Gpt2, teacher: Option<&Gpt2>, config: &RetrainConfig) -> Result<Retrained, TrainingError> {
    retrain(student, teacher, &data().train, config, |_| ControlFlow::Continue(()))
}

#[test]
fn distillation_brings_the_student_nearer_to_its_teacher() {
    let _alone = alone();
    let teacher = teacher();
    let student = compressed(&teacher);
    let before = divergence(&student, &teacher);
    for hidden_states in [0.0, 1.0] {
        let config = config(|config| config.hidden_states = hidden_states);
        let retrained = run(student.clone(), Some(&teacher), &config).unwrap();
        let after = divergence(&retrained.model, &teacher);
        assert!(after < 0.5 * before, "{after} after {before}, with {hidden_states}");
        assert_eq!(retrained.steps.len(), 30);
        assert_eq!(retrained.tokens, 30 * 4 * 16);
        assert!(retrained.steps[29].loss < retrained.steps[0].loss);
        assert_eq!(retrained.steps[3].lr, 3e-3 * 4.0 / 5.0);
    }
}

#[test]
fn parts_of_a_step_change_nothing() {
    let _alone = alone();
    let teacher = teacher();
    let student = compressed(&teacher);
    let losses = |accumulation| -> Vec<f64> {
        let config = config(|config| (config.recipe.accumulation, config.cross_entropy) = (accumulation, 0.5));
        let retrained = run(student.clone(), Some(&teacher), &config).unwrap();
        retrained.steps.iter().map(|step| step.loss).collect()
    };
    for (parts, whole) in losses(2).into_iter().zip(losses(1)) {
        assert!((parts - whole).abs() < 1e-3 * whole.abs().max(0.1), "{parts} instead of {whole}");
    }
}

#[test]
fn only_factors_change_if_asked() {
    let _alone = alone();
    let teacher = teacher();
    let student = compressed(&teacher);
    let config = config(|config| config.parameters = Parameters::Factors);
    let retrained = run(student.clone(), Some(&teacher), &config).unwrap();
    let changed =
        weights(&student).iter().zip(&weights(&retrained.model)).filter(|(before, after)| before != after).count();
    // Two factors for each of the two MLP layers of both blocks.
    assert_eq!(changed, 8);
    let all = run(student.clone(), Some(&teacher), &self::config(|_| ())).unwrap();
    assert!(weights(&student).iter().zip(&weights(&all.model)).all(|(before, after)| before != after));
}

#[test]
fn budget_of_time_goes_through_the_whole_schedule() {
    let _alone = alone();
    let teacher = teacher();
    let config = config(|config| (config.seconds, config.cross_entropy, config.logits) = (Some(0.5), 1.0, 0.0));
    let retrained = run(compressed(&teacher), None, &config).unwrap();
    assert!(retrained.seconds >= 0.5 && !retrained.steps.is_empty());
    for step in &retrained.steps {
        assert!(step.progress < 1.0);
        // The schedule of 30 steps, 4 of them warm-up.
        let position = step.progress * 30.0;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * (position - 4.0) / 26.0).cos());
        let expected = if position < 4.0 { 3e-3 * (position + 1.0) / 5.0 } else { 3e-4 + 2.7e-3 * cosine };
        assert!((step.lr - expected).abs() < 1e-12, "{} instead of {expected}", step.lr);
    }
    let longer = self::config(|config| (config.seconds, config.logits, config.cross_entropy) = (Some(1e6), 0.0, 1.0));
    let stop = |step: &RetrainStep| if step.step == 40 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let stopped = retrain(compressed(&teacher), None, &data().train, &longer, stop).unwrap();
    assert_eq!(stopped.steps.len(), 40);
}

#[test]
fn retraining_that_cannot_work_is_an_error() {
    let _alone = alone();
    let [narrow, dense] = ["dense", "dense"].map(|structure| model(structure).init(&Device::flex()));
    let error = |teacher: Option<&Gpt2>, change: &dyn Fn(&mut RetrainConfig)| {
        run(narrow.clone(), teacher, &config(change)).unwrap_err().to_string()
    };
    assert!(error(None, &|_| ()).starts_with("the teacher does not fit the student: there is none"));
    let others = [
        (Gpt2Config { vocab_size: 100, ..model("dense") }, "its vocabulary has 100 tokens, the student's 128"),
        (model("dense").with_context(8), "its context has 8 tokens, the student's 16"),
        (model("dense").with_depth(3), "it has 3 blocks of 16 features, the student 2 blocks of 16 features"),
    ];
    for (other, message) in others {
        let teacher = other.init(&Device::flex());
        let error = error(Some(&teacher), &|config| config.hidden_states = 1.0);
        assert!(error.contains(message), "{error}");
    }
    assert!(error(Some(&dense), &|config| config.parameters = Parameters::Factors).starts_with("parameters = factors"));
    assert!(error(Some(&dense), &|config| config.temperature = 0.0).starts_with("temperature = 0"));
    assert!(error(Some(&dense), &|config| config.logits = -1.0).starts_with("logits weight = -1"));
    assert!(error(Some(&dense), &|config| config.logits = 0.0).contains("at least one of the losses"));
    assert!(error(Some(&dense), &|config| config.seconds = Some(0.0)).starts_with("seconds = 0"));
    assert!(error(Some(&dense), &|config| config.recipe.steps = 0).starts_with("steps = 0"));
}
