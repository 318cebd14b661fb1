//! Draws the matrix of each structure and the numbers that it is stored as: one picture of the main ones side by side, and one picture of
//! each with its factors and its cost.
//!
//! ```text
//! cargo run --example draw_structures -- book/src/figures
//! ```

#![allow(clippy::print_stderr, reason = "a command-line program")]

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use burn_structured::nn::{Structure, StructuredLinear, StructuredLinearConfig};
use std::error::Error;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

/// Rows and columns of every matrix.
const SIZE: usize = 24;
/// The side of a square that stands for one number, and the distance between matrices, in pixels.
const CELL: usize = 7;
const GAP: usize = 30;
/// Colours from the most negative number to the most positive; the middle one is the background.
const COLOURS: [&str; 9] =
    ["#0b3c6f", "#2a6db0", "#6aa5d8", "#b5d3ec", "#ffffff", "#f8cfae", "#eb9a60", "#cf5f22", "#8f3206"];

/// The structures that are drawn side by side: title, text form, rows and columns of the grid of blocks to draw.
const MAIN: [(&str, &str, [usize; 2]); 6] = [
    ("dense", "dense", [1, 1]),
    ("low rank", "low-rank:r=2", [1, 1]),
    ("BLAST", "blast:b=4,r=2", [4, 4]),
    ("Monarch", "monarch:b=3,r=1", [1, 3]),
    ("SS1", "ss1:c=4,k=6,n=6", [4, 1]),
    ("block-diagonal", "block-diagonal:b=4", [4, 4]),
];

/// Those that have a picture of their own, which is named after the structure.
const EACH: [(&str, [usize; 2]); 9] = [
    ("low-rank:r=2", [1, 1]),
    ("blast:b=4,r=2", [4, 4]),
    ("ss1:c=4,k=6,n=6", [4, 4]),
    ("monarch:b=3,r=1", [1, 3]),
    ("btt:b=4x6,r=1", [4, 6]),
    ("block-diagonal:b=4", [4, 4]),
    ("pixelfly:b=8,stride=4,r=1", [8, 8]),
    ("gaudi:r=4,width=0.3", [1, 1]),
    ("kronecker:b=4x6,r=1", [4, 6]),
];

