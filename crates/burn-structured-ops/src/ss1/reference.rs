//! SS1 products in plain Burn operations: the fallback of every backend and the reference of the tests.

use super::{Fold, shapes};
use crate::operands::check;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{IntDType, Shape, Slice, TensorData};

pub(super) fn fold<B: Backend>(x: FloatTensor<B>, fold: Fold, output_block: usize) -> FloatTensor<B> {
    check(|shapes| shapes::folded(shapes, fold), [&x]);
    let (device, dtype) = (x.device(), x.dtype());
    let mut sketch = B::float_zeros(Shape::new([x.shape()[0], fold.width()]), &device, dtype.into());
    let x = pad::<B>(x, &fold);
    // Each stored weight multiplies one feature of every block of its group: block `j` of all groups is one selection.
    let mut features = vec![vec![(0, false); fold.width()]; fold.reduction];
    for (block, j) in (0..fold.groups()).flat_map(|group| (0..fold.reduction).map(move |j| (group, j))) {
        let (shift, negative) = fold.rotation(output_block, block, j);
        for q in 0..fold.block_k {
            let feature = (block * fold.reduction + j) * fold.block_k + (q + shift) % fold.block_k;
            features[j][block * fold.block_k + q] = (feature, negative);
        }
    }
    for selection in features {
        sketch = B::float_add(sketch, select_signed::<B>(x.clone(), &selection));
    }
    return sketch;

    fn pad<B: Backend>(x: FloatTensor<B>, fold: &Fold) -> FloatTensor<B> {
        let [tokens, n] = x.shape().dims();
        let padded = fold.groups() * fold.reduction * fold.block_k;
        if padded == n {
            return x;
        }
        let (device, dtype) = (x.device(), x.dtype());
        let zeros = B::float_zeros(Shape::new([tokens, padded - n]), &device, dtype.into());
        B::float_cat(vec![x, zeros], 1)
    }
}

pub(super) fn unfold<B: Backend>(a: FloatTensor<B>, fold: Fold, output_block: usize) -> FloatTensor<B> {
    check(|shapes| shapes::unfolded(shapes, fold), [&a]);
    select_signed::<B>(a, &fold.sources(output_block))
}

/// The columns of `matrix` in the order of `sources`, some with the opposite sign.
fn select_signed<B: Backend>(matrix: FloatTensor<B>, sources: &[(usize, bool)]) -> FloatTensor<B> {
    let (device, dtype) = (matrix.device(), matrix.dtype());
    let indices: Vec<i32> = sources.iter().map(|(source, _)| *source as i32).collect();
    let indices = B::int_from_data(TensorData::new(indices, [sources.len()]), &device);
    let indices = B::int_cast(indices, IntDType::I32);
    let selected = B::float_select(matrix, 1, indices);
    if sources.iter().all(|(_, negative)| !negative) {
        return selected;
    }
    let signs: Vec<f32> = sources.iter().map(|(_, negative)| if *negative { -1.0 } else { 1.0 }).collect();
    let signs = TensorData::new(signs, [1, sources.len()]).convert_dtype(dtype);
    B::float_mul(selected, B::float_from_data(signs, &device))
}

/// The output rows of every block, as ranges.
fn blocks(fold: Fold, m: usize) -> impl Iterator<Item = (usize, Slice)> {
    (0..fold.output_blocks(m)).map(move |block| (block, Slice::from(fold.output_rows(m, block))))
}

pub(super) fn product<B: Backend>(x: FloatTensor<B>, z: FloatTensor<B>, fold: Fold) -> FloatTensor<B> {
    check(|shapes| shapes::product(shapes, fold), [&x, &z]);
    let m = z.shape()[1];
    let pieces = blocks(fold, m).map(|(block, rows)| {
        let z = B::float_slice(z.clone(), &[Slice::full(), rows]);
        B::float_matmul(self::fold::<B>(x.clone(), fold, block), z)
    });
    B::float_cat(pieces.collect(), 1)
}

pub(super) fn input_gradient<B: Backend>(dy: FloatTensor<B>, z: FloatTensor<B>, fold: Fold) -> FloatTensor<B> {
    check(|shapes| shapes::input_gradient(shapes, fold), [&dy, &z]);
    let m = z.shape()[1];
    let pieces = blocks(fold, m).map(|(block, rows)| {
        let dy = B::float_slice(dy.clone(), &[Slice::full(), rows]);
        let z = B::float_slice(z.clone(), &[Slice::full(), rows]);
        unfold::<B>(B::float_matmul(dy, B::float_swap_dims(z, 0, 1)), fold, block)
    });
    pieces.reduce(B::float_add).expect("at least one output block")
}

pub(super) fn weight_gradient<B: Backend>(x: FloatTensor<B>, dy: FloatTensor<B>, fold: Fold) -> FloatTensor<B> {
    check(|shapes| shapes::weight_gradient(shapes, fold), [&x, &dy]);
    let m = dy.shape()[1];
    let pieces = blocks(fold, m).map(|(block, rows)| {
        let dy = B::float_slice(dy.clone(), &[Slice::full(), rows]);
        let sketch = self::fold::<B>(x.clone(), fold, block);
        B::float_matmul(B::float_swap_dims(sketch, 0, 1), dy)
    });
    B::float_cat(pieces.collect(), 1)
}
