//! The figure of whole models: how many times as fast as dense in PyTorch, or as this program's dense model where PyTorch was not
//! measured, a line for each pass.
//!
//! At most six series, in the colours of `plot`: other programs hollow, this one filled.

use super::harness::file::write;
use super::plot::{COLOURS, FONT, MOST_SERIES, value};
use super::summary::models::{OTHERS, Pass, faster, recorded::Row};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

/// The file of [`write_models`].
pub const PLOT: &str = "whole-models.svg";

const WIDTH: u32 = 900;
/// Of the names of passes, of the legend with the title, and of the axis.
const LEFT: i32 = 190;
const TOP: i32 = 86;
const BOTTOM: i32 = 56;
const RIGHT: i32 = 24;
const LINE: i32 = 40;

/// Writes the figure to `folder`, if there is something to draw.
///
/// # Errors
///
/// If it cannot be drawn or written.
pub fn write_models(passes: &[Pass<'_>], folder: &Path) -> Result<(), String> {
    let Some(figure) = Figure::of(passes) else { return Ok(()) };
    let height = TOP + BOTTOM + LINE * figure.lines.len() as i32;
    let mut svg = String::new();
    figure
        .draw(SVGBackend::with_string(&mut svg, (WIDTH, height as u32)))
        .map_err(|error| format!("{PLOT}: {error}"))?;
    write(&folder.join(PLOT), &svg)
}

struct Figure {
    /// What all are compared to.
    reference: &'static str,
    series: Vec<Series>,
    lines: Vec<Line>,
}

#[derive(Clone, PartialEq)]
struct Series {
    name: String,
    is_own: bool,
}

struct Line {
    name: String,
    /// Series and times as fast.
    points: Vec<(usize, f64)>,
}

impl Figure {
    fn of(passes: &[Pass<'_>]) -> Option<Self> {
        // All passes are compared to the same.
        let is_beside = passes.iter().any(|pass| pass.others[0].is_some());
        let mut figure = Self {
            reference: if is_beside { "dense in PyTorch" } else { "dense" },
            series: Vec::new(),
            lines: Vec::new(),
        };
        for pass in passes {
            let reference = if is_beside { pass.others[0] } else { Some(pass.row()) };
            let Some(reference) = reference else { continue };
            let mut points = Vec::new();
            for (name, row) in OTHERS.iter().zip(pass.others).skip(1) {
                let Some(row) = row else { continue };
                let series = Series { name: name.to_string(), is_own: false };
                points.extend(figure.series(series).map(|at| (at, faster(row, reference))));
            }
            for row in &pass.own {
                let series = Series { name: format!("burn-structured, {}", budget(row)), is_own: true };
                points.extend(figure.series(series).map(|at| (at, faster(row, reference))));
            }
            let Row { workload, pass, .. } = pass.row();
            figure.lines.push(Line { name: format!("{workload}, {pass}"), points });
        }
        figure.lines.iter().any(|line| !line.points.is_empty()).then_some(figure)
    }

    /// Where a series is; `None` if there are too many.
    fn series(&mut self, series: Series) -> Option<usize> {
        let found = self.series.iter().position(|other| *other == series);
        found.or_else(|| {
            (self.series.len() < MOST_SERIES).then(|| {
                self.series.push(series);
                self.series.len() - 1
            })
        })
    }

    fn draw<B: DrawingBackend>(&self, backend: B) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let area = backend.into_drawing_area();
        area.fill(&WHITE)?;
        let bottom = TOP + LINE * self.lines.len() as i32;
        let exponents = || self.lines.iter().flat_map(|line| &line.points).map(|(_, times)| times.log2());
        let (low, high) = (exponents().fold(0.0, f64::min) - 0.15, exponents().fold(0.0, f64::max) + 0.15);
        let x = |times: f64| {
            LEFT + ((times.log2() - low) / (high - low) * f64::from(WIDTH as i32 - LEFT - RIGHT)).round() as i32
        };
        let centred = |size: i32| ("sans-serif", size).into_text_style(&area).pos(anchor(HPos::Center));

        for half in (low * 2.0).ceil() as i32..=(high * 2.0).floor() as i32 {
            let times = (f64::from(half) / 2.0).exp2();
            let style = if half == 0 { BLACK.stroke_width(2) } else { BLACK.mix(0.15).stroke_width(1) };
            area.draw(&PathElement::new(vec![(x(times), TOP), (x(times), bottom)], style))?;
            area.draw(&Text::new(value(times), (x(times), bottom + 6), centred(12)))?;
        }
        let axis = format!("times as fast as {}", self.reference);
        area.draw(&Text::new(axis, ((LEFT + WIDTH as i32 - RIGHT) / 2, bottom + 28), centred(14)))?;

        let right = FONT.into_text_style(&area).pos(anchor(HPos::Right));
        for (index, line) in self.lines.iter().enumerate() {
            let (top, middle) = (TOP + LINE * index as i32, TOP + LINE * index as i32 + LINE / 2);
            area.draw(&PathElement::new(vec![(12, top), (WIDTH as i32 - RIGHT, top)], BLACK.mix(0.15)))?;
            area.draw(&Text::new(line.name.clone(), (LEFT - 14, middle - 7), right.clone()))?;
            let step = (LINE - 8) / MOST_SERIES as i32;
            for (series, times) in &line.points {
                let y = middle + step * (2 * *series as i32 - self.series.len() as i32 + 1) / 2;
                self.point(&area, *series, (x(*times), y))?;
            }
        }
        area.draw(&PathElement::new(vec![(12, bottom), (WIDTH as i32 - RIGHT, bottom)], BLACK.mix(0.15)))?;

        for (index, series) in self.series.iter().enumerate() {
            let (column, row) = (index as i32 / 2, index as i32 % 2);
            let at = (24 + 290 * column, 24 + 24 * row);
            self.point(&area, index, at)?;
            let colour = COLOURS[index];
            area.draw(&Text::new(
                series.name.clone(),
                (at.0 + 10, at.1 - 7),
                ("sans-serif", 14).into_font().color(&colour),
            ))?;
        }
        area.present()
    }

    fn point<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        series: usize,
        at: (i32, i32),
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let colour = COLOURS[series];
        match self.series[series].is_own {
            true => area.draw(&Circle::new(at, 4, colour.filled())),
            false => area.draw(&Circle::new(at, 4, colour.stroke_width(2))),
        }
    }
}

fn anchor(horizontal: HPos) -> Pos {
    Pos::new(horizontal, VPos::Top)
}

/// A structure's name and its budget, without the number of blocks, which differs from model to model.
fn budget(row: &Row) -> String {
    let (name, settings) = row.structure.split_once(':').unwrap_or((&row.structure, ""));
    let budget = settings.split(',').find(|setting| !setting.starts_with("b=") && !setting.is_empty());
    budget.map_or_else(|| name.to_string(), |budget| format!("{name} {budget}"))
}
