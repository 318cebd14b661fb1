//! The optimizer of each parameter: which ones decay, and which ones Muon takes.

use super::{LanguageRecipe, Optimizer};
use burn::module::{Module, ModuleVisitor, Param, ParamGroup};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamWConfig, AdjustLrFn, ModuleOptimizer, MuonConfig};
use burn::tensor::Tensor;
use burn_structured_nn::{Factor, learning_rate_groups};

/// The parameters of a module that are treated alike, by path: a path stays right when a record is loaded, which brings the
/// identities of its own parameters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ParameterGroups {
    /// At least two-dimensional: weights, factors and embeddings. They decay; biases and norms do not.
    pub matrices: Vec<String>,
    /// The matrices between the embedding and the head that have exactly two dimensions, which Muon can orthogonalize.
    pub hidden: Vec<String>,
}

impl ParameterGroups {
    /// The groups of `module`, whose transformer blocks are below the path `blocks`.
    pub fn of<M: Module>(module: &M, blocks: &str) -> Self {
        let mut visitor = Ranks::default();
        module.visit(&mut visitor);
        let hidden = |path: &str, rank| rank == 2 && path.starts_with(&format!("{blocks}."));
        let mut groups = Self::default();
        for (path, rank) in visitor.found.into_iter().filter(|(_, rank)| *rank >= 2) {
            if hidden(&path, rank) {
                groups.hidden.push(path.clone());
            }
            groups.matrices.push(path);
        }
        groups
    }

    /// AdamW for all parameters, with this weight decay for the matrices and none for the others.
    pub fn adamw(&self, adam: &AdamWConfig, weight_decay: f64) -> ModuleOptimizer {
        let decaying = adam.clone().with_weight_decay(weight_decay as f32);
        let matrices = ParamGroup::from_paths(self.matrices.clone());
        adam.clone().with_weight_decay(0.0).init().with_group(matrices, decaying.build(), None)
    }
}

/// AdamW for all parameters, with weight decay for the matrices; with [`Optimizer::Muon`], Muon for the hidden ones.
pub(super) fn optimizer(groups: &ParameterGroups, recipe: &LanguageRecipe) -> ModuleOptimizer {
    let adam =
        AdamWConfig::new().with_beta_1(recipe.beta_1 as f32).with_beta_2(recipe.beta_2 as f32).with_epsilon(1e-8);
    let optimizer = groups.adamw(&adam, recipe.weight_decay);
    match recipe.optimizer {
        Optimizer::AdamW => optimizer,
        Optimizer::Muon => {
            // With this scale, AdamW's rates and weight decay suit Muon as well.
            let muon = MuonConfig::new()
                .with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW)
                .with_weight_decay(Some(WeightDecayConfig::new(recipe.weight_decay as f32)));
            optimizer.with_group(ParamGroup::from_paths(groups.hidden.clone()), muon.build(), None)
        }
    }
}

/// The factors of structured layers with a learning rate of their own: `lr_scale ^ factor_rates` of the rate of the others.
///
/// Muon's steps do not depend on the features that a factor sums, so its parameters keep the common rate.
pub(super) fn factor_rates<M: Module>(
    module: &M,
    factors: Vec<Factor>,
    groups: &ParameterGroups,
    recipe: &LanguageRecipe,
) -> Vec<(f64, ParamGroup)> {
    if recipe.factor_rates == 0.0 {
        return Vec::new();
    }
    let scaled = learning_rate_groups(module, factors);
    let mut rates: Vec<_> = scaled.into_iter().map(|(scale, group)| (scale.powf(recipe.factor_rates), group)).collect();
    if recipe.optimizer == Optimizer::Muon {
        // Of several groups that a parameter is in, the last one counts.
        rates.push((1.0, ParamGroup::from_paths(groups.hidden.clone())));
    }
    rates
}

/// The path and rank of every parameter.
#[derive(Default)]
struct Ranks {
    here: Vec<String>,
    found: Vec<(String, usize)>,
}

