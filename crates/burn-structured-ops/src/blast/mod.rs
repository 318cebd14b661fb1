//! BLAST: products with a matrix of blocks that share their factors.
//!
//! `W [m, n]` consists of `b1 × b2` blocks; block `(i, j)` is `U_i diag(s_ij) V_jᵀ` with `U_i [m/b1, r]`,
//! `V_j [n/b2, r]` and `s_ij [r]` (Lee, Kwon, Qu, Kim, *BLAST: Block-Level Adaptive Structured Matrices for Efficient
//! Deep Neural Network Inference*, NeurIPS 2024, §2). The product runs in three stages,
//!
//! ```text
//! z_j = x_j V_j                     project   one batched GEMM
//! t_i = Σ_j s_ij ∘ z_j              couple    element-wise, memory-bound
//! y_i = t_i U_iᵀ + bias_i           expand    one batched GEMM
//! ```
//!
//! and costs `r (m + n + b1 b2)` multiplications a token instead of `m n`.
//!
//! # Why an operation and not three tensor calls
//!
//! Written with broadcasting, the coupling materialises `[b1, b2, tokens, r]`, which makes the layer slower than the
//! dense one it replaces. No strategy here does that. The blocks of `x` and `y` are strides, not copies
//! (except that Burn's matmul on GPUs copies the blocks of `x`), and the backward pass keeps only `x` and `z`.
//!
//! # The transposed product
//!
//! `Wᵀ` is again a BLAST matrix, with `U` and `V` swapped and `s` transposed, so the gradient of the input runs through
//! the same three stages and no backend needs a second set of kernels.

mod backward;
#[cfg(feature = "flex")]
mod cpu;
#[cfg(feature = "cube")]
mod cube;
mod reference;
mod shapes;
mod unsupported;

#[cfg(any(feature = "ndarray", feature = "tch", feature = "remote"))]
mod fallback;

pub use unsupported::{UnsupportedStrategy, blast_unsupported};

use crate::activation::ActivationBackend;
use crate::operands::check;
use crate::tokens::{empty_product, rows};
use crate::{Epilogue, EpilogueTensors, OptionalTensor};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Dispatch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

/// How a BLAST product is computed. Results agree up to rounding.
///
/// | strategy    | Flex                                     | CubeCL (CUDA, wgpu, CPU, …)            | NdArray, LibTorch, Remote |
/// |-------------|------------------------------------------|----------------------------------------|---------------------------|
/// | `Reference` | plain Burn                               | plain Burn                             | plain Burn |
/// | `Staged`    | one stage after the other                | coupling kernel between Burn's matmuls | plain Burn |
/// | `Fused`     | projection and coupling by rank blocks   | projection and coupling in one kernel  | plain Burn |
/// | `Decode`    | factors read once, without packing       | one or two launches for up to 8 tokens | plain Burn |
/// | `Auto`      | `Decode` up to 8 tokens, `Fused` for more | `Decode` for few tokens on a GPU, tensor cores in half precision, else the fastest measured (`autotune`) or `Staged` | plain Burn |
///
/// A strategy that cannot run for a product is computed as `Staged`; [`blast_unsupported`] says whether and why. The backward pass is
/// staged in every case but `Reference`; on Flex it goes by rank blocks where the forward pass would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BlastStrategy {
    /// The fastest strategy known for the backend and the shape.
    #[default]
    Auto,
    /// Plain Burn operations, forward and backward: the reference that the tests compare with.
    Reference,
    /// Project, couple, expand, each over all tokens.
    Staged,
    /// Projections are coupled as they are computed and written to memory only for the backward pass.
    Fused,
    /// Up to 8 tokens: every weight is read once, in as few launches as possible.
    Decode,
    /// One of the candidates that `Auto` chooses from, for tests and benchmarks.
    #[doc(hidden)]
    Candidate(BlastCandidate),
}

/// Candidates of [`BlastStrategy::Auto`] on CubeCL devices that no user has to choose; elsewhere each is `Staged`.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlastCandidate {
    /// Staged, around the tiled GEMM of this crate.
    TiledGemm,
    /// Staged, around the tensor-core GEMM of this crate, for f16 and bf16.
    TensorCore,
    /// The fastest on this device, measured the first time a product of its kind is computed.
    Autotuned,
}

