//! Exact conversions into structures that contain others.
//!
//! BLAST contains low rank (all couplings 1), blocks of low rank and hence block-diagonal, block tensor-train, Kronecker
//! and, up to the order of the output features, Monarch matrices (Lee et al., NeurIPS 2024, §2 and appendix A).

use crate::parameter::parameter;
use crate::{
    BlastLinear, BlockDiagonalLinear, Blocks, BttLinear, GaudiLinear, GaudiLinearConfig, KroneckerLinear,
    LowRankLinear, MonarchLinear, Rank, StructureError,
};
use burn::module::Param;
use burn::tensor::Tensor;

/// BLAST factors for the two of a Monarch matrix: component `t` of block `(i, j)` becomes `(i + j) mod max + t max`, which no
/// other block of the same row or column uses.
fn embed(right: Tensor<3>, left: Tensor<3>, bias: Option<Param<Tensor<1>>>) -> BlastLinear {
    let ([b2, between, q], [b1, p, _]) = (right.dims(), left.dims());
    let (t, period) = (between / b1, b1.max(b2));
    let right = right.reshape([b2, t, b1, q]);
    let left = left.reshape([b1, p, b2, t]);
    let like = (left.device(), left.dtype());
    // For each block, its component of every class c: that of the other block of the class, or zeros.
    let classes = |blocks: usize, others: usize, of: &dyn Fn(usize, usize) -> Tensor<2>, size: usize| {
        let block = |index: usize| {
            let columns = (0..period).map(|class| {
                let other = (class + period - index % period) % period;
                if other < others { of(index, other) } else { Tensor::zeros([size, t], (&like.0, like.1)) }
            });
            // [class][size, t] → [size, t, class]: component t · period + class.
            Tensor::stack::<3>(columns.collect(), 2).reshape([size, t * period])
        };
        Tensor::stack::<3>((0..blocks).map(block).collect(), 0)
    };
    let u = classes(b1, b2, &|i, j| left.clone().slice([i..i + 1, 0..p, j..j + 1, 0..t]).reshape([p, t]), p);
    let v =
        classes(b2, b1, &|j, i| right.clone().slice([j..j + 1, 0..t, i..i + 1, 0..q]).reshape([t, q]).transpose(), q);
    let couplings: Vec<f32> = (0..b1 * b2)
        .flat_map(|block| {
            let class = (block / b2 + block % b2) % period;
            (0..t * period).map(move |component| f32::from(u8::from(component % period == class)))
        })
        .collect();
    let s = Tensor::<1>::from_data(couplings.as_slice(), &like.0).cast(like.1).reshape([b1, b2, t * period]);
    BlastLinear { u: parameter(u), s: parameter(s), v: parameter(v), bias }
}

impl LowRankLinear {
    /// The same matrix as BLAST, with couplings of 1.
    ///
    /// # Errors
    ///
    /// If a dimension does not split into the blocks.
    pub fn to_blast(&self, blocks: Blocks) -> Result<BlastLinear, StructureError> {
        let (d_input, d_output, rank) = (self.d_input(), self.d_output(), self.rank());
        let (b1, b2) = blocks.resolve(d_input, d_output)?;
        let (u, v) = (self.ut.val().transpose(), self.v.val());
        let s = Tensor::ones([b1, b2, rank], (&v.device(), v.dtype()));
        Ok(BlastLinear {
            u: parameter(u.reshape([b1, d_output / b1, rank])),
            s: parameter(s),
            v: parameter(v.reshape([b2, d_input / b2, rank])),
            bias: self.bias.clone(),
        })
    }

    /// The same matrix as a Gaudi layer, with windows as wide as the matrix, which can then be learned.
    ///
    /// # Errors
    ///
    /// If the rank is above `min(d_input, d_output)`.
    pub fn to_gaudi(&self) -> Result<GaudiLinear, StructureError> {
        let config = GaudiLinearConfig::new(self.d_input(), self.d_output()).with_bias(false);
        let config = config.with_rank(Rank::Fixed(self.rank())).with_width(1.0);
        let mut layer = config.try_init(&self.v.val().device())?;
        layer.input_location = parameter(layer.input_location.val().zeros_like());
        layer.output_location = parameter(layer.output_location.val().zeros_like());
        (layer.v, layer.ut, layer.bias) = (self.v.clone(), self.ut.clone(), self.bias.clone());
        Ok(layer)
    }
}

impl BlockDiagonalLinear {
    /// The same matrix as BLAST of rank `min(d_input, d_output) / b`, with couplings of 1 on the diagonal and 0 elsewhere.
    pub fn to_blast(&self) -> BlastLinear {
        let [b, p, q] = self.w.shape().dims();
        let w = self.w.val();
        let like = (w.device(), w.dtype());
        let eye = |size: usize| Tensor::<2>::eye(size, &like.0).cast(like.1).unsqueeze::<3>().repeat_dim(0, b);
        // W_k = W_k · 1 = 1 · W_k, whichever is smaller.
        let (u, v) = if q <= p { (w, eye(q)) } else { (eye(p), w.swap_dims(1, 2)) };
        let s = Tensor::<2>::eye(b, &like.0).cast(like.1).reshape([b, b, 1]).repeat_dim(2, p.min(q));
        BlastLinear { u: parameter(u), s: parameter(s), v: parameter(v), bias: self.bias.clone() }
    }
}