impl ModuleVisitor for Ranks {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.here.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.here.pop();
    }

    fn visit_float<const D: usize>(&mut self, _param: &Param<Tensor<D>>) {
        self.found.push((self.here.join("."), D));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::Precision;
    use crate::language::steps::{LanguageModel, Training};
    use burn::module::{ModuleMapper, ParamId};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, TensorData};
    use burn_structured_models::gpt2::Gpt2Config;

    fn model() -> LanguageModel {
        let structures = "attention=low-rank:r=4;mlp=blast:b=2,r=4".parse().unwrap();
        let config = Gpt2Config::new(32).with_context(8).with_d_model(16).with_depth(1).with_heads(2);
        let training = Training { share: 1.0, clip_norm: None, precision: Precision::F32, after_evaluation: None };
        let model = config.with_structures(structures).init(&Device::flex().autodiff());
        LanguageModel { model: model.map(&mut Ones), training }
    }

    struct Ones;

    impl ModuleMapper for Ones {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| tensor.ones_like())
        }
    }

    /// What is read from or written to each parameter by path.
    struct Each<F>(Vec<String>, F);

    impl<F: FnMut(&str, ParamId, TensorData)> ModuleVisitor for Each<F> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.0.push(name.to_string());
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.0.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            (self.1)(&self.0.join("."), param.id, param.val().into_data());
        }
    }

    struct ZeroGradients(GradientsParams);

    impl ModuleVisitor for ZeroGradients {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.register(param.id, param.val().inner().zeros_like());
        }
    }

    #[test]
    fn only_matrices_decay() {
        for kind in [Optimizer::AdamW, Optimizer::Muon] {
            let model = model();
            let groups = ParameterGroups::of(&model, LanguageModel::BLOCKS);
            let recipe = LanguageRecipe { optimizer: kind, weight_decay: 0.5, ..LanguageRecipe::default() };
            let mut gradients = ZeroGradients(GradientsParams::new());
            model.visit(&mut gradients);
            let model = optimizer(&groups, &recipe).step(0.1, model, gradients.0);
            let mut seen = 0;
            model.visit(&mut Each(Vec::new(), |path: &str, _, data: TensorData| {
                let expected = if data.shape().len() >= 2 { 1.0 - 0.1 * 0.5 } else { 1.0 };
                assert!(data.iter::<f32>().all(|value| (value - expected).abs() < 1e-6), "{kind}: {path}");
                seen += 1;
            }));
            // 2 embeddings, 3 norms of 2, 4 biases, 2 low-rank layers of 2 factors and 2 BLAST layers of 3.
            assert_eq!(seen, 2 + 6 + 4 + 4 + 6);
        }
    }

    #[test]
    fn muon_takes_the_two_dimensional_parameters_of_the_blocks() {
        let groups = ParameterGroups::of(&model(), LanguageModel::BLOCKS);
        let factors = [
            "attention.qkv.LowRank.v",
            "attention.qkv.LowRank.ut",
            "attention.proj.LowRank.v",
            "attention.proj.LowRank.ut",
        ];
        let mut hidden = groups.hidden.clone();
        hidden.sort();
        let mut expected: Vec<String> = factors.iter().map(|name| format!("model.blocks.0.{name}")).collect();
        expected.sort();
        assert_eq!(hidden, expected);
        assert!(groups.matrices.contains(&"model.tokens.weight".to_string()), "{:?}", groups.matrices);
        assert_eq!(groups.matrices.len(), 2 + 4 + 6);
    }

    #[test]
    fn factors_have_rates_of_their_own_except_with_muon() {
        let model = model();
        let groups = ParameterGroups::of(&model, LanguageModel::BLOCKS);
        let rates = |optimizer, factor_rates: f64| {
            let recipe = LanguageRecipe { optimizer, factor_rates, ..LanguageRecipe::default() };
            let groups = super::factor_rates(&model, model.model.factors(), &groups, &recipe);
            let scaled = |path: &str| {
                let matching = groups.iter().filter(|(_, group)| group.matches(&ParamId::from(0), Some(path)));
                matching.map(|(scale, _)| *scale).next_back().unwrap_or(1.0)
            };
            ["attention.qkv.LowRank.ut", "fc1.Blast.s", "norm1.gamma"]
                .map(|name| scaled(&format!("model.blocks.0.{name}")))
        };
        // The second factor of rank 4 sums over 4 of the 16 features, a coupling over the 2 blocks.
        assert_eq!(rates(Optimizer::AdamW, 0.0), [1.0, 1.0, 1.0]);
        assert_eq!(rates(Optimizer::AdamW, 1.0), [4.0, 8.0, 1.0]);
        assert_eq!(rates(Optimizer::AdamW, 0.5)[0], 2.0);
        assert_eq!(rates(Optimizer::Muon, 1.0), [1.0, 8.0, 1.0]);
    }
}
