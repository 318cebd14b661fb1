//! The structure of a layer that exists.

use super::Structure;
use crate::{BlockCount, Blocks, Rank, StructuredLinear};

fn grid([output, input]: [usize; 2]) -> Blocks {
    Blocks::Grid { output, input }
}

impl StructuredLinear {
    /// The structure of this layer, with its block grid and its rank as numbers. A layer of the same dimensions that is built
    /// from it can load this layer's record, and computes the same from then on.
    ///
    /// The record alone holds where the windows of a Gaudi-GBLR layer are, and the constants of an SS1 hash: the width is given
    /// as 1, the hash as `additive` or `independent`.
    ///
    /// It does not say whether the weights are int8, see [`is_int8`](Self::is_int8).
    ///
    /// Returns `None` for a [`WindowedLinear`](crate::WindowedLinear), whose windows are not part of its record, and for an SS1
    /// layer with a loaded hash that does not fit its weights.
    pub fn structure(&self) -> Option<Structure> {
        Some(match self {
            Self::Dense(_) => Structure::Dense,
            Self::Blast(layer) => Structure::Blast { blocks: grid(layer.blocks()), rank: Rank::Fixed(layer.rank()) },
            Self::LowRank(layer) => Structure::LowRank { rank: Rank::Fixed(layer.rank()) },
            Self::Ss1(layer) => return layer.structure(),
            Self::Monarch(layer) => {
                Structure::Monarch { blocks: grid(layer.blocks()), rank: Rank::Fixed(layer.rank()) }
            }
            Self::BlockDiagonal(layer) => Structure::BlockDiagonal { blocks: BlockCount::Fixed(layer.blocks()) },
            Self::Pixelfly(layer) => {
                Structure::Pixelfly { blocks: layer.blocks(), stride: layer.stride(), rank: Rank::Fixed(layer.rank()) }
            }
            Self::Gaudi(layer) => layer.structure(),
            Self::Windowed(_) => return None,
            Self::Int8(layer) => return layer.structure(),
            Self::Btt(layer) => Structure::Btt { blocks: grid(layer.blocks()), rank: Rank::Fixed(layer.rank()) },
            Self::Kronecker(layer) => {
                Structure::Kronecker { blocks: grid(layer.blocks()), rank: Rank::Fixed(layer.rank()) }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ss1Hash, Ss1LinearConfig, StructuredLinearConfig};
    use burn::module::Module;
    use burn::store::ModuleRecord;
    use burn::tensor::{Device, TensorData};

    /// The weight of `layer` after a record of `saved` was loaded into it.
    fn loaded_weight(layer: StructuredLinear, saved: &StructuredLinear) -> TensorData {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("layer.bpk");
        saved.clone().into_record().save(&path).unwrap();
        layer.load_record(ModuleRecord::load(&path).unwrap()).to_dense().into_data()
    }

    #[test]
    fn structure_rebuilds_the_layer() {
        let device = Device::flex();
        for (text, expected) in [
            ("dense", "dense"),
            ("blast:b=2x4,ratio=0.5", "blast:b=2x4,r=4"),
            ("low-rank:ratio=0.5", "low-rank:r=4"),
            ("ss1:c=2,k=4,n=8", "ss1:c=2,k=4,n=8,hash=additive"),
            ("ss1:c=2,k=3,n=7,hash=independent,seed=5", "ss1:c=2,k=3,n=7,hash=independent,seed=5"),
            ("monarch:b=2,ratio=0.5", "monarch:b=2x2,r=2"),
            ("block-diagonal:ratio=0.3", "block-diagonal:b=4"),
            ("pixelfly:b=4,stride=2,r=2", "pixelfly:b=4,stride=2,r=2"),
            ("gaudi:r=3,width=0.25", "gaudi:r=3,width=1"),
            ("gaudi:r=3,sigma=2.5,windows=sharp", "gaudi:r=3,width=1,sigma=2.5,windows=sharp"),
            ("btt:b=4x2,r=1", "btt:b=4x2,r=1"),
            ("kronecker:b=3x4,r=2", "kronecker:b=3x4,r=2"),
        ] {
            let init = |structure| StructuredLinearConfig::new(16, 24, structure).init(&device);
            let layer = init(text.parse().unwrap());
            let structure = layer.structure().unwrap();
            assert_eq!(structure.to_string(), expected);
            assert_eq!(loaded_weight(init(structure), &layer), layer.to_dense().into_data(), "{text}");
        }
    }

    #[test]
    fn record_restores_a_hash_without_text_form() {
        let device = Device::flex();
        for hash in
            [Ss1Hash::Additive { constants: [3, 5, 7, 11], vec: 3 }, Ss1Hash::Independent { seed: 9, signs: false }]
        {
            let config = Ss1LinearConfig::new(16, 24).with_block_k(4).with_hash(hash);
            let layer = StructuredLinear::Ss1(config.init(&device));
            let rebuilt = StructuredLinearConfig::new(16, 24, layer.structure().unwrap()).init(&device);
            assert_eq!(loaded_weight(rebuilt, &layer), layer.to_dense().into_data(), "{hash:?}");
        }
    }

    #[test]
    fn frozen_windows_have_no_structure() {
        let gaudi = StructuredLinearConfig::new(16, 24, "gaudi:r=3".parse().unwrap()).init(&Device::flex());
        assert_eq!(gaudi.freeze_windows().structure(), None);
    }
}
