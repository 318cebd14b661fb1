//! In what metric the distance to a matrix is measured.
//!
//! A layer's error matters as far as its inputs reach it: with inputs of second moment `C = E[x xᵀ]`, the expected squared error
//! of the output is `‖(W − Ŵ) C^½‖²` (the objective of activation-aware truncation; Wang et al., SVD-LLM, 2024).

use burn::tensor::Tensor;
use burn_structured_ops::spd::{SpdError, try_spd_solve};
use std::ops::Range;

/// A second moment, with what the least-squares problems need of it.
#[derive(Debug)]
pub(crate) struct Metric {
    /// `C`, `[k, n, n]`.
    pub moment: Tensor<3>,
    /// The inverse of every block on the diagonal, `[k, q, q]` each.
    inverse_blocks: Vec<Tensor<3>>,
    q: usize,
}

impl Metric {
    /// The metric of a positive definite `moment [k, n, n]`, for `b2` column blocks.
    ///
    /// # Errors
    ///
    /// If it is not positive definite.
    pub fn new(moment: Tensor<3>, b2: usize) -> Result<Self, SpdError> {
        let [k, n, _] = moment.dims();
        let q = n / b2;
        let identity = Tensor::<2>::eye(q, &moment.device()).cast(moment.dtype()).unsqueeze::<3>().expand([k, q, q]);
        let inverse_blocks = (0..b2)
            .map(|j| try_spd_solve(moment.clone().narrow(1, j * q, q).narrow(2, j * q, q), identity.clone()))
            .collect::<Result<_, _>>()?;
        Ok(Self { moment, inverse_blocks, q })
    }

    /// The moments of some of the matrices.
    pub fn of(&self, matrices: &Range<usize>) -> Tensor<3> {
        self.moment.clone().slice([matrices.clone()])
    }

    /// `C_jj`.
    pub fn block(&self, j: usize) -> Tensor<3> {
        self.moment.clone().narrow(1, j * self.q, self.q).narrow(2, j * self.q, self.q)
    }

    /// `C_jj⁻¹`.
    pub fn inverse_block(&self, j: usize) -> Tensor<3> {
        self.inverse_blocks[j].clone()
    }
}
