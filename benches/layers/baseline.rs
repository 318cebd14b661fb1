//! Dense products by the `gemm` and `faer` crates, called directly: a dense layer without a framework around it.
//!
//! A product of few tokens is bound by reading the weight, so its layout and the number of threads decide: both libraries are
//! tried in every combination, and with the rows of the weight divided evenly among the threads, which neither does by itself.
//!
//! Outputs are allocated as this crate's kernels allocate theirs: anew in every call, from the same allocator, without clearing.

use super::arguments::Pass;
use crate::harness::measure::{Random, Rotation, Work};
use burn::tensor::DType;
use faer::linalg::matmul::matmul;
use faer::traits::ComplexField;
use faer::{Accum, MatMut, MatRef, Par};
use rayon::prelude::*;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex};

/// Up to this many tokens, reading the weight is what takes time, and one thread may read as fast as all.
const FEW_TOKENS: usize = 8;
/// Up to this many multiplications, about a millisecond on one thread, waking the other threads may cost more than they save.
const SMALL_PRODUCT: usize = 1 << 26;
/// Chunks of the weight for each thread: enough that a thread that is interrupted does not delay all.
const CHUNKS_PER_THREAD: usize = 4;

/// The shape of the product: `y [tokens, m] = x [tokens, n] · W`.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Rows of `x`.
    pub tokens: usize,
    /// Input features.
    pub n: usize,
    /// Output features.
    pub m: usize,
}

impl Shape {
    /// Whether one thread may be faster than all, so that it has to be tried.
    pub fn suits_one_thread(self) -> bool {
        self.tokens <= FEW_TOKENS || self.tokens * self.n * self.m <= SMALL_PRODUCT
    }
}

/// How a layer's weight is stored, by inputs or by outputs.
pub const LAYOUTS: [(bool, &str); 2] = [(false, "W [n, m]"), (true, "W [m, n]")];

/// The libraries' candidates for this shape and dtype, with their names; none for half precision: `faer` has no such type, Burn's
/// `Linear` on Flex already is `gemm` in f16, and converting the weight to f32 in every call would read it three times.
pub fn candidates(shape: Shape, pass: Pass, dtype: DType, window: usize) -> Vec<(String, Work<'static>)> {
    match dtype {
        DType::F32 => of_type::<f32>(shape, pass, window),
        DType::F64 => of_type::<f64>(shape, pass, window),
        _ => Vec::new(),
    }
}

/// A square product by each library, with its name: the arithmetic that the processor can do at most is among them.
pub fn square(size: usize, dtype: DType) -> Vec<(String, Work<'static>)> {
    fn of<T: Element>(size: usize) -> Vec<(String, Work<'static>)> {
        let product_of = |library: Library| -> (String, Work<'static>) {
            let (a, b) = (drawn::<T>(size * size), drawn::<T>(size * size));
            let work = Work::new(move || {
                let (a, b) = (Matrix::new(&a, size, size), Matrix::new(&b, size, size));
                std::hint::black_box(output::<T>(size * size, |c| product(library, true, a, b, c)));
            });
            (library.name().to_string(), work)
        };
        [Library::Gemm, Library::Faer].map(product_of).into()
    }
    match dtype {
        DType::F32 => of::<f32>(size),
        DType::F64 => of::<f64>(size),
        _ => Vec::new(),
    }
}

trait Element: ComplexField + Copy + Send + Sync + 'static {
    fn of(value: f64) -> Self;
}

impl Element for f32 {
    fn of(value: f64) -> Self {
        value as Self
    }
}

impl Element for f64 {
    fn of(value: f64) -> Self {
        value
    }
}

#[derive(Clone, Copy, Debug)]
enum Library {
    Gemm,
    Faer,
}

impl Library {
    fn name(self) -> &'static str {
        match self {
            Self::Gemm => "gemm",
            Self::Faer => "faer",
        }
    }
}