/// What a backend provides for BLAST products; every method has a plain-Burn fallback.
///
/// Tensors are `x [tokens, n]`, `u [b1, p, r]`, `s [b1, b2, r]`, `v [b2, q, r]` with `m = b1 p`, `n = b2 q`.
/// Every method panics if its operands do not fit each other.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    LibTorch: cfg(feature = "tch"),
    Remote: cfg(feature = "remote"),
    Cube: cfg(feature = "cube"),
    Fusion: cfg(feature = "fusion"),
)]
pub trait BlastBackend: ActivationBackend {
    /// The whole product, `y [tokens, m]`, and what follows.
    #[fusion(meta = |x, u, s, v, epilogue, strategy| {
        let _ = strategy;
        let y = shapes::product([&x.shape, &u.shape, &s.shape, &v.shape]);
        epilogue.check(&y, x.dtype);
        crate::fusion::like(x, y)
    })]
    fn blast_forward(
        x: FloatTensor<Self>,
        u: FloatTensor<Self>,
        s: FloatTensor<Self>,
        v: FloatTensor<Self>,
        #[extension_type] epilogue: EpilogueTensors<Self>,
        strategy: BlastStrategy,
    ) -> FloatTensor<Self> {
        let _ = strategy;
        reference::forward::<Self>(x, u, s, v, epilogue).0
    }

    /// The whole product together with the projections `z [b2, tokens, r]` that the backward pass needs.
    #[fusion(meta = |x, u, s, v, bias, strategy| {
        let _ = strategy;
        let y = shapes::product([&x.shape, &u.shape, &s.shape, &v.shape]);
        bias.check_bias(y[1], x.dtype);
        (crate::fusion::like(x, y), crate::fusion::like(x, shapes::projection([&x.shape, &v.shape])))
    })]
    fn blast_forward_saving(
        x: FloatTensor<Self>,
        u: FloatTensor<Self>,
        s: FloatTensor<Self>,
        v: FloatTensor<Self>,
        #[extension_type] bias: OptionalTensor<Self>,
        strategy: BlastStrategy,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let _ = strategy;
        reference::forward::<Self>(x, u, s, v, bias.into())
    }

    /// `z_j = x_j F_j`: `x [tokens, b q]`, `factor [b, q, r]` → `[b, tokens, r]`.
    #[fusion(dtype = x, shape = shapes::projection([x, factor]))]
    fn blast_project(x: FloatTensor<Self>, factor: FloatTensor<Self>, strategy: BlastStrategy) -> FloatTensor<Self> {
        let _ = strategy;
        reference::project::<Self>(x, factor)
    }

    /// `t_i = Σ_j s_ij ∘ z_j`: `z [b2, tokens, r]`, `s [b1, b2, r]` → `[b1, tokens, r]`.
    #[fusion(dtype = z, shape = shapes::coupling([z, s]))]
    fn blast_couple(z: FloatTensor<Self>, s: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::couple::<Self>(z, s)
    }

    /// `y_i = t_i F_iᵀ`: `t [b, tokens, r]`, `factor [b, p, r]` → `[tokens, b p]`.
    #[fusion(dtype = t, shape = shapes::expansion([t, factor]))]
    fn blast_expand(t: FloatTensor<Self>, factor: FloatTensor<Self>, strategy: BlastStrategy) -> FloatTensor<Self> {
        let _ = strategy;
        reference::expand::<Self>(t, factor)
    }

    /// Gradient of the coupling, `ds_ij = Σ_tokens dt_i ∘ z_j`: `[b1, tokens, r]`, `[b2, tokens, r]` → `[b1, b2, r]`.
    #[fusion(dtype = z, shape = shapes::coupling_gradient([t_grad, z]))]
    fn blast_coupling_gradient(t_grad: FloatTensor<Self>, z: FloatTensor<Self>) -> FloatTensor<Self> {
        reference::coupling_gradient::<Self>(t_grad, z)
    }

    /// Both gradients that pass through the coupling: `dz_j = Σ_i s_ij ∘ dt_i` and `ds_ij = Σ_tokens dt_i ∘ z_j`, for
    /// `dt [b1, tokens, r]`, `z [b2, tokens, r]` and `s [b1, b2, r]`.
    #[fusion(meta = |t_grad, z, s| {
        (z.clone(), crate::fusion::like(z, shapes::coupling_backward([&t_grad.shape, &z.shape, &s.shape])))
    })]
    fn blast_coupling_backward(
        t_grad: FloatTensor<Self>,
        z: FloatTensor<Self>,
        s: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        check(shapes::coupling_backward, [&t_grad, &z, &s]);
        let z_grad = Self::blast_couple(t_grad.clone(), Self::float_swap_dims(s, 0, 1));
        (z_grad, Self::blast_coupling_gradient(t_grad, z))
    }

    /// Gradient of a factor, `dF_j = x_jᵀ z_j`: `x [tokens, b q]`, `z [b, tokens, r]` → `[b, q, r]`.
    #[fusion(dtype = z, shape = shapes::factor_gradient([x, z]))]
    fn blast_factor_gradient(x: FloatTensor<Self>, z: FloatTensor<Self>, strategy: BlastStrategy) -> FloatTensor<Self> {
        let _ = strategy;
        reference::factor_gradient::<Self>(x, z)
    }

    /// The gradients of `x`, `u`, `s` and `v` at once, from the product's operands, its projections `z [b2, tokens, r]` and
    /// `dy [tokens, m]`.
    ///
    /// The fallback runs the stages above. A backend can instead share intermediates between stages.
    #[fusion(default)]
    #[allow(clippy::too_many_arguments)]
    fn blast_gradients(
        x: FloatTensor<Self>,
        u: FloatTensor<Self>,
        s: FloatTensor<Self>,
        v: FloatTensor<Self>,
        z: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        strategy: BlastStrategy,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        backward::staged_gradients::<Self>(x, u, s, v, z, dy, strategy)
    }
}

