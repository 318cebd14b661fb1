//! Activations on Flex: vectorised, on all threads.

use super::{Activation, ActivationBackend};
use crate::cpu::runtime::math::{self, Math};
use crate::cpu::{Scalar, alloc_uninit_with, contiguous, dense_slice, from_native, to_native, vectorized, with_native};
use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn_flex::FlexTensor;
use rayon::prelude::*;

/// Elements of a task at least: less is not worth handing out.
const TASK_ELEMENTS: usize = 1 << 14;

impl ActivationBackend for Flex {
    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let (dtype, x) = (x.dtype(), to_native(x));
        from_native(with_native!(x.dtype(), E => map::<E>(x, Function { activation, x: None })), dtype)
    }

    /// # Panics
    ///
    /// If the shapes or the dtypes differ.
    fn activation_gradient(x: FloatTensor<Self>, dy: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let same = x.layout().shape() == dy.layout().shape() && x.dtype() == dy.dtype();
        assert!(same, "activation: `x` and `dy` must have the same shape and dtype");
        let dtype = dy.dtype();
        let (x, dy) = (to_native(x).to_contiguous(), to_native(dy));
        let dx = with_native!(dy.dtype(), E => map::<E>(dy, Function { activation, x: Some(dense_slice(&x)) }));
        from_native(dx, dtype)
    }
}

/// What becomes of every element.
#[derive(Clone, Copy)]
struct Function<'a, E> {
    activation: Activation,
    /// Where the derivative is taken that the elements are multiplied by; `None` for the activation itself.
    x: Option<&'a [E]>,
}

impl<E: Scalar + Math> Function<'_, E> {
    /// Of elements of which the first is number `start`.
    fn apply(self, elements: &mut [E], start: usize) {
        vectorized(
            #[inline(always)]
            || match self.x {
                None => math::activate(elements, self.activation),
                Some(x) => math::activation_gradient(&x[start..][..elements.len()], elements, self.activation),
            },
        );
    }
}

/// The function of every element, in place if nothing else owns the storage.
fn map<E: Scalar + Math>(tensor: FlexTensor, function: Function<'_, E>) -> FlexTensor {
    let mut tensor = if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() };
    let (start, len) = (tensor.layout().start_offset(), tensor.layout().num_elements());
    let task = len.div_ceil(2 * rayon::current_num_threads()).max(TASK_ELEMENTS);
    if let Some(elements) = tensor.try_storage_mut::<E>() {
        let elements = &mut elements[start..start + len];
        if len <= task {
            function.apply(elements, 0);
        } else {
            let parts = elements.par_chunks_mut(task).enumerate();
            parts.for_each(|(index, part)| function.apply(part, index * task));
        }
        return tensor;
    }
    let source = dense_slice::<E>(&tensor);
    // SAFETY: every part is copied before anything reads it.
    let elements = unsafe {
        alloc_uninit_with(len, |mut out| {
            let out = out.share();
            let apply = |index: usize| {
                let (start, len) = (index * task, task.min(len - index * task));
                // SAFETY: no other part has these elements.
                let part = out.uninit_slice(start, len).write_copy_of_slice(&source[start..start + len]);
                function.apply(part, start);
            };
            if len <= task {
                (0..len.min(1)).for_each(apply);
            } else {
                (0..len.div_ceil(task)).into_par_iter().for_each(apply);
            }
        })
    };
    contiguous(elements, tensor.layout().shape().clone())
}
