//! The reference bodies: the products of the structures in plain Burn operations, as one would write them in a model.
//!
//! A structured layer that is no faster than its reference body does not need kernels.
//!
//! Kronecker and Gaudi layers have no second form: they are plain Burn, but for the last two products of Gaudi.

use burn::tensor::module::linear;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_structured::nn::{BlastStrategy, Ss1Hash, Ss1LinearConfig, Structure, StructuredLinear};
use burn_structured::ops::block_diagonal::{BlockStrategy, Order, Orders, block_diagonal_linear_with};
use burn_structured::ops::monarch::monarch_linear_with;
use burn_structured::ops::pixelfly::pixelfly_linear_with;
use burn_structured::ops::ss1::Fold;

/// The reference body of a layer's product, with what it prepares once.
#[derive(Debug)]
pub struct Reference {
    fold: Option<ReferenceFold>,
}

impl Reference {
    /// The reference body of `layer`, if it has one besides itself.
    pub fn of(layer: &StructuredLinear, structure: Structure, shape: [usize; 2], device: &Device) -> Option<Self> {
        match layer {
            StructuredLinear::Blast(_)
            | StructuredLinear::LowRank(_)
            | StructuredLinear::Monarch(_)
            | StructuredLinear::BlockDiagonal(_)
            | StructuredLinear::Pixelfly(_) => Some(Self { fold: None }),
            StructuredLinear::Ss1(_) => Some(Self { fold: Some(ReferenceFold::of(structure, shape, device)?) }),
            _ => None,
        }
    }

    /// The same output as the layer's own.
    pub fn forward(&self, layer: &StructuredLinear, x: Tensor<2>) -> Tensor<2> {
        let reference = BlockStrategy::Reference;
        match layer {
            StructuredLinear::Blast(layer) => layer.forward_with(x, BlastStrategy::Reference),
            StructuredLinear::LowRank(layer) => {
                let bias = layer.bias.as_ref().map(|bias| bias.val());
                linear(linear(x, layer.v.val(), None), layer.ut.val(), bias)
            }
            StructuredLinear::Monarch(layer) => {
                let bias = layer.bias.as_ref().map(|bias| bias.val());
                monarch_linear_with(x, layer.right.val(), layer.left.val(), bias, Order::Strided, reference)
            }
            StructuredLinear::BlockDiagonal(layer) => {
                let bias = layer.bias.as_ref().map(|bias| bias.val());
                block_diagonal_linear_with(x, layer.w.val(), bias, Orders::default(), reference)
            }
            StructuredLinear::Pixelfly(layer) => {
                let bias = layer.bias.as_ref().map(|bias| bias.val());
                pixelfly_linear_with(x, layer.w.val(), layer.v.val(), layer.ut.val(), bias, reference)
            }
            StructuredLinear::Ss1(layer) => {
                let fold = self.fold.as_ref().expect("made for this layer");
                let y = fold.product(x, layer.z.val());
                match &layer.bias {
                    Some(bias) => y + bias.val().unsqueeze(),
                    None => y,
                }
            }
            other => other.forward(x),
        }
    }
}

/// For each block of output rows, which features are added up to which element of the sketch.
#[derive(Debug)]
struct ReferenceFold {
    fold: Fold,
    blocks: Vec<Vec<Selection>>,
}

/// One feature for each element of the sketch, and its sign where not all are positive.
#[derive(Debug)]
struct Selection {
    features: Tensor<1, Int>,
    signs: Option<Tensor<2>>,
}

impl ReferenceFold {
    /// `None` where the last group of blocks is partly empty: gathers of unequal length would need padding.
    fn of(structure: Structure, [d_input, d_output]: [usize; 2], device: &Device) -> Option<Self> {
        let Structure::Ss1 { reduction, block_k, block_n, independent } = structure else { return None };
        if !d_input.is_multiple_of(reduction * block_k) {
            return None;
        }
        let hash = match independent {
            Some(seed) => Ss1Hash::Independent { seed, signs: true },
            None => Ss1Hash::default(),
        };
        let config = Ss1LinearConfig::new(d_input, d_output).with_reduction(reduction).with_hash(hash);
        let fold = config.with_block_k(block_k).with_block_n(block_n).fold().ok()?;
        let width = fold.width();
        let selections = |block: usize| -> Vec<Selection> {
            let mut sources: Vec<Vec<(usize, bool)>> = vec![Vec::new(); width];
            for (feature, (source, negative)) in fold.sources(block).into_iter().enumerate() {
                sources[source].push((feature, negative));
            }
            let selection = |j: usize| {
                let features: Vec<i32> = sources.iter().map(|features| features[j].0 as i32).collect();
                let sign = |features: &Vec<(usize, bool)>| if features[j].1 { -1.0f32 } else { 1.0 };
                let signs: Vec<f32> = sources.iter().map(sign).collect();
                let mixed = signs.iter().any(|sign| *sign < 0.0);
                Selection {
                    features: Tensor::from_data(TensorData::new(features, [width]), device),
                    signs: mixed.then(|| Tensor::from_data(TensorData::new(signs, [1, width]), device)),
                }
            };
            (0..reduction).map(selection).collect()
        };
        Some(Self { fold, blocks: (0..fold.output_blocks(d_output)).map(selections).collect() })
    }

    fn product(&self, x: Tensor<2>, z: Tensor<2>) -> Tensor<2> {
        let [width, m] = z.dims();
        let pieces = self.blocks.iter().enumerate().map(|(block, selections)| {
            let terms = selections.iter().map(|selection| {
                let selected = x.clone().select(1, selection.features.clone());
                match &selection.signs {
                    Some(signs) => selected * signs.clone().cast(x.dtype()),
                    None => selected,
                }
            });
            let sketch = terms.reduce(|sum, term| sum + term).expect("a reduction of at least 1");
            sketch.matmul(z.clone().slice([0..width, self.fold.output_rows(m, block)]))
        });
        let mut pieces: Vec<Tensor<2>> = pieces.collect();
        if pieces.len() == 1 { pieces.remove(0) } else { Tensor::cat(pieces, 1) }
    }
}