/// Multiplies by a BLAST matrix: `y = x Wᵀ + bias`, where block `(i, j)` of `W` is `U_i diag(s_ij) V_jᵀ`, or whatever else the
/// [`Epilogue`] says follows the product.
///
/// Uses the fastest strategy of the backend; [`blast_linear_with`] lets the caller choose.
///
/// # Shapes
///
/// - x: `[.., n]`, with at least one axis
/// - u: `[b1, m / b1, r]`
/// - s: `[b1, b2, r]`
/// - v: `[b2, n / b2, r]`
/// - epilogue: a bias `[m]`, `None`, or an [`Epilogue`]
/// - output: `[.., m]`
///
/// # Panics
///
/// If a shape does not fit the others, or the tensors' dtypes differ; the message names the tensor.
///
/// # Example
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_structured_ops::blast_linear;
///
/// let device = Device::flex();
/// let normal = Distribution::Normal(0.0, 1.0);
/// let x = Tensor::<2>::random([5, 12], normal, &device);
/// let u = Tensor::<3>::random([2, 10, 4], normal, &device); // m = 20
/// let s = Tensor::<3>::random([2, 3, 4], normal, &device);
/// let v = Tensor::<3>::random([3, 4, 4], normal, &device); // n = 12
/// assert_eq!(blast_linear(x, u, s, v, None).dims(), [5, 20]);
/// ```
pub fn blast_linear<const D: usize>(
    x: Tensor<D>,
    u: Tensor<3>,
    s: Tensor<3>,
    v: Tensor<3>,
    epilogue: impl Into<Epilogue<D>>,
) -> Tensor<D> {
    blast_linear_with(x, u, s, v, epilogue, BlastStrategy::Auto)
}

