//! What Monarch and block tensor-train layers share: all but the order of rows, the default blocks and the initialization.

use crate::rank::RankBudget;
use crate::{Rank, StructureError};

/// The grid and the rank of a matrix `[d_output, d_input]` of `blocks (b1, b2)`: a rank costs `b1 d_input + b2 d_output`
/// weights, and stops at that of a block.
pub(crate) fn resolve(
    (b1, b2): (usize, usize),
    rank: Rank,
    [d_output, d_input]: [usize; 2],
    hint: &'static str,
) -> Result<([usize; 2], usize), StructureError> {
    let rank = rank.resolve(RankBudget {
        d_input,
        d_output,
        fixed: 0,
        params_per_rank: b1 * d_input + b2 * d_output,
        hint,
        max: (d_output / b1).min(d_input / b2),
    })?;
    Ok(([b1, b2], rank))
}

/// The layer of two block-diagonal factors, `right [b2, t b1, q]` and `left [b1, p, t b2]`, whose blocks of rank `t` have the rows
/// that `$order` gives them: Monarch strided ones, the block tensor-train neighbours.
macro_rules! two_factor_layer {
    ($Layer:ident, $order:expr) => {
        impl $Layer {
            /// Applies the forward pass on the input tensor.
            ///
            /// # Shapes
            ///
            /// - input: `[.., d_input]`
            /// - output: `[.., d_output]`
            ///
            /// # Panics
            ///
            /// Panics if the last axis of `input` is not `d_input`.
            pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
                self.forward_then(input, burn_structured_ops::Epilogue::new())
            }

            /// [`forward`](Self::forward), and what follows the layer; the bias is the layer's own, whatever the epilogue says.
            ///
            /// # Panics
            ///
            /// As [`forward`](Self::forward), or if a gate or residual does not have the output's shape.
            pub fn forward_then<const D: usize>(&self, input: Tensor<D>, epilogue: burn_structured_ops::Epilogue<D>) -> Tensor<D> {
                let d_input = self.d_input();
                assert_shape!(input, [.., d_input]);
                        monarch_linear(input, self.right.val(), self.left.val(), crate::dense::own_bias(epilogue, &self.bias), $order)
            }

            /// The dense weight `[d_output, d_input]` that this layer multiplies by.
            pub fn to_dense(&self) -> Tensor<2> {
                monarch_to_dense(self.right.val(), self.left.val(), $order)
            }

            /// Parameters, FLOPs and bytes, beside those of the dense layer.
            pub fn cost(&self) -> Cost {
                let weights = self.right.shape().num_elements() + self.left.shape().num_elements();
                let bytes = self.left.val().dtype().size();
                Cost::of_weights(weights, self.d_input(), self.d_output(), self.bias.is_some(), bytes)
            }

            /// The factors, each with the learning rate that suits it.
            pub fn factors(&self) -> Vec<Factor> {
                let d_input = self.d_input();
                let ([_, _, right], [_, _, left]) = (self.right.shape().dims(), self.left.shape().dims());
                vec![Factor::new("right", &self.right, d_input, right), Factor::new("left", &self.left, d_input, left)]
            }

            /// The size of the input features.
            pub fn d_input(&self) -> usize {
                let [b2, _, q] = self.right.shape().dims();
                b2 * q
            }

            /// The size of the output features.
            pub fn d_output(&self) -> usize {
                let [b1, p, _] = self.left.shape().dims();
                b1 * p
            }

            /// The block grid `[b1, b2]`.
            pub fn blocks(&self) -> [usize; 2] {
                [self.left.shape()[0], self.right.shape()[0]]
            }

            /// The rank of a block.
            pub fn rank(&self) -> usize {
                self.right.shape()[1] / self.left.shape()[0]
            }
        }

        crate::display::layer_display!($Layer, layer => {
            "blocks": crate::display::grid(layer.blocks()), "rank": layer.rank()
        });
    };
}
pub(crate) use two_factor_layer;