fn main() -> ExitCode {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    match run(Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(folder: &Path) -> Result<(), Box<dyn Error>> {
    let write = |name: &str, svg: String| {
        let path = folder.join(name);
        std::fs::write(&path, svg).map_err(|error| format!("{}: {error}", path.display()))
    };
    write("structures.svg", side_by_side()?)?;
    for (text, grid) in EACH {
        let name = text.split(':').next().unwrap_or_default();
        write(&format!("structure-{name}.svg"), alone(text, grid)?)?;
    }
    Ok(())
}

/// A layer without a bias, the same in every run.
fn layer(text: &str) -> Result<StructuredLinear, Box<dyn Error>> {
    let device = Device::flex();
    device.seed(3);
    let structure: Structure = text.parse()?;
    Ok(StructuredLinearConfig::new(SIZE, SIZE, structure).with_bias(false).try_init(&device)?)
}

fn head(width: usize, height: usize) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"17\" text-anchor=\"middle\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    )
}

/// The main structures, each matrix above its numbers.
fn side_by_side() -> Result<String, Box<dyn Error>> {
    let side = SIZE * CELL;
    let top = 28;
    let stored_top = top + side + 34;
    let mut svg = head(GAP + MAIN.len() * (side + GAP), stored_top + side + 14);
    for (index, (title, text, grid)) in MAIN.into_iter().enumerate() {
        let layer = layer(text)?;
        let left = GAP + index * (side + GAP);
        let middle = left + side / 2;
        let weight = layer.to_dense().into_data().iter::<f32>().collect::<Vec<_>>();
        let stored: Vec<f32> = parameters(&layer).into_iter().flat_map(|factor| factor.values).collect();
        let share = 100.0 * stored.len() as f64 / weight.len() as f64;
        writeln!(svg, "<text x=\"{middle}\" y=\"20\" font-weight=\"bold\">{title}</text>")?;
        writeln!(svg, "<text x=\"{middle}\" y=\"{}\">stored: {share:.0} %</text>", stored_top - 10)?;
        draw(&mut svg, [left, top], &weight, SIZE, grid)?;
        draw(&mut svg, [left, stored_top], &stored, SIZE, [1, 1])?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// One structure: its matrix, its factors beside it, and what they cost.
fn alone(text: &str, grid: [usize; 2]) -> Result<String, Box<dyn Error>> {
    let layer = layer(text)?;
    let (factors, cost) = (parameters(&layer), layer.cost());
    let (side, top) = (SIZE * CELL, 54);
    let widths = factors.iter().map(Factor::width).sum::<usize>();
    let width = (GAP + side + 2 * GAP + widths).max(680);
    let mut svg = head(width, top + side + 16);
    let line = format!(
        "{text}: {} of {} numbers, {} of {} multiplications a token",
        cost.params,
        cost.dense_params,
        cost.flops_per_token / 2,
        cost.dense_flops_per_token / 2
    );
    writeln!(svg, "<text x=\"{GAP}\" y=\"20\" text-anchor=\"start\" font-size=\"15\">{line}</text>")?;
    let weight = layer.to_dense().into_data().iter::<f32>().collect::<Vec<_>>();
    writeln!(svg, "<text x=\"{}\" y=\"46\" font-size=\"15\" font-weight=\"bold\">W</text>", GAP + side / 2)?;
    draw(&mut svg, [GAP, top], &weight, SIZE, grid)?;
    let mut left = GAP + side + 2 * GAP;
    for factor in &factors {
        let (name, shape) = (&factor.name, factor.shape());
        writeln!(
            svg,
            "<text x=\"{left}\" y=\"46\" font-size=\"13\" text-anchor=\"start\"><tspan font-weight=\"bold\">{name}</tspan> {shape}</text>"
        )?;
        draw(&mut svg, [left, top], &factor.values, factor.columns, [1, 1])?;
        left += factor.width();
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// A float parameter of a layer.
struct Factor {
    name: String,
    shape: Vec<usize>,
    /// The last axis.
    columns: usize,
    values: Vec<f32>,
}

impl Factor {
    fn shape(&self) -> String {
        format!("{:?}", self.shape)
    }

    /// Of its picture or its name, whichever is wider, with the gap behind it.
    fn width(&self) -> usize {
        (self.columns * CELL).max(8 * (self.name.len() + self.shape().len())) + GAP
    }
}

/// All float parameters of a layer, one after the other.
fn parameters(layer: &StructuredLinear) -> Vec<Factor> {
    #[derive(Default)]
    struct Factors {
        names: Vec<String>,
        found: Vec<Factor>,
    }
    impl ModuleVisitor for Factors {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let shape = param.dims().to_vec();
            self.found.push(Factor {
                name: self.names.last().cloned().unwrap_or_default(),
                columns: shape[D - 1],
                shape,
                values: param.val().into_data().iter::<f32>().collect(),
            });
        }

        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.names.push(name.to_string());
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.names.pop();
        }
    }
    let mut factors = Factors::default();
    layer.visit(&mut factors);
    factors.found
}

/// Numbers in rows of `columns` squares, coloured relative to the largest absolute value, under a grid of `rows × cols` blocks.
fn draw(
    svg: &mut String,
    [left, top]: [usize; 2],
    values: &[f32],
    columns: usize,
    [rows, cols]: [usize; 2],
) -> std::fmt::Result {
    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let mut squares = COLOURS.map(|_| String::new());
    for (at, value) in values.iter().enumerate() {
        // The square root makes small numbers visible.
        let shade = (value.abs() / largest).sqrt().copysign(*value);
        let colour = ((shade + 1.0) / 2.0 * (COLOURS.len() - 1) as f32).round() as usize;
        write!(
            squares[colour],
            "M{} {}h{CELL}v{CELL}h-{CELL}z",
            left + at % columns * CELL,
            top + at / columns * CELL
        )?;
    }
    for (index, (colour, squares)) in COLOURS.iter().zip(&squares).enumerate() {
        if index != COLOURS.len() / 2 && !squares.is_empty() {
            writeln!(svg, "<path fill=\"{colour}\" shape-rendering=\"crispEdges\" d=\"{squares}\"/>")?;
        }
    }
    let (width, height) = (columns * CELL, values.len().div_ceil(columns) * CELL);
    let horizontal = (0..=rows).map(|row| format!("M{left} {}h{width}", top + height * row / rows));
    let vertical = (0..=cols).map(|col| format!("M{} {top}v{height}", left + width * col / cols));
    let lines: String = horizontal.chain(vertical).collect();
    writeln!(svg, "<path fill=\"none\" stroke=\"#000000\" stroke-width=\"1.5\" d=\"{lines}\"/>")
}
