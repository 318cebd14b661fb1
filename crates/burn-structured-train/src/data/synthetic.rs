//! A generated image set of ten classes, for examples and tests on a machine without data or network.
//!
//! The classes differ in *form* only: position, size, tilt, colours (light on dark as well as dark on light),
//! background, clutter and noise are random. A linear classifier is therefore of little use, while a small vision
//! transformer learns the set in a few epochs.

use std::f32::consts::{FRAC_PI_4, TAU};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{ImageSet, Images, Normalization};

/// Rows and columns of an image.
const SIDE: usize = 32;
/// Smallest distance between the colour of the figure and that of the background, colours being in 0..=1.
const CONTRAST: f32 = 0.5;

/// The figure in an image; the discriminant is the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    Disc,
    Ring,
    Square,
    Triangle,
    Cross,
    HorizontalStripes,
    VerticalStripes,
    DiagonalStripes,
    Checkerboard,
    Gradient,
}

impl Figure {
    const ALL: [Self; 10] = [
        Self::Disc,
        Self::Ring,
        Self::Square,
        Self::Triangle,
        Self::Cross,
        Self::HorizontalStripes,
        Self::VerticalStripes,
        Self::DiagonalStripes,
        Self::Checkerboard,
        Self::Gradient,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Disc => "disc",
            Self::Ring => "ring",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Cross => "cross",
            Self::HorizontalStripes => "horizontal stripes",
            Self::VerticalStripes => "vertical stripes",
            Self::DiagonalStripes => "diagonal stripes",
            Self::Checkerboard => "checkerboard",
            Self::Gradient => "gradient",
        }
    }
}

/// Draws `train_per_class` training and `test_per_class` test images of 32 x 32 RGB pixels for each of the ten classes.
///
/// Classes alternate. The same `seed` gives the same images; a larger set begins with the images of a smaller one.
pub fn generate(train_per_class: usize, test_per_class: usize, seed: u64) -> ImageSet {
    let mut root = StdRng::seed_from_u64(seed);
    let mut split = |per_class| draw_split(per_class, &mut StdRng::from_rng(&mut root));
    let train = split(train_per_class);
    let test = split(test_per_class);
    ImageSet {
        name: "synthetic".to_owned(),
        classes: Figure::ALL.map(|figure| figure.name().to_owned()).to_vec(),
        channels: 3,
        height: SIDE,
        width: SIDE,
        normalization: Normalization::measure(train.pixels(), 3, SIDE * SIDE),
        train,
        test,
        synthetic: true,
    }
}

fn draw_split(per_class: usize, rng: &mut StdRng) -> Images {
    let mut pixels = Vec::with_capacity(per_class * Figure::ALL.len() * 3 * SIDE * SIDE);
    let mut labels = Vec::with_capacity(per_class * Figure::ALL.len());
    for _ in 0..per_class {
        for (label, &figure) in Figure::ALL.iter().enumerate() {
            Scene::random(figure, rng).paint(rng, &mut pixels);
            labels.push(label);
        }
    }
    Images::new(pixels, labels, 3 * SIDE * SIDE)
}

type Colour = [f32; 3];

/// The random parameters of one image, without its noise. Lengths are in pixels, colours in 0..=1.
struct Scene {
    figure: Figure,
    colour: Colour,
    centre: [f32; 2],
    /// Half the extent of a shape, or the period of a pattern.
    size: f32,
    /// Sine and cosine of the tilt.
    tilt: [f32; 2],
    /// The background fades from the first colour to the second ...
    background: [Colour; 2],
    /// ... along this unit vector.
    fade: [f32; 2],
    clutter: Clutter,
    noise: f32,
}

/// A distracting spot, of no class.
struct Clutter {
    centre: [f32; 2],
    radius: f32,
    colour: Colour,
}

impl Scene {
    fn random(figure: Figure, rng: &mut StdRng) -> Self {
        let base = random_colour(rng);
        let other = base.map(|value| (value + rng.random_range(-0.2..0.2)).clamp(0.0, 1.0));
        let tilt: f32 = match figure {
            Figure::Triangle => rng.random_range(-0.5..0.5),
            Figure::DiagonalStripes => FRAC_PI_4 * if rng.random_bool(0.5) { 1.0 } else { -1.0 },
            _ => 0.0,
        } + rng.random_range(-0.2..0.2);
        let size = match figure {
            Figure::Disc | Figure::Ring | Figure::Square | Figure::Triangle | Figure::Cross => {
                rng.random_range(6.0..11.5)
            }
            Figure::Checkerboard => rng.random_range(9.0..16.0),
            _ => rng.random_range(5.0..11.0),
        };
        let fade: f32 = rng.random_range(0.0..TAU);
        Self {
            figure,
            colour: contrasting_colour(base, rng),
            centre: [16.0 + rng.random_range(-6.0..6.0), 16.0 + rng.random_range(-6.0..6.0)],
            size,
            tilt: tilt.sin_cos().into(),
            background: [base, other],
            fade: fade.sin_cos().into(),
            clutter: Clutter {
                centre: [rng.random_range(0.0..32.0), rng.random_range(0.0..32.0)],
                radius: rng.random_range(1.5..3.0),
                colour: random_colour(rng),
            },
            noise: rng.random_range(0.02..0.12),
        }
    }

