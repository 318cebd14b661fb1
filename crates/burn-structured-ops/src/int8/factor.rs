//! A factor of a structured matrix as int8.

use super::MAX;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// Inputs whose products with weights sum to less than 2³¹, also with 128 added to every weight: `2¹⁶ · 127 · 255`.
pub const MAX_INPUTS: usize = 1 << 16;

/// Numbers whose largest is below this are rounded to 0: 127 divided by it would be infinite.
pub(super) const SMALLEST: f32 = 127.0 * f32::MIN_POSITIVE;

/// A factor `[groups, outputs, inputs]` as int8, with a scale for each output of each group.
#[derive(Clone, Debug)]
pub struct Int8Factor {
    /// `[groups, outputs, inputs]`, from −127 to 127. Flex holds them as I8, other devices as their default integers.
    pub values: Tensor<3, Int>,
    /// `[groups, outputs]`.
    pub scales: Tensor<2>,
}

impl Int8Factor {
    /// The nearest integers to a `factor [groups, outputs, inputs]`, with the largest absolute value of each output as 127. An output with
    /// a weight that is not finite has a scale that is not a number; one whose weights are all below 10⁻³⁶ becomes 0.
    ///
    /// # Panics
    ///
    /// If the data of the tensor cannot be read back from its device.
    pub fn quantize(factor: Tensor<3>) -> Self {
        let (device, [groups, outputs, inputs]) = (factor.device(), factor.dims());
        let factor = factor.into_data().convert::<f32>();
        let factor = factor.as_slice::<f32>().expect("it was converted to f32");
        let mut values = Vec::with_capacity(factor.len());
        let mut scales = Vec::with_capacity(groups * outputs);
        for row in (0..groups * outputs).map(|row| &factor[row * inputs..][..inputs]) {
            // A value that is not a number is none here.
            let largest = row.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let to_quanta = if largest >= SMALLEST { f32::from(MAX) / largest } else { 0.0 };
            values.extend(row.iter().map(|value| (value * to_quanta).round_ties_even() as i8));
            let is_number = row.iter().all(|value| value.is_finite());
            scales.push(if is_number { largest / f32::from(MAX) } else { f32::NAN });
        }
        Self::from_values(values, scales, [groups, outputs, inputs], &device)
    }

    /// The factor of these integers and scales, in row-major order.
    ///
    /// # Panics
    ///
    /// If there are not as many as the shape says, or one of the integers is −128.
    pub fn from_values(values: Vec<i8>, scales: Vec<f32>, shape: [usize; 3], device: &Device) -> Self {
        assert!(!values.contains(&i8::MIN), "int8: values are from −127 to 127");
        let [groups, outputs, _] = shape;
        let scales = Tensor::from_data(TensorData::new(scales, [groups, outputs]), (device, DType::F32));
        Self { values: int8_tensor(TensorData::new(values, shape), device), scales }
    }

    /// The factor `[groups, outputs, inputs]` that is multiplied by, in f32.
    pub fn dequantize(&self) -> Tensor<3> {
        self.as_float() * self.scales.clone().cast(DType::F32).unsqueeze_dim(2)
    }

    /// The integers in f32, where they are exact.
    pub(super) fn as_float(&self) -> Tensor<3> {
        self.values.clone().float().cast(DType::F32)
    }

    /// Rows and columns of the groups put side by side.
    pub(super) fn dims_joined(&self) -> [usize; 2] {
        let [groups, outputs, inputs] = self.values.dims();
        [groups * outputs, groups * inputs]
    }

    /// # Panics
    ///
    /// If the scales are not one for each output of each group, or the sums of products would not fit i32.
    pub(super) fn check(&self, name: &str) {
        let [groups, outputs, inputs] = self.values.dims();
        assert!(inputs <= MAX_INPUTS, "int8: `{name}` must have at most {MAX_INPUTS} inputs a group, not {inputs}");
        let found = self.scales.dims();
        assert_eq!(found, [groups, outputs], "int8: the scales of `{name}` must be [{groups}, {outputs}]");
    }
}

/// Integers from −127 to 127 as the values of a factor, in the type that holds them on `device`: I8 on Flex, the default integers of other
/// devices.
pub fn int8_tensor<const D: usize>(values: TensorData, device: &Device) -> Tensor<D, Int> {
    match crate::device::is_flex(device) {
        true => Tensor::from_data(values.convert::<i8>(), (device, DType::I8)),
        false => Tensor::from_data(values, device),
    }
}