/// A matrix stored by rows, or the transpose of one.
#[derive(Clone, Copy)]
struct Matrix<'a, T> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    transposed: bool,
}

impl<'a, T> Matrix<'a, T> {
    fn new(values: &'a [T], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns);
        Self { values, rows, columns, transposed: false }
    }

    fn transpose(self) -> Self {
        Self { rows: self.columns, columns: self.rows, transposed: !self.transposed, ..self }
    }

    /// From row to row and from column to column.
    fn strides(&self) -> (isize, isize) {
        if self.transposed { (1, self.rows as isize) } else { (self.columns as isize, 1) }
    }

    fn view(&self) -> MatRef<'a, T> {
        if self.transposed {
            MatRef::from_row_major_slice(self.values, self.columns, self.rows).transpose()
        } else {
            MatRef::from_row_major_slice(self.values, self.rows, self.columns)
        }
    }
}

/// `out = a · b`, `out` stored by rows, on all threads or on this one; every element is written and none is read.
fn product<T: Element>(
    library: Library,
    parallel: bool,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    out: &mut [MaybeUninit<T>],
) {
    let (rows, inner, columns) = (a.rows, a.columns, b.columns);
    assert_eq!((b.rows, out.len()), (inner, rows * columns));
    match library {
        Library::Gemm => {
            let ((a_row, a_column), (b_row, b_column)) = (a.strides(), b.strides());
            let threads = if parallel { gemm::Parallelism::Rayon(0) } else { gemm::Parallelism::None };
            // SAFETY: the strides are those of row-major matrices that `Matrix::new` and the assertion above found to be as
            // large as their slices, or of their transposes; `out` is borrowed alone.
            unsafe {
                gemm::gemm(
                    rows,
                    columns,
                    inner,
                    out.as_mut_ptr().cast(),
                    1,
                    columns as isize,
                    false,
                    a.values.as_ptr(),
                    a_column,
                    a_row,
                    b.values.as_ptr(),
                    b_column,
                    b_row,
                    T::of(0.0),
                    T::of(1.0),
                    false,
                    false,
                    false,
                    threads,
                );
            }
        }
        Library::Faer => {
            // SAFETY: `out` has so many rows and columns, and is borrowed alone; replacing, faer reads none of it.
            let out =
                unsafe { MatMut::from_raw_parts_mut(out.as_mut_ptr().cast(), rows, columns, columns as isize, 1) };
            let threads = if parallel { Par::rayon(0) } else { Par::Seq };
            matmul(out, Accum::Replace, a.view(), b.view(), T::of(1.0), threads);
        }
    }
}

fn drawn<T: Element>(count: usize) -> Vec<T> {
    let mut random = Random::default();
    (0..count).map(|_| T::of(random.unit())).collect()
}

fn of_type<T: Element>(shape: Shape, pass: Pass, window: usize) -> Vec<(String, Work<'static>)> {
    let operands = Arc::new(Mutex::new(Operands::<T>::new(shape, window)));
    let mut found = Vec::new();
    for library in [Library::Gemm, Library::Faer] {
        let name = library.name();
        for (parallel, threads) in [(true, "all threads"), (false, "one thread")] {
            if !parallel && !shape.suits_one_thread() {
                continue;
            }
            for (by_output, layout) in LAYOUTS {
                let operands = operands.clone();
                let work = match pass {
                    Pass::Forward => forward(shape, library, parallel, by_output, operands),
                    Pass::ForwardBackward => forward_backward(shape, library, parallel, by_output, operands),
                };
                found.push((format!("{name}, {threads}, {layout}"), work));
            }
        }
        if pass == Pass::Forward && shape.tokens <= FEW_TOKENS {
            found.push((format!("{name}, rows of W divided"), divided(shape, library, operands.clone())));
        }
    }
    found
}

struct Operands<T> {
    weights: Rotation<Vec<T>>,
    inputs: Rotation<Vec<T>>,
}

