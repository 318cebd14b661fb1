//! The metric of the objective: for inputs of second moment `C = E[x xᵀ]`, the expected squared error of a layer's outputs is
//! `‖(W − A) C^½‖²` (activation-aware truncation; Wang et al., SVD-LLM, 2024).

use burn::tensor::Tensor;
use burn_structured_ops::spd::{SpdError, try_spd_solve};
use std::ops::Range;

/// A second moment, with the inverses of its diagonal blocks.
#[derive(Debug)]
pub(crate) struct Metric {
    /// `C`, `[k, n, n]`.
    pub moment: Tensor<3>,
    /// The inverse of every block on the diagonal, `[k, q, q]` each.
    inverse_blocks: Vec<Tensor<3>>,
    q: usize,
}

impl Metric {
    /// The metric of a positive definite `moment [k, n, n]`, for a grid of `b2` columns.
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

    /// `E C` for a change of the residual `E [k, m, q]` in the columns of block `j` alone: `[k, m, n]`.
    pub fn weigh_block(&self, j: usize, change: Tensor<3>) -> Tensor<3> {
        change.matmul(self.moment.clone().narrow(1, j * self.q, self.q))
    }

    /// `C_jj⁻¹`.
    pub fn inverse_block(&self, j: usize) -> Tensor<3> {
        self.inverse_blocks[j].clone()
    }
}
