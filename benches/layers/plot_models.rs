//! The figure of whole models: how many times as fast as dense in PyTorch, or as this program's dense model where PyTorch was not
//! measured, a line for each pass.
//!
//! Two panels, floats above int8, with at most six series, in the colours of `plot`: other programs hollow, this one filled, and each point
//! labelled.

use super::harness::file::write;
use super::plot::{FONT, MOST_SERIES, colour, value};
use super::summary::models::{OTHERS, Pass, faster, recorded::Row};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use std::path::Path;

/// What ends the name of a model with int8 weights.
const INT8: &str = ", int8";
/// The file of [`write_models`].
pub const PLOT: &str = "whole-models.svg";

const WIDTH: u32 = 900;
/// Of the names of passes, of a panel's title, and of the axis; on the right there is room for the labels of the last points.
const LEFT: i32 = 170;
const TOP: i32 = 34;
const BOTTOM: i32 = 56;
const RIGHT: i32 = 190;
/// The height of a point and the distance of passes.
const LINE: i32 = 14;
const GAP: i32 = 8;

/// Writes the figure to `folder`, if there is something to draw.
///
/// # Errors
///
/// If it cannot be drawn or written.
pub fn write_models(passes: &[Pass<'_>], folder: &Path) -> Result<(), String> {
    let Some(figure) = Figure::of(passes) else { return Ok(()) };
    let height = figure.panels.iter().map(|panel| TOP + panel.height()).sum::<i32>() + BOTTOM;
    let mut svg = String::new();
    figure
        .draw(SVGBackend::with_string(&mut svg, (WIDTH, height as u32)))
        .map_err(|error| format!("{PLOT}: {error}"))?;
    write(&folder.join(PLOT), &svg)
}

struct Figure {
    /// What all are compared to.
    reference: &'static str,
    /// The names of the series, which have one colour in all panels.
    series: Vec<String>,
    panels: Vec<Panel>,
}

struct Panel {
    title: &'static str,
    lines: Vec<Line>,
}

struct Line {
    name: String,
    points: Vec<Point>,
}

struct Point {
    series: usize,
    is_own: bool,
    /// Times as fast.
    times: f64,
}

impl Line {
    fn height(&self) -> i32 {
        LINE * self.points.len() as i32 + GAP
    }
}

impl Panel {
    fn height(&self) -> i32 {
        self.lines.iter().map(Line::height).sum()
    }
}

impl Figure {
    fn of(passes: &[Pass<'_>]) -> Option<Self> {
        // All passes are compared to the same.
        let is_beside = passes.iter().any(|pass| pass.others[0].is_some());
        let reference = if is_beside { "dense in PyTorch" } else { "dense" };
        let mut figure = Self { reference, series: Vec::new(), panels: Vec::new() };
        for (title, int8) in [("f32", false), ("int8 weights", true)] {
            let mut panel = Panel { title, lines: Vec::new() };
            for pass in passes {
                let reference = if is_beside { pass.others[0] } else { Some(pass.row()) };
                let Some(reference) = reference else { continue };
                let mut points = Vec::new();
                let other = OTHERS.iter().zip(pass.others).skip(1).filter_map(|(name, row)| Some((*name, row?)));
                for (name, row) in other.filter(|(name, _)| name.ends_with(INT8) == int8) {
                    points.extend(figure.point(name, false, faster(row, reference)));
                }
                for row in pass.own.iter().filter(|row| row.structure.ends_with(INT8) == int8) {
                    points.extend(figure.point(&budget(row), true, faster(row, reference)));
                }
                let Row { workload, pass, .. } = pass.row();
                if !points.is_empty() {
                    panel.lines.push(Line { name: format!("{workload}, {pass}"), points });
                }
            }
            if !panel.lines.is_empty() {
                figure.panels.push(panel);
            }
        }
        (!figure.panels.is_empty()).then_some(figure)
    }

    /// Black is what is dense in this program, as in `plot`.
    fn colour(&self, series: usize) -> RGBColor {
        if self.series[series] == "dense" { BLACK } else { colour(series) }
    }

    /// A point of the series of a name; `None` if there are too many series.
    fn point(&mut self, name: &str, is_own: bool, times: f64) -> Option<Point> {
        let name = name.trim_end_matches(INT8);
        let found = self.series.iter().position(|other| other == name);
        let series = found.or_else(|| {
            (self.series.len() < MOST_SERIES).then(|| {
                self.series.push(name.to_string());
                self.series.len() - 1
            })
        })?;
        Some(Point { series, is_own, times })
    }

    fn draw<B: DrawingBackend>(&self, backend: B) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let area = backend.into_drawing_area();
        area.fill(&WHITE)?;
        let lines = || self.panels.iter().flat_map(|panel| &panel.lines);
        let exponents = || lines().flat_map(|line| &line.points).map(|point| point.times.log2());
        let (low, high) = (exponents().fold(0.0, f64::min) - 0.1, exponents().fold(0.0, f64::max) + 0.1);
        let x = |times: f64| {
            LEFT + ((times.log2() - low) / (high - low) * f64::from(WIDTH as i32 - LEFT - RIGHT)).round() as i32
        };
        let centred = |size: i32| ("sans-serif", size).into_text_style(&area).pos(anchor(HPos::Center));
        let right = FONT.into_text_style(&area).pos(anchor(HPos::Right));
        let mut top = 0;
        for panel in &self.panels {
            top += TOP;
            area.draw(&Text::new(panel.title, (LEFT, top - 24), ("sans-serif", 16)))?;
            for half in (low * 2.0).ceil() as i32..=(high * 2.0).floor() as i32 {
                let times = (f64::from(half) / 2.0).exp2();
                let style = if half == 0 { BLACK.stroke_width(2) } else { BLACK.mix(0.15).stroke_width(1) };
                area.draw(&PathElement::new(vec![(x(times), top), (x(times), top + panel.height())], style))?;
            }
            for line in &panel.lines {
                area.draw(&PathElement::new(vec![(12, top), (WIDTH as i32 - 12, top)], BLACK.mix(0.15)))?;
                let middle = top + line.height() / 2;
                area.draw(&Text::new(line.name.clone(), (LEFT - 14, middle - 7), right.clone()))?;
                for (index, point) in line.points.iter().enumerate() {
                    let at = (x(point.times), top + GAP / 2 + LINE / 2 + LINE * index as i32);
                    let colour = self.colour(point.series);
                    match point.is_own {
                        true => area.draw(&Circle::new(at, 4, colour.filled()))?,
                        false => area.draw(&Circle::new(at, 4, colour.stroke_width(2)))?,
                    }
                    let text = format!("{}  {}", value(point.times), self.series[point.series]);
                    area.draw(&Text::new(text, (at.0 + 8, at.1 - 6), FONT.into_font().color(&colour)))?;
                }
                top += line.height();
            }
        }
        for half in (low * 2.0).ceil() as i32..=(high * 2.0).floor() as i32 {
            let times = (f64::from(half) / 2.0).exp2();
            area.draw(&Text::new(value(times), (x(times), top + 6), centred(12)))?;
        }
        let axis = format!("times as fast as {}; hollow: other programs, their dense model", self.reference);
        area.draw(&Text::new(axis, ((LEFT + WIDTH as i32 - RIGHT) / 2, top + 28), centred(14)))?;
        area.present()
    }
}

fn anchor(horizontal: HPos) -> Pos {
    Pos::new(horizontal, VPos::Top)
}

/// A structure's name and its budget, without the number of blocks, which differs from model to model, and what is as by default.
fn budget(row: &Row) -> String {
    let structure = row.structure.trim_end_matches(INT8);
    let (name, settings) = structure.split_once(':').unwrap_or((structure, ""));
    let budget = settings.split(',').find(|setting| !setting.starts_with("b=") && !setting.is_empty());
    budget.map_or_else(|| name.to_string(), |budget| format!("{name} {budget}"))
}