/// [`blast_linear`] by a chosen [`BlastStrategy`], forward and backward.
///
/// # Panics
///
/// As [`blast_linear`].
pub fn blast_linear_with<const D: usize>(
    x: Tensor<D>,
    u: Tensor<3>,
    s: Tensor<3>,
    v: Tensor<3>,
    epilogue: impl Into<Epilogue<D>>,
    strategy: BlastStrategy,
) -> Tensor<D> {
    let (mut shape, epilogue) = (x.shape(), epilogue.into());
    check_operands(shape[D - 1], &u, &s, &v);
    for (name, dtype) in [("u", u.dtype()), ("s", s.dtype()), ("v", v.dtype())] {
        assert_eq!(dtype, x.dtype(), "blast: `{name}` and `x` must have the same dtype");
    }
    let [b1, p, _] = u.dims();
    let empty = shape.num_elements() == 0;
    shape[D - 1] = b1 * p;
    epilogue.check("blast", &shape, x.dtype());
    if empty {
        return empty_product(x, b1 * p, epilogue);
    }
    let y = <Dispatch as BlastBackend>::blast_forward(
        rows(x).into_dispatch(),
        u.into_dispatch(),
        s.into_dispatch(),
        v.into_dispatch(),
        epilogue.into_tensors(),
        strategy,
    );
    Tensor::<2>::from_dispatch(y).reshape(shape)
}

/// The dense matrix `W [m, n]` that the factors stand for, block `(i, j)` being `U_i diag(s_ij) V_jᵀ`.
///
/// # Shapes
///
/// - u: `[b1, m / b1, r]`, s: `[b1, b2, r]`, v: `[b2, n / b2, r]`
/// - output: `[m, n]`
///
/// # Panics
///
/// If the shapes do not fit each other.
pub fn blast_to_dense(u: Tensor<3>, s: Tensor<3>, v: Tensor<3>) -> Tensor<2> {
    let [b1, p, r] = u.dims();
    let [b2, q, _] = v.dims();
    check_operands(b2 * q, &u, &s, &v);
    // Row block i of W is U_i [s_i1 V_1; …; s_ib2 V_b2]ᵀ: one GEMM per row block, with no more than W itself in memory.
    let scaled = s.reshape([b1, b2, 1, r]) * v.reshape([1, b2, q, r]);
    u.matmul(scaled.reshape([b1, b2 * q, r]).swap_dims(1, 2)).reshape([b1 * p, b2 * q])
}

fn check_operands(n: usize, u: &Tensor<3>, s: &Tensor<3>, v: &Tensor<3>) {
    let [b1, _, r] = u.dims();
    let [b2, q, v_rank] = v.dims();
    assert_eq!(v_rank, r, "blast: `u` has rank {r} (its last axis), so `v` must have the same, got {:?}", v.dims());
    assert_eq!(
        s.dims(),
        [b1, b2, r],
        "blast: `s` must be [b1, b2, r] = [{b1}, {b2}, {r}] as `u` {:?} and `v` {:?} say, got {:?}",
        u.dims(),
        v.dims(),
        s.dims()
    );
    assert_eq!(
        n,
        b2 * q,
        "blast: the last axis of `x` must be n = b2 · n/b2 = {} as `v` {:?} says, got {n}",
        b2 * q,
        v.dims()
    );
}

/// The sizes of one product, read off its operands.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    tokens: usize,
    /// Row blocks.
    b1: usize,
    /// Column blocks.
    b2: usize,
    /// Rows of a block, `m / b1`.
    p: usize,
    /// Columns of a block, `n / b2`.
    q: usize,
    /// Rank.
    r: usize,
}

impl Sizes {
    /// # Panics
    ///
    /// If the operands do not fit each other: kernels rely on it.
    fn new(x: &impl TensorMetadata, u: &impl TensorMetadata, v: &impl TensorMetadata) -> Self {
        let (x, u, v) = (x.shape(), u.shape(), v.shape());
        assert!(x[1] == v[0] * v[1] && u[2] == v[2], "blast: x {x:?}, u {u:?} and v {v:?} do not fit");
        Self { tokens: x[0], b1: u[0], b2: v[0], p: u[1], q: v[1], r: u[2] }
    }

    fn is_empty(&self) -> bool {
        self.tokens == 0 || self.b1 * self.p == 0 || self.b2 * self.q == 0 || self.r == 0
    }
}
