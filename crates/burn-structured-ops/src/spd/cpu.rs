//! Systems on Flex: faer's Cholesky factorization and triangular solves, on the tensors' own storage.
//!
//! A factor is stored by columns, which is what faer is fast with: its tensor is a transposed view.

use super::{SpdBackend, SpdStrategy, reference, shapes};
use crate::cpu::{Matrix, Scalar, contiguous, dense_slice, from_native, to_native, with_native};
use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;
use burn_flex::FlexTensor;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::cholesky::llt::factor::{cholesky_in_place, cholesky_in_place_scratch};
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::traits::RealField;
use faer::{MatMut, MatRef, Par};
use rayon::prelude::*;

impl SpdBackend for Flex {
    fn spd_factor(a: FloatTensor<Self>, strategy: SpdStrategy) -> FloatTensor<Self> {
        shapes::factor(a.layout().shape());
        if strategy == SpdStrategy::Reference {
            return reference::factor::<Self>(a);
        }
        let a = to_native(a);
        with_native!(a.dtype(), E => factor::<E>(&a))
    }

    fn spd_substitute(factor: FloatTensor<Self>, b: FloatTensor<Self>, strategy: SpdStrategy) -> FloatTensor<Self> {
        shapes::check_solution(&factor, &b);
        if strategy == SpdStrategy::Reference {
            return reference::substitute::<Self>(factor, b);
        }
        let dtype = b.dtype();
        let b = to_native(b);
        from_native(with_native!(b.dtype(), E => substitute::<E>(&factor, &b)), dtype)
    }
}

/// FLOPs below which a task is not worth handing to another thread.
const TASK_FLOPS: usize = 1 << 17;

/// Runs `task`, which takes `flops`, on every chunk of `size` elements: on one thread each if there are chunks enough, else on all
/// threads.
fn for_each_chunk<E: Scalar>(data: &mut [E], size: usize, flops: usize, task: impl Fn(usize, &mut [E], Par) + Sync) {
    let (chunks, threads) = (data.len() / size, rayon::current_num_threads());
    if threads > 1 && chunks < threads {
        data.chunks_exact_mut(size).enumerate().for_each(|(index, chunk)| task(index, chunk, Par::rayon(0)));
        return;
    }
    let at_once = TASK_FLOPS.div_ceil(flops);
    data.par_chunks_mut(at_once * size).enumerate().for_each(|(group, chunks)| {
        let chunks = chunks.chunks_exact_mut(size).enumerate();
        chunks.for_each(|(index, chunk)| task(group * at_once + index, chunk, Par::Seq));
    });
}

fn factor<E: Scalar + RealField>(a: &FlexTensor) -> FlexTensor {
    let [batch, n, _] = a.layout().shape().dims();
    let mut factor = vec![E::ZERO; batch * n * n];
    for_each_chunk(&mut factor, n * n, n * n * n.div_ceil(3), |index, factor, par| {
        Matrix::<E>::of(a, index).copy_lower_by_columns(factor);
        let mut memory = MemBuffer::new(cholesky_in_place_scratch::<E>(n, par, Default::default()));
        let columns = MatMut::from_column_major_slice_mut(&mut *factor, n, n);
        let stack = MemStack::new(&mut memory);
        let factored = cholesky_in_place(columns, Default::default(), par, stack, Default::default()).is_ok();
        // faer takes an infinite pivot for a positive number.
        if !factored || factor.iter().step_by(n + 1).any(|pivot| !faer::traits::math_utils::is_finite(pivot)) {
            factor.fill(E::NAN);
        }
    });
    contiguous(factor, Shape::new([batch, n, n])).transpose(1, 2)
}

fn substitute<E: Scalar + RealField>(factor: &FlexTensor, b: &FlexTensor) -> FlexTensor {
    let [_, n, k] = b.layout().shape().dims();
    // A copy only of a factor that `factor` did not make.
    let factor = factor.transpose(1, 2).to_contiguous();
    let factor = dense_slice::<E>(&factor);
    let mut x = dense_slice::<E>(&b.to_contiguous()).to_vec();
    for_each_chunk(&mut x, n * k, 2 * n * n * k, |index, x, par| {
        let factor = MatRef::from_column_major_slice(&factor[index * n * n..][..n * n], n, n);
        let mut x = MatMut::from_row_major_slice_mut(x, n, k);
        solve_lower_triangular_in_place(factor, x.as_mut(), par);
        solve_upper_triangular_in_place(factor.transpose(), x, par);
    });
    contiguous(x, b.layout().shape().clone())
}
