//! Truncated singular value decompositions on the host, in f64: the closed-form approximations rest on them.

use crate::StructureError;
use burn::tensor::{DType, Device, Tensor, TensorData};
use faer::{Mat, MatRef};

/// The best factors of a rank: `matrix ≈ left · rightᵀ`, the singular values shared evenly between both.
pub(crate) struct Truncated {
    /// `[rows, rank]`.
    pub left: Mat<f64>,
    /// `[columns, rank]`.
    pub right: Mat<f64>,
}

impl Truncated {
    /// As layers store them: the input factor `[columns, rank]`, and the output factor transposed, `[rank, rows]`.
    pub fn to_tensors(&self, device: &Device, dtype: DType) -> [Tensor<2>; 2] {
        let (left, right, rank) = (&self.left, &self.right, self.left.ncols());
        let (rows, columns) = (left.nrows(), right.nrows());
        [
            tensor([columns, rank], |at| right[(at / rank, at % rank)], device, dtype),
            tensor([rank, rows], |at| left[(at % rows, at / rows)], device, dtype),
        ]
    }
}

/// The factors of `rank`, which may be above that of the matrix; the columns beyond it are zero.
pub(crate) fn truncated(matrix: MatRef<'_, f64>, rank: usize) -> Result<Truncated, StructureError> {
    let (rows, columns) = (matrix.nrows(), matrix.ncols());
    let svd = matrix.thin_svd().map_err(|_| StructureError::NotConverged {
        name: "singular value decomposition",
        rows,
        columns,
    })?;
    let values = svd.S().column_vector();
    let scaled = |vectors: MatRef<'_, f64>| {
        Mat::from_fn(vectors.nrows(), rank, |row, component| {
            if component < values.nrows() { vectors[(row, component)] * values[component].max(0.0).sqrt() } else { 0.0 }
        })
    };
    Ok(Truncated { left: scaled(svd.U()), right: scaled(svd.V()) })
}

/// A matrix over values that are stored row by row.
pub(crate) fn matrix(values: &[f64], rows: usize, columns: usize) -> MatRef<'_, f64> {
    MatRef::from_row_major_slice(values, rows, columns)
}

/// A tensor of `dims` whose entries, in order, are those of `entry(index)`.
pub(crate) fn tensor<const D: usize>(
    dims: [usize; D],
    entry: impl FnMut(usize) -> f64,
    device: &Device,
    dtype: DType,
) -> Tensor<D> {
    let values: Vec<f64> = (0..dims.iter().product()).map(entry).collect();
    Tensor::from_data(TensorData::new(values, dims).convert_dtype(dtype), (device, dtype))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_of_the_rank_is_its_own_approximation() {
        let (a, b) =
            (Mat::from_fn(7, 2, |i, j| (i * 3 + j * 5) as f64 % 4.0), Mat::from_fn(5, 2, |i, j| (i + j) as f64));
        let product = &a * b.transpose();
        for rank in [2, 5, 9] {
            let Truncated { left, right } = truncated(product.as_ref(), rank).unwrap();
            assert_eq!((left.ncols(), right.ncols()), (rank, rank));
            assert!((&left * right.transpose() - &product).norm_l2() < 1e-12, "rank {rank}");
        }
    }
}