    /// Appends the image as a red, a green and a blue plane.
    fn paint(&self, rng: &mut StdRng, planes: &mut Vec<u8>) {
        let start = planes.len();
        planes.resize(start + 3 * SIDE * SIDE, 0);
        for index in 0..SIDE * SIDE {
            let point = [(index % SIDE) as f32 + 0.5, (index / SIDE) as f32 + 0.5];
            let across = self.fade[0] * (point[0] - 16.0) + self.fade[1] * (point[1] - 16.0);
            let ramp = (0.5 + across / 36.0).clamp(0.0, 1.0);
            let mut colour = blend(self.background[0], self.background[1], ramp);
            colour = blend(colour, self.clutter.colour, self.clutter.cover(point));
            colour = blend(colour, self.colour, self.cover(point, ramp));
            for (channel, value) in colour.into_iter().enumerate() {
                // The sum of two uniform numbers: noise that is mostly small, without a distribution to sample.
                let noise = self.noise * (rng.random_range(-1.0..1.0f32) + rng.random_range(-1.0..1.0f32));
                planes[start + channel * SIDE * SIDE + index] = ((value + noise).clamp(0.0, 1.0) * 255.0).round() as u8;
            }
        }
    }

    /// How much of the pixel at `point` the figure covers, in 0..=1; `ramp` goes from 0 to 1 along the fade.
    fn cover(&self, point: [f32; 2], ramp: f32) -> f32 {
        let [dx, dy] = [point[0] - self.centre[0], point[1] - self.centre[1]];
        let [sin, cos] = self.tilt;
        let [u, v] = [cos * dx + sin * dy, cos * dy - sin * dx];
        let (x, y, r) = (u.abs(), v.abs(), u.hypot(v));
        let size = self.size;
        // Shapes: signed distance to the outline in pixels, negative inside.
        let inside = |distance: f32| (0.5 - distance).clamp(0.0, 1.0);
        // Patterns: a wave of the given period, steep enough for edges about a pixel wide.
        let wave = |along: f32| (along * TAU / size).sin();
        let above = |height: f32| (0.5 + height * size / TAU).clamp(0.0, 1.0);
        match self.figure {
            Figure::Disc => inside(r - size),
            Figure::Ring => inside((r - 0.8 * size).abs() - 0.2 * size),
            Figure::Square => inside(x.max(y) - 0.85 * size),
            Figure::Triangle => inside((0.866 * x - 0.5 * v - 0.6 * size).max(v - 0.6 * size)),
            Figure::Cross => {
                let bar = 0.28 * size;
                inside((x - size).max(y - bar).min((x - bar).max(y - size)))
            }
            Figure::HorizontalStripes => above(wave(v)),
            Figure::VerticalStripes | Figure::DiagonalStripes => above(wave(u)),
            Figure::Checkerboard => above(wave(u) * wave(v)),
            Figure::Gradient => ramp,
        }
    }
}

impl Clutter {
    fn cover(&self, point: [f32; 2]) -> f32 {
        let distance = (point[0] - self.centre[0]).hypot(point[1] - self.centre[1]);
        (0.5 + self.radius - distance).clamp(0.0, 1.0)
    }
}

fn blend(from: Colour, to: Colour, share: f32) -> Colour {
    std::array::from_fn(|channel| from[channel] + share * (to[channel] - from[channel]))
}

fn random_colour(rng: &mut StdRng) -> Colour {
    std::array::from_fn(|_| rng.random())
}

/// A random colour that stands out from `base`. One exists for any base: the far corner of the colour cube is at least
/// 0.86 away.
fn contrasting_colour(base: Colour, rng: &mut StdRng) -> Colour {
    loop {
        let colour = random_colour(rng);
        let distance: f32 = colour.iter().zip(&base).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt();
        if distance >= CONTRAST {
            return colour;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_alternate_and_have_names() {
        let set = generate(3, 2, 1);
        assert_eq!((set.train.len(), set.test.len(), set.classes.len()), (30, 20, 10));
        assert!(set.train.labels().iter().enumerate().all(|(index, &label)| label == index % 10));
        assert_eq!(set.classes[set.train.labels()[14]], "cross");
        assert!(set.synthetic && set.name == "synthetic");
    }

    #[test]
    fn seed_determines_every_pixel() {
        let pixels = |seed| generate(2, 1, seed).train.pixels().to_vec();
        assert_eq!(pixels(5), pixels(5));
        assert_ne!(pixels(5), pixels(6));
    }

    #[test]
    fn larger_set_starts_with_the_smaller_one() {
        let (small, large) = (generate(1, 1, 3), generate(4, 1, 3));
        assert!(large.train.pixels().starts_with(small.train.pixels()));
        assert_eq!(small.test.pixels(), large.test.pixels());
        assert_ne!(small.test.pixels(), small.train.pixels());
    }

    #[test]
    fn no_image_is_blank() {
        let set = generate(20, 0, 9);
        for image in set.train.pixels().chunks(3 * SIDE * SIDE) {
            let plane_std = Normalization::measure(image, 3, SIDE * SIDE).std;
            assert!(plane_std.iter().sum::<f32>() > 0.15, "{plane_std:?}");
        }
    }
}
