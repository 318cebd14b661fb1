//! The frozen Gaudi layer: small dense products over the windows that are left.

use super::GaudiLinear;
use crate::dense::own_bias;
use crate::display::layer_display;
use crate::parameter::parameter;
use crate::{Cost, Factor};
use burn::module::{Module, Param};
use burn::tensor::{Int, Tensor, assert_shape};
use burn_structured_ops::Epilogue;
use burn_structured_ops::gaudi::window_mask;
use std::ops::Range;

/// Into how many pieces either side is cut; more fit the windows closer, and make smaller products.
const PIECES: usize = 8;

/// A sum of components within fixed windows, as [`GaudiLinear::freeze_windows`] leaves it.
///
/// Components with neighbouring input windows form a group, which reads the features from the first to the last of its
/// windows; the output is cut into tiles, each of which adds the components that reach into it. Both are dense products of
/// just these sizes, and [`cost`](Self::cost) counts them. What is in such a product but outside of a window is stored as
/// zero, and can be trained like any other weight.
///
/// The windows are not part of a record: save the [`GaudiLinear`], and freeze it after loading.
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct WindowedLinear {
    /// Input factors of each group, `[features, components]`.
    pub v: Vec<Param<Tensor<2>>>,
    /// Output factors of each tile, `[components, features]`.
    pub ut: Vec<Param<Tensor<2>>>,
    /// Vector of size `d_output`.
    pub bias: Option<Param<Tensor<1>>>,
    /// Which components each tile adds.
    members: Vec<Tensor<1, Int>>,
    #[module(skip)]
    spans: Vec<Span>,
    #[module(skip)]
    tiles: Vec<Span>,
    #[module(skip)]
    d_input: usize,
}

/// Features from `start` to before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// The extent of the ones in each row of a mask; `None` if there are none.
fn extents(mask: Tensor<2>) -> Vec<Option<Span>> {
    let n = mask.dims()[1];
    let values: Vec<f32> = mask.into_data().iter::<f32>().collect();
    let extent = |row: &[f32]| {
        let start = row.iter().position(|value| *value != 0.0)?;
        let end = row.iter().rposition(|value| *value != 0.0)? + 1;
        Some(Span { start, end })
    };
    values.chunks_exact(n).map(extent).collect()
}

fn indices(values: &[usize], like: &Tensor<2>) -> Tensor<1, Int> {
    let values: Vec<i64> = values.iter().map(|value| *value as i64).collect();
    Tensor::from_data(values.as_slice(), &like.device())
}

