//! Images as sequences of square patches.

use burn::tensor::{Tensor, assert_shape};

/// The patches of images `[batch, channels, height, width]`, row by row and each channel by channel:
/// `[batch, tokens, channels · patch²]`.
///
/// # Panics
///
/// If the patches do not tile the images.
pub(crate) fn to_patches(images: Tensor<4>, patch: usize) -> Tensor<3> {
    let [batch, channels, height, width] = images.dims();
    let [rows, columns] = [height, width].map(|side| side / patch);
    assert!([height, width] == [rows * patch, columns * patch], "patches must tile the image");
    images.reshape([batch, channels, rows, patch, columns, patch]).permute([0, 2, 4, 1, 3, 5]).reshape([
        batch,
        rows * columns,
        channels * patch * patch,
    ])
}

/// The square images `[batch, channels, side, side]` with these patches: the inverse of [`to_patches`].
///
/// # Panics
///
/// If the patches are not those of a square of this many channels.
pub(crate) fn from_patches(patches: Tensor<3>, channels: usize, patch: usize) -> Tensor<4> {
    let [batch, tokens, d_patch] = patches.dims();
    let side = tokens.isqrt();
    assert!(side * side == tokens && d_patch == channels * patch * patch, "patches must be those of a square image");
    patches.reshape([batch, side, side, channels, patch, patch]).permute([0, 3, 1, 4, 2, 5]).reshape([
        batch,
        channels,
        side * patch,
        side * patch,
    ])
}

/// # Panics
///
/// If the images have another size or number of channels.
pub(crate) fn check_images(images: &Tensor<4>, channels: usize, image_size: usize) {
    assert_shape!(images, [_, channels, image_size, image_size]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int};

    #[test]
    fn to_patches_cuts_rows_of_patches() {
        let values = Tensor::<1, Int>::arange(0..32, &Device::flex()).float();
        let patches = to_patches(values.clone().reshape([1, 2, 4, 4]), 2);
        assert_eq!(patches.dims(), [1, 4, 8]);
        // The second patch of the first row: columns 2 and 3 of rows 0 and 1, of both channels.
        let second = patches.clone().narrow(1, 1, 1).into_data().iter::<f32>().collect::<Vec<_>>();
        assert_eq!(second, [2.0, 3.0, 6.0, 7.0, 18.0, 19.0, 22.0, 23.0]);
        let images = from_patches(patches, 2, 2).reshape([32]);
        images.into_data().assert_eq(&values.into_data(), true);
    }
}
