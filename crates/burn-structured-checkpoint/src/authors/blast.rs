//! BLAST layers as the authors' model and factorizer save them.

use crate::{Checkpoint, CheckpointError, LayerEntry, Orientation, StateDict, TensorData, TensorInfo};
use std::borrow::Cow;

/// The order of the axes of the couplings `D`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CouplingOrder {
    /// `[b1, b2, r]`, as in the authors' model.
    BlocksFirst,
    /// `[r, b1, b2]`, as their factorizer saves them.
    RankFirst,
}

/// The BLAST layers of a checkpoint in the authors' layout, converted:
///
/// ```text
/// B [b1, d_output/b1, r] = u      C [b2, r, d_input/b2] = vᵀ      D [b1, b2, r] or [r, b1, b2] = s
/// ```
///
/// Block `(i, j)` of the weight is `B_i diag(D_ij) C_j`. A layer is a name with all three tensors; biases and all other tensors
/// stay as they are, and so do the number types. The order of `D` follows from its shape unless `b1 = b2 = r`; give it then.
///
/// # Errors
///
/// If the shapes of a layer do not fit each other, or leave the order open.
pub fn blast(checkpoint: &Checkpoint, order: Option<CouplingOrder>) -> Result<StateDict<'_>, CheckpointError> {
    let mut import = StateDict::default();
    for tensor in checkpoint.tensors() {
        let layer = tensor.name.rsplit_once('.').filter(|(_, factor)| matches!(*factor, "B" | "C" | "D"));
        let factors = layer.and_then(|(layer, _)| Factors::find(checkpoint, layer));
        match (layer, factors) {
            (Some((layer, "B")), Some(factors)) => {
                let entry = factors.convert(checkpoint, layer, order, &mut import.tensors)?;
                import.layers.insert(layer.to_string(), entry);
            }
            // Converted with its `B`.
            (Some(_), Some(_)) => {}
            _ => import.tensors.push(TensorData {
                name: tensor.name.clone(),
                dtype: tensor.dtype,
                shape: tensor.shape.clone(),
                bytes: Cow::Borrowed(checkpoint.bytes(&tensor.name)?),
            }),
        }
    }
    Ok(import)
}

struct Factors<'a> {
    b: &'a TensorInfo,
    c: &'a TensorInfo,
    d: &'a TensorInfo,
}

impl<'a> Factors<'a> {
    /// The three tensors of a layer, if they are there.
    fn find(checkpoint: &'a Checkpoint, layer: &str) -> Option<Self> {
        let factor = |name: &str| checkpoint.tensor(&format!("{layer}.{name}"));
        Some(Self { b: factor("B")?, c: factor("C")?, d: factor("D")? })
    }

    fn convert(
        &self,
        checkpoint: &Checkpoint,
        layer: &str,
        order: Option<CouplingOrder>,
        tensors: &mut Vec<TensorData<'_>>,
    ) -> Result<LayerEntry, CheckpointError> {
        let misfit = |tensor: &TensorInfo, expected: String| CheckpointError::TensorShape {
            path: checkpoint.path().to_owned(),
            name: tensor.name.clone(),
            expected,
            found: tensor.shape.clone(),
        };
        for tensor in [self.b, self.c, self.d] {
            if tensor.shape.contains(&0) {
                return Err(misfit(tensor, "a shape without 0".into()));
            }
        }
        let &[b1, p, r] = &*self.b.shape else { return Err(misfit(self.b, "[b1, d_output/b1, r]".into())) };
        let &[b2, c_rank, q] = &*self.c.shape else { return Err(misfit(self.c, "[b2, r, d_input/b2]".into())) };
        if c_rank != r {
            return Err(misfit(self.c, format!("[b2, {r}, d_input/b2], the rank of B")));
        }
        let fits = |order| self.d.shape == couplings(order, b1, b2, r);
        let order = match (order, fits(CouplingOrder::BlocksFirst), fits(CouplingOrder::RankFirst)) {
            (Some(order), ..) if fits(order) => order,
            (None, true, false) => CouplingOrder::BlocksFirst,
            (None, false, true) => CouplingOrder::RankFirst,
            (None, true, true) if b1 * b2 * r <= 1 => CouplingOrder::BlocksFirst,
            (None, true, true) => {
                let reason = "has couplings D whose order cannot be told from their shape; say which it is".into();
                return Err(CheckpointError::Layer { path: checkpoint.path().to_owned(), layer: layer.into(), reason });
            }
            (Some(order), ..) => return Err(misfit(self.d, format!("{:?}", couplings(order, b1, b2, r)))),
            (None, false, false) => return Err(misfit(self.d, format!("[{b1}, {b2}, {r}] or [{r}, {b1}, {b2}]"))),
        };
        let s = match order {
            CouplingOrder::BlocksFirst => ([b1, b2, r], [0, 1, 2]),
            CouplingOrder::RankFirst => ([r, b1, b2], [1, 2, 0]),
        };
        for (name, tensor, (shape, axes)) in
            [("u", self.b, ([b1, p, r], [0, 1, 2])), ("v", self.c, ([b2, r, q], [0, 2, 1])), ("s", self.d, s)]
        {
            let size = tensor.dtype.bitsize() / 8;
            let bytes = permute(checkpoint.bytes(&tensor.name)?, size, shape, axes);
            tensors.push(TensorData {
                name: format!("{layer}.{name}"),
                dtype: tensor.dtype,
                shape: axes.map(|axis| shape[axis]).to_vec(),
                bytes: Cow::Owned(bytes),
            });
        }
        Ok(LayerEntry {
            int8: false,
            structure: format!("blast:b={b1}x{b2},r={r}"),
            d_input: b2 * q,
            d_output: b1 * p,
            orientation: Orientation::OutIn,
            dtype: self.b.dtype.to_string(),
            relative_error: None,
        })
    }
}

