//! The factors of a layer as an optimizer sees them: each with its own learning rate.
//!
//! A dense weight and a factor differ in how many products they sum. Under an optimizer whose steps have a fixed size, as
//! Adam's do, a factor that sums over `f` features moves its output by about `f` steps, so the rate that suits a dense
//! layer of `d_input` features suits it when scaled by `d_input / f` (Qiu, Potapczynski, Finzi, Goldblum, Wilson, *Compute
//! Better Spent: Replacing Dense Layers with Structured Matrices*, ICML 2024, §3). With one rate for all, small factors
//! such as BLAST's couplings hardly train.

use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::tensor::Tensor;
use std::collections::HashMap;

/// One trainable factor of a structured layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor {
    /// The name of the field that holds it.
    pub name: &'static str,
    /// The parameter.
    pub id: ParamId,
    /// By how much to scale the learning rate of a dense layer of the same shape.
    pub lr_scale: f64,
}

impl Factor {
    /// A factor that sums over `fan_in` features in a layer of `d_input`.
    pub(crate) fn new<const D: usize>(
        name: &'static str,
        param: &Param<Tensor<D>>,
        d_input: usize,
        fan_in: usize,
    ) -> Self {
        Self { name, id: param.id, lr_scale: d_input as f64 / fan_in.max(1) as f64 }
    }

    /// The factor as a parameter group for Burn's optimizers and learning-rate schedulers.
    pub fn group(&self) -> ParamGroup {
        ParamGroup::from_ids(vec![self.id])
    }
}

/// Parameter groups of equal learning rate for the `factors` of a whole `module`, with the scale of each, ascending.
///
/// The groups name their parameters by path, so that they stay right when a record is loaded, which brings the identities
/// of its own parameters. Factors that are not part of `module` are left out.
///
/// # Example
///
/// ```
/// use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
/// use burn::tensor::Device;
/// use burn_structured_nn::{BlastLinearConfig, learning_rate_groups};
///
/// let layer = BlastLinearConfig::new(64, 64).init(&Device::flex());
/// let mut schedule = ModuleLrScheduler::new(1e-3);
/// for (scale, group) in learning_rate_groups(&layer, layer.factors()) {
///     schedule = schedule.with_group(group, 1e-3 * scale);
/// }
/// ```
pub fn learning_rate_groups<M: Module>(
    module: &M,
    factors: impl IntoIterator<Item = Factor>,
) -> Vec<(f64, ParamGroup)> {
    let mut paths = Paths::default();
    module.visit(&mut paths);
    let mut groups: Vec<(f64, Vec<String>)> = Vec::new();
    for factor in factors {
        let Some(path) = paths.by_id.get(&factor.id).cloned() else { continue };
        match groups.iter_mut().find(|(scale, _)| *scale == factor.lr_scale) {
            Some((_, members)) => members.push(path),
            None => groups.push((factor.lr_scale, vec![path])),
        }
    }
    groups.sort_by(|a, b| a.0.total_cmp(&b.0));
    groups.into_iter().map(|(scale, members)| (scale, ParamGroup::from_paths(members))).collect()
}

/// Where every parameter of a module is.
#[derive(Default)]
struct Paths {
    here: Vec<String>,
    by_id: HashMap<ParamId, String>,
}

impl ModuleVisitor for Paths {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.here.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.here.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.by_id.insert(param.id, self.here.join("."));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlastLinearConfig, Blocks, Rank, StructuredLinear, StructuredLinearConfig};
    use burn::tensor::Device;

    #[test]
    fn every_factor_is_scaled_by_what_it_sums() {
        let config = BlastLinearConfig::new(12, 20).with_blocks(Blocks::Grid { output: 2, input: 3 });
        let layer = config.with_rank(Rank::Fixed(4)).init(&Device::flex());
        let scales: Vec<_> = layer.factors().into_iter().map(|factor| (factor.name, factor.lr_scale)).collect();
        assert_eq!(scales, [("u", 3.0), ("s", 4.0), ("v", 3.0)]);
    }

    #[test]
    fn groups_follow_a_loaded_record() {
        let device = Device::flex();
        let config = StructuredLinearConfig::new(12, 20, "blast:b=2,r=4".parse().unwrap());
        let layers = vec![config.init(&device), config.init(&device)];
        let groups = learning_rate_groups(&layers, layers.iter().flat_map(StructuredLinear::factors));
        let scales: Vec<f64> = groups.iter().map(|(scale, _)| *scale).collect();
        assert_eq!(scales, [2.0, 3.0, 6.0]);

        let record = vec![config.init(&device), config.init(&device)].into_record();
        let loaded = layers.load_record(record);
        let mut paths = Paths::default();
        loaded.visit(&mut paths);
        let mut members = [0; 3];
        for (id, path) in &paths.by_id {
            for ((_, group), members) in groups.iter().zip(&mut members) {
                *members += group.matches(id, Some(path)) as usize;
            }
        }
        assert_eq!(members, [2, 2, 2]);
    }
}
