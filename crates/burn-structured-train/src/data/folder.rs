//! Images in one folder per class.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use image::imageops::FilterType;
use image::{ImageReader, RgbImage};

use super::{DataError, ImageSet, Images, Normalization};

/// The largest side an image may be resized to: beyond it, an in-memory set is out of the question.
const MAX_SIDE: u32 = 4096;

/// Accepted file extensions, compared without case.
const EXTENSIONS: [&str; 5] = ["png", "jpg", "jpeg", "bmp", "webp"];

/// Reads `root/train/<class>/` and `root/test/<class>/` (or `root/val/<class>/`) into RGB images of `size` x `size`
/// pixels.
///
/// Labels follow the alphabetical order of the training class folders, images that of their names. Pictures are
/// stretched to the square; files of other types and hidden files are skipped.
///
/// # Errors
///
/// [`DataError`] naming the folder or file at fault: a missing split, no class, a class without images, a test class
/// that is not trained, a picture that does not decode, or a `size` outside 1..=4096.
pub fn load(root: &Path, size: usize) -> Result<ImageSet, DataError> {
    let side =
        u32::try_from(size).ok().filter(|side| (1..=MAX_SIDE).contains(side)).ok_or_else(|| DataError::Setting {
            name: "image size",
            value: size.to_string(),
            expected: "give the pixels a side, from 1 to 4096 (32 or 224 are usual)",
        })?;
    let train_root = split(root, &["train"])?;
    let test_root = split(root, &["test", "val"])?;
    let train = class_folders(&train_root)?;
    let test = class_folders(&test_root)?;
    let classes: Vec<String> = train.keys().cloned().collect();
    if let Some((_, path)) = test.iter().find(|(class, _)| !train.contains_key(*class)) {
        return Err(DataError::UnknownClass { path: path.clone(), train: train_root });
    }
    let train = read_classes(&train, &classes, side)?;
    Ok(ImageSet {
        name: root.file_name().map_or_else(|| "folder".to_owned(), |name| name.to_string_lossy().into_owned()),
        channels: 3,
        height: size,
        width: size,
        normalization: Normalization::measure(train.pixels(), 3, size * size),
        train,
        test: read_classes(&test, &classes, side)?,
        classes,
        synthetic: false,
    })
}

/// The first of `names` that is a folder below `root`.
fn split(root: &Path, names: &[&str]) -> Result<PathBuf, DataError> {
    let candidates = names.iter().map(|name| root.join(name));
    candidates.into_iter().find(|path| path.is_dir()).ok_or_else(|| DataError::NotADataset {
        path: root.to_owned(),
        wanted: format!("a folder {}", names.join(" or ")),
        hint: "sort the images into train/<class>/ and test/<class>/".to_owned(),
    })
}

/// The class folders below a split, by name.
fn class_folders(split: &Path) -> Result<BTreeMap<String, PathBuf>, DataError> {
    let folders: BTreeMap<String, PathBuf> = visible(split)?.into_iter().filter(|(_, path)| path.is_dir()).collect();
    if folders.is_empty() {
        return Err(DataError::NotADataset {
            path: split.to_owned(),
            wanted: "a folder per class".to_owned(),
            hint: "sort the images into train/<class>/ and test/<class>/".to_owned(),
        });
    }
    Ok(folders)
}

/// The entries of a folder, except hidden ones, sorted by name.
fn visible(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let io = |source| DataError::io("list", folder, source);
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            entries.push((name, entry.path()));
        }
    }
    entries.sort();
    Ok(entries)
}

fn read_classes(folders: &BTreeMap<String, PathBuf>, classes: &[String], side: u32) -> Result<Images, DataError> {
    let (mut planes, mut labels) = (Vec::new(), Vec::new());
    for (label, class) in classes.iter().enumerate() {
        let Some(folder) = folders.get(class) else { continue };
        let files: Vec<PathBuf> =
            visible(folder)?.into_iter().map(|(_, path)| path).filter(|path| is_image(path)).collect();
        if files.is_empty() {
            return Err(DataError::EmptyClass { path: folder.clone(), extensions: EXTENSIONS.join(", ") });
        }
        for file in files {
            append_planes(&read_image(&file, side)?, &mut planes);
            labels.push(label);
        }
    }
    Ok(Images::new(planes, labels, 3 * side as usize * side as usize))
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str())) && path.is_file()
}

