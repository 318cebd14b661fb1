//! Draws one matrix of each structure above the numbers that it is stored as: `book/src/figures/structures.svg`.
//!
//! ```text
//! cargo run --example draw_structures -- book/src/figures/structures.svg
//! ```

#![allow(clippy::print_stderr, reason = "a command-line program")]

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use burn_structured::nn::{Structure, StructuredLinear, StructuredLinearConfig};
use std::error::Error;
use std::fmt::Write;
use std::process::ExitCode;

/// Rows and columns of every matrix.
const SIZE: usize = 24;
/// The side of a square that stands for one number, and the distance between matrices, in pixels.
const CELL: usize = 7;
const GAP: usize = 30;
/// Colours from the most negative number to the most positive; the middle one is the background.
const COLOURS: [&str; 9] =
    ["#0b3c6f", "#2a6db0", "#6aa5d8", "#b5d3ec", "#ffffff", "#f8cfae", "#eb9a60", "#cf5f22", "#8f3206"];

/// Title, structure, rows and columns of the grid of blocks to draw.
const STRUCTURES: [(&str, &str, [usize; 2]); 6] = [
    ("dense", "dense", [1, 1]),
    ("low rank", "low-rank:r=2", [1, 1]),
    ("BLAST", "blast:b=4,r=2", [4, 4]),
    ("Monarch", "monarch:b=3,r=1", [1, 3]),
    ("SS1", "ss1:c=4,k=6,n=6", [4, 1]),
    ("block-diagonal", "block-diagonal:b=4", [4, 4]),
];

fn main() -> ExitCode {
    let path = std::env::args().nth(1).unwrap_or_else(|| "structures.svg".into());
    match run(&path) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &str) -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let side = SIZE * CELL;
    let top = 28;
    let stored_top = top + side + 34;
    let (width, height) = (GAP + STRUCTURES.len() * (side + GAP), stored_top + side + 14);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"17\" text-anchor=\"middle\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for (index, (title, text, grid)) in STRUCTURES.into_iter().enumerate() {
        device.seed(3);
        let structure: Structure = text.parse()?;
        let layer = StructuredLinearConfig::new(SIZE, SIZE, structure).with_bias(false).try_init(&device)?;
        let left = GAP + index * (side + GAP);
        let middle = left + side / 2;
        let (weight, stored) = (layer.to_dense().into_data().iter::<f32>().collect::<Vec<_>>(), parameters(&layer));
        let share = 100.0 * stored.len() as f64 / weight.len() as f64;
        writeln!(svg, "<text x=\"{middle}\" y=\"20\" font-weight=\"bold\">{title}</text>")?;
        writeln!(svg, "<text x=\"{middle}\" y=\"{}\">stored: {share:.0} %</text>", stored_top - 10)?;
        draw(&mut svg, [left, top], &weight, grid)?;
        draw(&mut svg, [left, stored_top], &stored, [1, 1])?;
    }
    svg.push_str("</svg>\n");
    std::fs::write(path, svg).map_err(|error| format!("{path}: {error}"))?;
    Ok(())
}

/// All float parameters of a layer, one after the other.
fn parameters(layer: &StructuredLinear) -> Vec<f32> {
    struct Values(Vec<f32>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.extend(param.val().into_data().iter::<f32>());
        }
    }
    let mut values = Values(Vec::new());
    layer.visit(&mut values);
    values.0
}

/// Numbers in rows of [`SIZE`] squares, coloured relative to the largest absolute value, under a grid of `rows × cols` blocks.
fn draw(svg: &mut String, [left, top]: [usize; 2], values: &[f32], [rows, cols]: [usize; 2]) -> std::fmt::Result {
    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let mut squares = COLOURS.map(|_| String::new());
    for (at, value) in values.iter().enumerate() {
        // The square root makes small numbers visible.
        let shade = (value.abs() / largest).sqrt().copysign(*value);
        let colour = ((shade + 1.0) / 2.0 * (COLOURS.len() - 1) as f32).round() as usize;
        write!(squares[colour], "M{} {}h{CELL}v{CELL}h-{CELL}z", left + at % SIZE * CELL, top + at / SIZE * CELL)?;
    }
    for (index, (colour, squares)) in COLOURS.iter().zip(&squares).enumerate() {
        if index != COLOURS.len() / 2 && !squares.is_empty() {
            writeln!(svg, "<path fill=\"{colour}\" shape-rendering=\"crispEdges\" d=\"{squares}\"/>")?;
        }
    }
    let (width, height) = (SIZE * CELL, values.len().div_ceil(SIZE) * CELL);
    let horizontal = (0..=rows).map(|row| format!("M{left} {}h{width}", top + height * row / rows));
    let vertical = (0..=cols).map(|col| format!("M{} {top}v{height}", left + width * col / cols));
    let lines: String = horizontal.chain(vertical).collect();
    writeln!(svg, "<path fill=\"none\" stroke=\"#000000\" stroke-width=\"1.5\" d=\"{lines}\"/>")
}
