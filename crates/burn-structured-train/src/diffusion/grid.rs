//! Images as a PNG.

use crate::training::TrainingError;
use burn::tensor::Tensor;
use burn_structured_checkpoint::files::replace;
use image::{ImageFormat, Rgb, RgbImage};
use std::io::Cursor;
use std::path::Path;

/// Pixels between images, and between grids.
const GAP: [u32; 2] = [2, 12];

/// Images in rows and columns on white.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageGrid(RgbImage);

impl ImageGrid {
    /// Images `[count, channels, height, width]` with pixels in `[−1, 1]`, row by row; of one channel they are grey, of others the first three
    /// channels are red, green and blue.
    ///
    /// # Panics
    ///
    /// If there are two channels or no column.
    pub fn new(images: Tensor<4>, columns: usize) -> Self {
        let [count, channels, height, width] = images.dims();
        assert!(channels != 2 && columns > 0, "images have one channel or three, in at least one column");
        let rows = count.div_ceil(columns);
        let [step_x, step_y] = [width as u32 + GAP[0], height as u32 + GAP[0]];
        let size = [columns.min(count) as u32 * step_x, rows as u32 * step_y];
        let mut grid = RgbImage::from_pixel((size[0]).max(1), size[1].max(1), Rgb([255; 3]));
        let values: Vec<f32> = images.into_data().iter::<f32>().collect();
        let byte = |value: f32| ((value + 1.0) * 127.5).round().clamp(0.0, 255.0) as u8;
        for (index, image) in values.chunks(channels * height * width).enumerate() {
            let [left, top] = [(index % columns) as u32 * step_x, (index / columns) as u32 * step_y];
            for at in 0..height * width {
                let pixel = |channel: usize| byte(image[channel.min(channels - 1) * height * width + at]);
                let [x, y] = [left + (at % width) as u32, top + (at / width) as u32];
                grid.put_pixel(x, y, Rgb([0, 1, 2].map(pixel)));
            }
        }
        Self(grid)
    }

    /// Grids from left to right.
    pub fn concat_horizontally(grids: &[Self]) -> Self {
        let width = grids.iter().map(|grid| grid.0.width() + GAP[1]).sum::<u32>().saturating_sub(GAP[1]);
        let height = grids.iter().map(|grid| grid.0.height()).max().unwrap_or(0);
        let mut all = RgbImage::from_pixel(width.max(1), height.max(1), Rgb([255; 3]));
        let mut left = 0;
        for Self(grid) in grids {
            image::imageops::replace(&mut all, grid, i64::from(left), 0);
            left += grid.width() + GAP[1];
        }
        Self(all)
    }

    /// Writes a PNG.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TrainingError> {
        let mut bytes = Cursor::new(Vec::new());
        self.0.write_to(&mut bytes, ImageFormat::Png).map_err(|error| TrainingError::file("encode", path, error))?;
        replace(path, bytes.get_ref()).map_err(|error| TrainingError::file("write", path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    #[test]
    fn pixels_land_in_their_cell() {
        let values: Vec<f32> = vec![-1.0, 1.0, 0.0];
        let images = Tensor::<4>::from_data(TensorData::new(values, [3, 1, 1, 1]), &Device::flex());
        let ImageGrid(grid) = ImageGrid::new(images, 2);
        assert_eq!((grid.width(), grid.height()), (6, 6));
        assert_eq!([grid[(0, 0)], grid[(3, 0)], grid[(0, 3)]], [Rgb([0; 3]), Rgb([255; 3]), Rgb([128; 3])]);
    }

    #[test]
    fn saved_grids_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grid.png");
        let red = Tensor::<4>::from_data([[[[1.0f32]], [[-1.0]], [[-1.0]]]], &Device::flex());
        let grid = ImageGrid::new(red, 5);
        ImageGrid::concat_horizontally(&[grid.clone(), grid]).save(&path).unwrap();
        let read = image::open(&path).unwrap().to_rgb8();
        assert_eq!((read.width(), read.height()), (2 * 3 + 12, 3));
        assert_eq!([read[(0, 0)], read[(15, 0)]], [Rgb([255, 0, 0]); 2]);
        let message =
            ImageGrid::concat_horizontally(&[]).save(Path::new("/no/such/folder/x.png")).unwrap_err().to_string();
        assert!(message.contains("/no/such/folder/x.png"), "{message}");
    }
}