impl WindowedLinear {
    pub(super) fn new(layer: &GaudiLinear) -> Self {
        let (d_input, d_output) = (layer.d_input(), layer.d_output());
        let width = |width: &Param<Tensor<1>>| width.val().detach().clamp(0.0, 1.0);
        let input = window_mask(width(&layer.input_width), layer.input_location.val().detach(), d_input);
        let output = window_mask(width(&layer.output_width), layer.output_location.val().detach(), d_output);
        let v = layer.v.val().detach() * input.clone().transpose();
        let ut = layer.ut.val().detach() * output.clone();

        let (inputs, outputs) = (extents(input), extents(output));
        let mut order: Vec<usize> =
            (0..layer.rank()).filter(|k| inputs[*k].is_some() && outputs[*k].is_some()).collect();
        order.sort_by_key(|k| inputs[*k].map(|span| (span.start + span.end, span.start)));

        let (mut groups, mut spans) = (Vec::new(), Vec::new());
        for members in order.chunks(order.len().div_ceil(PIECES).max(1)) {
            let windows = || members.iter().filter_map(|k| inputs[*k]);
            let start = windows().map(|span| span.start).min().unwrap_or(0);
            let span = Span { start, end: windows().map(|span| span.end).max().unwrap_or(start) };
            groups.push(parameter(v.clone().slice([span.range()]).select(1, indices(members, &v))));
            spans.push(span);
        }

        let (mut tiles, mut products, mut all_members) = (Vec::new(), Vec::new(), Vec::new());
        let height = d_output.div_ceil(PIECES);
        for start in (0..d_output).step_by(height) {
            let tile = Span { start, end: d_output.min(start + height) };
            let reaches = |k: usize| outputs[k].is_some_and(|span| span.start < tile.end && tile.start < span.end);
            let members: Vec<usize> = (0..order.len()).filter(|place| reaches(order[*place])).collect();
            let components: Vec<usize> = members.iter().map(|place| order[*place]).collect();
            tiles.push(tile);
            if components.is_empty() {
                products.push(parameter(Tensor::zeros([0, tile.end - tile.start], (&ut.device(), ut.dtype()))));
            } else {
                let columns = ut.clone().slice([0..layer.rank(), tile.range()]);
                products.push(parameter(columns.select(0, indices(&components, &ut))));
            }
            all_members.push(indices(&members, &ut));
        }
        Self {
            v: groups,
            ut: products,
            bias: layer.bias.as_ref().map(|bias| parameter(bias.val().detach())),
            members: all_members,
            spans,
            tiles,
            d_input,
        }
    }

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
        self.forward_then(input, Epilogue::new())
    }

    /// [`forward`](Self::forward), and what follows the layer; the bias is the layer's own, whatever the epilogue says.
    ///
    /// # Panics
    ///
    /// As [`forward`](Self::forward), or if a gate or residual does not have the output's shape.
    pub fn forward_then<const D: usize>(&self, input: Tensor<D>, epilogue: Epilogue<D>) -> Tensor<D> {
        let d_input = self.d_input;
        assert_shape!(input, [.., d_input]);
        let mut shape = input.shape();
        let tokens = shape.num_elements() / d_input;
        shape[D - 1] = self.d_output();
        let y = self.product(input.reshape([tokens, d_input]));
        own_bias(epilogue, &self.bias).apply(y.reshape(shape))
    }

    fn product(&self, x: Tensor<2>) -> Tensor<2> {
        let (tokens, like) = (x.dims()[0], (x.device(), x.dtype()));
        let groups = self.v.iter().zip(&self.spans);
        let z: Vec<_> = groups.map(|(v, span)| x.clone().slice([0..tokens, span.range()]).matmul(v.val())).collect();
        let z = if z.is_empty() { None } else { Some(Tensor::cat(z, 1)) };
        let tiles = self.ut.iter().zip(&self.members).zip(&self.tiles).map(|((ut, members), tile)| match &z {
            Some(z) if members.dims()[0] > 0 => z.clone().select(1, members.clone()).matmul(ut.val()),
            _ => Tensor::zeros([tokens, tile.end - tile.start], (&like.0, like.1)),
        });
        Tensor::cat(tiles.collect(), 1)
    }

    /// The dense weight `[d_output, d_input]` that this layer multiplies by.
    pub fn to_dense(&self) -> Tensor<2> {
        let like = self.ut[0].val();
        self.product(Tensor::<2>::eye(self.d_input, &like.device()).cast(like.dtype())).transpose()
    }

    /// Parameters, FLOPs and bytes, beside those of the dense layer.
    pub fn cost(&self) -> Cost {
        let weights = |factors: &[Param<Tensor<2>>]| -> usize {
            factors.iter().map(|factor| factor.shape().num_elements()).sum()
        };
        let bytes = self.ut[0].val().dtype().size();
        let all = weights(&self.v) + weights(&self.ut);
        Cost::of_weights(all, self.d_input, self.d_output(), self.bias.is_some(), bytes)
    }

    /// The factors, each with the learning rate of a dense layer.
    pub fn factors(&self) -> Vec<Factor> {
        let d_input = self.d_input;
        let groups = self.v.iter().map(|v| Factor::new("v", v, d_input, d_input));
        groups.chain(self.ut.iter().map(|ut| Factor::new("ut", ut, d_input, d_input))).collect()
    }

    /// The size of the input features.
    pub fn d_input(&self) -> usize {
        self.d_input
    }

    /// The size of the output features.
    pub fn d_output(&self) -> usize {
        self.tiles.last().map_or(0, |tile| tile.end)
    }
}

layer_display!(WindowedLinear, layer => { "groups": layer.v.len(), "tiles": layer.ut.len() });