/// Decodes by content rather than by extension, since extensions are often wrong.
fn read_image(path: &Path, side: u32) -> Result<RgbImage, DataError> {
    let io = |source| DataError::io("read", path, source);
    let reader = ImageReader::open(path).map_err(io)?.with_guessed_format().map_err(io)?;
    let image = reader.decode().map_err(|source| DataError::Image { path: path.to_owned(), source })?.into_rgb8();
    if image.dimensions() == (side, side) {
        return Ok(image);
    }
    Ok(image::imageops::resize(&image, side, side, FilterType::Triangle))
}

/// Appends interleaved RGB as a red, a green and a blue plane.
fn append_planes(image: &RgbImage, planes: &mut Vec<u8>) {
    for channel in 0..3 {
        planes.extend(image.pixels().map(|pixel| pixel[channel]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn picture(path: &Path, colour: [u8; 3]) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("temporary folder");
        RgbImage::from_pixel(5, 3, Rgb(colour)).save(path).expect("temporary file");
    }

    /// Two classes; `b.png` is written before `a.bmp`, so that creation order and name order differ.
    fn sorted_pictures() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temporary folder");
        picture(&dir.path().join("train/zebra/x.png"), [1, 2, 3]);
        picture(&dir.path().join("train/ape/b.png"), [20, 20, 20]);
        picture(&dir.path().join("train/ape/a.bmp"), [10, 10, 10]);
        picture(&dir.path().join("val/zebra/y.PNG"), [7, 8, 9]);
        dir
    }

    fn message(dir: &tempfile::TempDir) -> String {
        load(dir.path(), 2).expect_err("the set is broken").to_string()
    }

    #[test]
    fn classes_and_files_are_sorted_by_name() {
        let dir = sorted_pictures();
        let set = load(dir.path(), 2).expect("valid set");
        assert_eq!(set.classes, ["ape", "zebra"]);
        assert_eq!(set.train.labels(), [0, 0, 1]);
        assert_eq!(set.test.labels(), [1]);
        assert_eq!([set.train.pixels()[0], set.train.pixels()[12]], [10, 20]);
        assert_eq!(set.test.pixels(), [7, 7, 7, 7, 8, 8, 8, 8, 9, 9, 9, 9], "planes, not interleaved pixels");
        assert_eq!((set.height, set.width, set.channels), (2, 2, 3));
    }

    #[test]
    fn hidden_and_other_files_are_skipped() {
        let dir = sorted_pictures();
        fs::write(dir.path().join("train/ape/.hidden.png"), b"junk").expect("temporary file");
        fs::write(dir.path().join("train/ape/notes.txt"), b"junk").expect("temporary file");
        fs::create_dir(dir.path().join("train/.cache")).expect("temporary folder");
        assert_eq!(load(dir.path(), 2).expect("valid set").train.len(), 3);
    }

    #[test]
    fn undecodable_image_is_named() {
        let dir = sorted_pictures();
        fs::write(dir.path().join("train/ape/broken.jpg"), b"junk").expect("temporary file");
        assert!(message(&dir).contains("broken.jpg"), "{}", message(&dir));
    }

    #[test]
    fn class_without_images_is_named() {
        let dir = sorted_pictures();
        fs::create_dir(dir.path().join("train/empty")).expect("temporary folder");
        assert!(message(&dir).contains("empty has no image"), "{}", message(&dir));
    }

    #[test]
    fn untrained_test_class_is_named() {
        let dir = sorted_pictures();
        picture(&dir.path().join("val/lion/x.png"), [0, 0, 0]);
        assert!(message(&dir).contains("lion has no counterpart"), "{}", message(&dir));
    }

    #[test]
    fn missing_split_error_shows_the_layout() {
        let dir = sorted_pictures();
        fs::rename(dir.path().join("val"), dir.path().join("validation")).expect("temporary folder");
        assert!(message(&dir).contains("test or val"), "{}", message(&dir));
        let nowhere = load(&dir.path().join("nowhere"), 2).expect_err("no such folder").to_string();
        assert!(nowhere.contains("nowhere") && nowhere.contains("train/<class>/"), "{nowhere}");
    }

    #[test]
    fn split_without_classes_is_named() {
        let dir = sorted_pictures();
        fs::create_dir(dir.path().join("test")).expect("temporary folder");
        assert!(message(&dir).contains("a folder per class"), "{}", message(&dir));
    }

    #[test]
    fn size_out_of_range_is_an_error() {
        assert!(load(sorted_pictures().path(), 0).expect_err("no pixels").to_string().contains("image size = 0"));
    }
}