impl<T: Element> Operands<T> {
    fn new(Shape { tokens, n, m }: Shape, window: usize) -> Self {
        let rotation = |count: usize| Rotation::filling(window, count * size_of::<T>(), |_| drawn::<T>(count));
        Self { weights: rotation(n * m), inputs: rotation(tokens * n) }
    }
}

/// All candidates share one set, or the memory would be full of weights.
type Shared<T> = Arc<Mutex<Operands<T>>>;

/// A new output, every element of which `fill` writes by [`product`].
fn output<T: Element>(count: usize, fill: impl FnOnce(&mut [MaybeUninit<T>])) -> Vec<T> {
    let mut out = Vec::with_capacity(count);
    fill(&mut out.spare_capacity_mut()[..count]);
    // SAFETY: there is room, and products write every element.
    unsafe { out.set_len(count) };
    out
}

/// `W [n, m]` as a matrix, whichever way it is stored.
fn weight<T: Element>(values: &[T], Shape { n, m, .. }: Shape, by_output: bool) -> Matrix<'_, T> {
    if by_output { Matrix::new(values, m, n).transpose() } else { Matrix::new(values, n, m) }
}

fn forward<T: Element>(
    shape: Shape,
    library: Library,
    parallel: bool,
    by_output: bool,
    operands: Shared<T>,
) -> Work<'static> {
    let Shape { tokens, n, m } = shape;
    Work::new(move || {
        let Operands { weights, inputs } = &mut *operands.lock().expect("no candidate panicked");
        let (weight, input) = (weight(weights.next(), shape, by_output), Matrix::new(inputs.next(), tokens, n));
        std::hint::black_box(output::<T>(tokens * m, |y| product(library, parallel, input, weight, y)));
    })
}

/// `yᵀ = W xᵀ` with the rows of `W` in chunks that the threads take one after the other.
fn divided<T: Element>(shape: Shape, library: Library, operands: Shared<T>) -> Work<'static> {
    let Shape { tokens, n, m } = shape;
    let rows = m.div_ceil(CHUNKS_PER_THREAD * rayon::current_num_threads());
    Work::new(move || {
        let Operands { weights, inputs } = &mut *operands.lock().expect("no candidate panicked");
        let (weight, input) = (weights.next().as_slice(), inputs.next().as_slice());
        let input = Matrix::new(input, tokens, n).transpose();
        let y = output::<T>(m * tokens, |y| {
            y.par_chunks_mut(rows * tokens).zip(weight.par_chunks(rows * n)).for_each(|(y, weight)| {
                product(library, false, Matrix::new(weight, weight.len() / n, n), input, y);
            });
        });
        std::hint::black_box(y);
    })
}

/// `y = x W`, `dx = dy Wᵀ` and `dW = xᵀ dy`, the last as `W` is stored: the least that a dense layer does in training.
fn forward_backward<T: Element>(
    shape: Shape,
    library: Library,
    parallel: bool,
    by_output: bool,
    operands: Shared<T>,
) -> Work<'static> {
    let Shape { tokens, n, m } = shape;
    let gradient = drawn::<T>(tokens * m);
    Work::new(move || {
        let Operands { weights, inputs } = &mut *operands.lock().expect("no candidate panicked");
        let (weight, input) = (weight(weights.next(), shape, by_output), Matrix::new(inputs.next(), tokens, n));
        let gradient = Matrix::new(&gradient, tokens, m);
        let y = output::<T>(tokens * m, |y| product(library, parallel, input, weight, y));
        let dx = output::<T>(tokens * n, |dx| product(library, parallel, gradient, weight.transpose(), dx));
        let dw = output::<T>(n * m, |dw| {
            if by_output {
                product(library, parallel, gradient.transpose(), input, dw);
            } else {
                product(library, parallel, input.transpose(), gradient, dw);
            }
        });
        std::hint::black_box((y, dx, dw));
    })
}