impl BttLinear {
    /// The same matrix as BLAST of rank `t max(b1, b2)`: its blocks have rank `t`.
    pub fn to_blast(&self) -> BlastLinear {
        embed(self.right.val(), self.left.val(), self.bias.clone())
    }
}

impl MonarchLinear {
    /// The same matrix as BLAST of rank `t max(b1, b2)`, up to the order of the output: feature `f` of this layer is feature
    /// `order[f]` of that one (for [`Tensor::select`]).
    pub fn to_blast(&self) -> (BlastLinear, Vec<usize>) {
        let [b1, p, _] = self.left.shape().dims();
        // Row i of block g is feature i b1 + g here and g p + i there.
        let order = (0..b1 * p).map(|feature| feature % b1 * p + feature / b1).collect();
        let bias = self.bias.as_ref().map(|bias| parameter(bias.val().reshape([p, b1]).transpose().reshape([b1 * p])));
        (embed(self.right.val(), self.left.val(), bias), order)
    }
}

impl KroneckerLinear {
    /// The same matrix as BLAST of rank `K min(m₂, n₂)`: all blocks share the factors of `B_k`, and are coupled by `A_k`.
    pub fn to_blast(&self) -> BlastLinear {
        let ([terms, m1, n1], [_, m2, n2]) = (self.a.shape().dims(), self.b.shape().dims());
        let (b, like) = (self.b.val(), (self.b.val().device(), self.b.val().dtype()));
        let size = m2.min(n2);
        let eye = Tensor::<2>::eye(size, &like.0).cast(like.1).repeat_dim(1, terms);
        // [m2, K n2] of all B_k side by side, or [n2, K m2] of their transposes.
        let (u, v) = if n2 <= m2 {
            (b.permute([1, 0, 2]).reshape([m2, terms * n2]), eye)
        } else {
            (eye, b.permute([2, 0, 1]).reshape([n2, terms * m2]))
        };
        let s = self.a.val().permute([1, 2, 0]).reshape([m1, n1, terms, 1]).repeat_dim(3, size);
        BlastLinear {
            u: parameter(u.unsqueeze::<3>().repeat_dim(0, m1)),
            s: parameter(s.reshape([m1, n1, terms * size])),
            v: parameter(v.unsqueeze::<3>().repeat_dim(0, n1)),
            bias: self.bias.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockCount, BlockDiagonalLinearConfig, BttLinearConfig, KroneckerLinearConfig};
    use crate::{LowRankLinearConfig, MonarchLinearConfig};
    use burn::tensor::{Device, Int, Tolerance};

    fn device() -> Device {
        let device = Device::flex();
        device.seed(11);
        device
    }

    fn assert_same(actual: Tensor<2>, expected: Tensor<2>) {
        actual.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));
    }

    #[test]
    fn low_rank_is_blast_with_unit_couplings() {
        let layer = LowRankLinearConfig::new(12, 20).with_rank(Rank::Fixed(3)).init(&device());
        let blast = layer.to_blast(Blocks::Grid { output: 5, input: 3 }).unwrap();
        assert_same(blast.to_dense(), layer.to_dense());
        assert!(layer.to_blast(Blocks::Square(5)).is_err());
        assert_same(layer.to_gaudi().unwrap().to_dense(), layer.to_dense());
    }

    #[test]
    fn block_diagonal_is_blast_with_diagonal_couplings() {
        for (d_input, d_output) in [(12, 20), (20, 12)] {
            let config = BlockDiagonalLinearConfig::new(d_input, d_output).with_blocks(BlockCount::Fixed(4));
            let layer = config.init(&device());
            assert_same(layer.to_blast().to_dense(), layer.to_dense());
            assert_eq!(layer.to_blast().rank(), 3);
        }
    }

    #[test]
    fn block_low_rank_is_blast_with_cyclic_couplings() {
        for (output, input) in [(2, 3), (5, 3), (4, 4), (1, 3)] {
            let config = BttLinearConfig::new(12, 20).with_blocks(Blocks::Grid { output, input });
            let layer = config.with_rank(Rank::Fixed(2)).init(&device());
            let blast = layer.to_blast();
            assert_same(blast.to_dense(), layer.to_dense());
            assert_eq!(blast.rank(), 2 * output.max(input));
        }
    }

    #[test]
    fn monarch_is_blast_with_its_output_in_another_order() {
        let device = device();
        let config = MonarchLinearConfig::new(12, 20).with_blocks(Blocks::Grid { output: 5, input: 2 });
        let layer = config.with_rank(Rank::Fixed(2)).init(&device);
        let (blast, order) = layer.to_blast();
        let order: Vec<i64> = order.into_iter().map(|feature| feature as i64).collect();
        let order = Tensor::<1, Int>::from_data(order.as_slice(), &device);
        let x = Tensor::<2>::random([7, 12], burn::tensor::Distribution::Default, &device);
        assert_same(blast.forward(x.clone()).select(1, order), layer.forward(x));
    }

    #[test]
    fn kronecker_is_blast_with_one_pair_of_factors() {
        for (d_input, d_output) in [(12, 20), (24, 10)] {
            let config =
                KroneckerLinearConfig::new(d_input, d_output).with_blocks(Blocks::Grid { output: 5, input: 3 });
            let layer = config.with_rank(Rank::Fixed(2)).init(&device());
            assert_same(layer.to_blast().to_dense(), layer.to_dense());
        }
    }
}