fn couplings(order: CouplingOrder, b1: usize, b2: usize, r: usize) -> [usize; 3] {
    match order {
        CouplingOrder::BlocksFirst => [b1, b2, r],
        CouplingOrder::RankFirst => [r, b1, b2],
    }
}

/// Elements of `size` bytes with their axes in another order: axis `i` of the result is axis `axes[i]` of `shape`.
fn permute(bytes: &[u8], size: usize, shape: [usize; 3], axes: [usize; 3]) -> Vec<u8> {
    let strides = [shape[1] * shape[2], shape[2], 1];
    let [n0, n1, n2] = axes.map(|axis| shape[axis]);
    let [s0, s1, s2] = axes.map(|axis| strides[axis]);
    let mut permuted = Vec::with_capacity(bytes.len());
    for i0 in 0..n0 {
        for i1 in 0..n1 {
            for i2 in 0..n2 {
                let at = (i0 * s0 + i1 * s1 + i2 * s2) * size;
                permuted.extend_from_slice(&bytes[at..at + size]);
            }
        }
    }
    permuted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dtype, Manifest, write};
    use std::collections::BTreeMap;

    fn tensor(name: &str, shape: &[usize]) -> TensorData<'static> {
        let count: usize = shape.iter().product();
        let bytes: Vec<u8> = (0..count).flat_map(|value| (value as f32).to_le_bytes()).collect();
        TensorData { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec(), bytes: bytes.into() }
    }

    fn checkpoint(tensors: &[TensorData<'_>]) -> Checkpoint {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write(&path, tensors, &BTreeMap::new()).unwrap();
        Checkpoint::read(path).unwrap()
    }

    #[test]
    fn blast_converts_both_orders_of_d() {
        // b1 = 2, b2 = 3, r = 4, 10 → 21.
        let with_d = |shape: &[usize]| {
            let (b, c) = (tensor("fc.B", &[2, 5, 4]), tensor("fc.C", &[3, 4, 7]));
            checkpoint(&[b, c, tensor("fc.D", shape), tensor("fc.bias", &[10]), tensor("x.B", &[2])])
        };
        for (shape, at) in [([2, 3, 4], [1usize, 2, 3]), ([4, 2, 3], [3, 1, 2])] {
            let file = with_d(&shape);
            let StateDict { tensors, layers } = blast(&file, None).unwrap();
            let entry = &layers["fc"];
            assert_eq!((entry.structure.as_str(), entry.d_input, entry.d_output), ("blast:b=2x3,r=4", 21, 10));
            let names: Vec<(&str, &[usize])> = tensors.iter().map(|t| (t.name.as_str(), &*t.shape)).collect();
            let expected: [(&str, &[usize]); 5] =
                [("fc.u", &[2, 5, 4]), ("fc.v", &[3, 7, 4]), ("fc.s", &[2, 3, 4]), ("fc.bias", &[10]), ("x.B", &[2])];
            assert_eq!(names, expected);
            let mut metadata = BTreeMap::new();
            Manifest { layers, ..Manifest::new("test", 0) }.insert_into(&mut metadata);
            let again = checkpoint(&tensors);
            // s[1, 2, 3] and v[2, 6, 1] = C[2, 1, 6].
            let coupling = (at[0] * shape[1] + at[1]) * shape[2] + at[2];
            assert_eq!(again.values("fc.s").unwrap()[(3 + 2) * 4 + 3], coupling as f32);
            assert_eq!(again.values("fc.v").unwrap()[(2 * 7 + 6) * 4 + 1], ((2 * 4 + 1) * 7 + 6) as f32);
            assert_eq!(again.values("fc.u").unwrap(), file.values("fc.B").unwrap());
        }
    }

    #[test]
    fn blast_needs_the_order_where_the_shape_does_not_tell() {
        let file = checkpoint(&[tensor("fc.B", &[2, 3, 2]), tensor("fc.C", &[2, 2, 5]), tensor("fc.D", &[2, 2, 2])]);
        let message = blast(&file, None).unwrap_err().to_string();
        assert!(message.contains("the layer fc has couplings D whose order cannot be told"), "{message}");
        let values = |order| {
            let import = blast(&file, Some(order)).unwrap();
            checkpoint(&import.tensors).values("fc.s").unwrap()
        };
        assert_eq!(values(CouplingOrder::BlocksFirst), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        assert_eq!(values(CouplingOrder::RankFirst), [0.0, 4.0, 1.0, 5.0, 2.0, 6.0, 3.0, 7.0]);
    }

    #[test]
    fn blast_shapes_must_fit_each_other() {
        for (b, c, d, expected) in [
            (&[2, 5][..], &[3, 4, 7][..], &[2, 3, 4], "fc.B has shape [2, 5] instead of [b1, d_output/b1, r]"),
            (&[2, 5, 4], &[3, 4], &[2, 3, 4], "fc.C has shape [3, 4] instead of [b2, r, d_input/b2]"),
            (&[2, 5, 3], &[3, 4, 7], &[2, 3, 4], "fc.C has shape [3, 4, 7] instead of [b2, 3, d_input/b2]"),
            (&[2, 5, 4], &[3, 4, 7], &[3, 2, 4], "fc.D has shape [3, 2, 4] instead of [2, 3, 4] or [4, 2, 3]"),
        ] {
            let file = checkpoint(&[tensor("fc.B", b), tensor("fc.C", c), tensor("fc.D", d)]);
            let message = blast(&file, None).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
