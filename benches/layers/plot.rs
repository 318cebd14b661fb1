//! The two figures: time against tokens, and speed-up against the share of the parameters, with all programs in each.

use super::arguments::Pass;
use super::record::{Results, Role, Row};
use super::report::device;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::collections::BTreeMap;

const PANEL: (u32, u32) = (520, 400);
const COLUMNS: usize = 2;
const MOST_PANELS: usize = 6;
/// Room for the names, on the right.
const LEGEND: u32 = 300;
const DENSE: &str = "dense (best)";

/// Milliseconds of the forward pass against tokens, a panel for each layer. `None` if nothing was measured at several
/// numbers of tokens.
pub fn time_against_tokens(files: &[Results]) -> Option<Result<String, String>> {
    let mut panels: BTreeMap<(usize, usize, String), Panel> = BTreeMap::new();
    for (results, row) in rows(files).filter(|(_, row)| row.pass == Pass::Forward) {
        let panel = panels.entry((row.d_input, row.d_output, row.dtype.clone())).or_insert_with(|| Panel {
            title: format!("{}→{}, {}, forward", row.d_input, row.d_output, row.dtype),
            x: "tokens",
            y: "ms",
            lines: true,
            guide: |_| None,
            series: Vec::new(),
        });
        for (name, role) in [(DENSE, Role::Dense), (row.structure.as_str(), Role::Structured)] {
            if let Some(candidate) = row.best(role) {
                panel.add(name, &device(results, row), (row.tokens as f64, candidate.time.median_ms));
            }
        }
    }
    let panels = panels.into_values().filter(|panel| panel.series.iter().any(|series| series.points.len() > 1));
    draw_all(panels.collect())
}

/// How many times as fast as dense, against the share of the parameters, a panel for each number of tokens and pass. `None`
/// if nothing was measured.
pub fn speed_up_against_parameters(files: &[Results]) -> Option<Result<String, String>> {
    let mut panels: BTreeMap<(Pass, usize, String), Panel> = BTreeMap::new();
    for (results, row) in rows(files) {
        let Some(speed_up) = row.speed_up() else { continue };
        let panel = panels.entry((row.pass, row.tokens, row.dtype.clone())).or_insert_with(|| Panel {
            title: format!("{} tokens, {}, {}", row.tokens, row.dtype, row.pass),
            x: "% of the dense parameters",
            y: "times as fast as dense",
            lines: false,
            guide: |share| Some(100.0 / share),
            series: Vec::new(),
        });
        panel.add(&row.structure, &device(results, row), (100.0 * row.params_ratio, speed_up));
    }
    draw_all(panels.into_values().collect())
}

fn rows(files: &[Results]) -> impl Iterator<Item = (&Results, &Row)> {
    files.iter().flat_map(|results| results.rows.iter().map(move |row| (results, row)))
}

struct Panel {
    title: String,
    x: &'static str,
    y: &'static str,
    /// Whether the points of a series are joined.
    lines: bool,
    /// What would be seen if time went with the parameters.
    guide: fn(f64) -> Option<f64>,
    series: Vec<Series>,
}

struct Series {
    name: String,
    device: String,
    points: Vec<(f64, f64)>,
}

impl Panel {
    fn add(&mut self, name: &str, device: &str, point: (f64, f64)) {
        let found = self.series.iter_mut().find(|series| series.name == name && series.device == device);
        match found {
            // The dense layer is in the rows of every structure.
            Some(series) if name == DENSE && series.points.iter().any(|other| other.0 == point.0) => {}
            Some(series) => series.points.push(point),
            None => self.series.push(Series { name: name.into(), device: device.into(), points: vec![point] }),
        }
    }

    /// From a power of two to a power of two, as exponents.
    fn range(&self, of: fn(&(f64, f64)) -> f64) -> std::ops::Range<f64> {
        let exponents = || self.series.iter().flat_map(|series| &series.points).map(|point| of(point).log2());
        let (lowest, highest) =
            (exponents().fold(f64::INFINITY, f64::min), exponents().fold(f64::NEG_INFINITY, f64::max));
        (lowest - 0.2).floor()..(highest + 0.2).ceil()
    }
}

/// Colours are structures, shapes are devices.
struct Key {
    names: Vec<String>,
    devices: Vec<String>,
}

impl Key {
    fn of(panels: &[Panel]) -> Self {
        let mut key = Self { names: Vec::new(), devices: Vec::new() };
        for series in panels.iter().flat_map(|panel| &panel.series) {
            for (known, text) in [(&mut key.names, &series.name), (&mut key.devices, &series.device)] {
                if !known.contains(text) {
                    known.push(text.clone());
                }
            }
        }
        key
    }

    fn colour(&self, name: &str) -> RGBAColor {
        match self.names.iter().position(|other| other == name) {
            _ if name == DENSE => BLACK.to_rgba(),
            Some(at) => Palette99::pick(at).to_rgba(),
            None => BLACK.to_rgba(),
        }
    }

    fn shape(&self, device: &str) -> usize {
        self.devices.iter().position(|other| other == device).unwrap_or(0)
    }
}

fn draw_all(mut panels: Vec<Panel>) -> Option<Result<String, String>> {
    if panels.is_empty() {
        return None;
    }
    if panels.len() > MOST_PANELS {
        // The fullest, in their order.
        let mut sizes: Vec<usize> = panels.iter().map(|panel| panel.series.len()).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let fewest = sizes[MOST_PANELS - 1];
        panels.retain(|panel| panel.series.len() >= fewest);
        panels.truncate(MOST_PANELS);
    }
    let mut svg = String::new();
    let columns = panels.len().min(COLUMNS);
    let rows = panels.len().div_ceil(columns);
    let key = Key::of(&panels);
    let lines = key.names.len() + key.devices.len() + 1;
    let height = (PANEL.1 * rows as u32).max(40 + 20 * lines as u32);
    let size = (PANEL.0 * columns as u32 + LEGEND, height);
    let drawn = draw(&panels, &key, (rows, columns), SVGBackend::with_string(&mut svg, size));
    Some(drawn.map(|()| svg))
}

fn draw<B: DrawingBackend>(panels: &[Panel], key: &Key, grid: (usize, usize), backend: B) -> Result<(), String> {
    let text = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    let area = backend.into_drawing_area();
    area.fill(&WHITE).map_err(text)?;
    let (figures, legend) = area.split_horizontally(PANEL.0 * grid.1 as u32);
    for (panel, cell) in panels.iter().zip(figures.split_evenly(grid)) {
        draw_panel(panel, key, &cell).map_err(text)?;
    }
    draw_key(key, &legend).map_err(text)?;
    area.present().map_err(text)
}

fn draw_panel<B: DrawingBackend>(
    panel: &Panel,
    key: &Key,
    area: &DrawingArea<B, Shift>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let (x, y) = (panel.range(|point| point.0), panel.range(|point| point.1));
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(x.clone(), y.clone())?;
    // Logarithmic scales with a label at every power of two, where plotters' own has one only at those of ten.
    let label = |exponent: &f64| power_of_two(*exponent);
    chart
        .configure_mesh()
        .x_desc(panel.x)
        .y_desc(panel.y)
        .x_labels((x.end - x.start) as usize + 1)
        .y_labels((y.end - y.start) as usize + 1)
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .light_line_style(WHITE)
        .draw()?;
    let steps = (0..=40).map(|step| x.start + (x.end - x.start) * f64::from(step) / 40.0);
    let guide = steps.filter_map(|x| Some((x, (panel.guide)(x.exp2())?.log2()))).filter(|(_, at)| y.contains(at));
    chart.draw_series(LineSeries::new(guide, BLACK.mix(0.3)))?;
    for series in &panel.series {
        let (colour, shape) = (key.colour(&series.name), key.shape(&series.device));
        let mut points: Vec<(f64, f64)> = series.points.iter().map(|(x, y)| (x.log2(), y.log2())).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        if panel.lines {
            let width = if series.name == DENSE { 3 } else { 1 };
            chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(width)))?;
        }
        match shape {
            0 => chart.draw_series(points.iter().map(|at| Circle::new(*at, 4, colour.filled())))?,
            1 => chart.draw_series(points.iter().map(|at| TriangleMarker::new(*at, 6, colour.filled())))?,
            2 => chart.draw_series(points.iter().map(|at| Cross::new(*at, 4, colour.stroke_width(2))))?,
            _ => chart.draw_series(points.iter().map(|at| Circle::new(*at, 5, colour.stroke_width(1))))?,
        };
    }
    Ok(())
}

fn power_of_two(exponent: f64) -> String {
    let value = exponent.exp2();
    let decimals = (-exponent.floor()).max(0.0) as usize;
    format!("{value:.*}", decimals.min(3))
}

fn draw_key<B: DrawingBackend>(
    key: &Key,
    area: &DrawingArea<B, Shift>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let font = ("sans-serif", 13);
    let mut y = 24;
    for name in &key.names {
        area.draw(&Rectangle::new([(0, y - 5), (10, y + 5)], key.colour(name).filled()))?;
        area.draw(&Text::new(name.clone(), (16, y - 6), font))?;
        y += 20;
    }
    y += 20;
    for (shape, name) in key.devices.iter().enumerate() {
        let at = (5, y);
        match shape {
            0 => area.draw(&Circle::new(at, 4, BLACK.filled()))?,
            1 => area.draw(&TriangleMarker::new(at, 6, BLACK.filled()))?,
            2 => area.draw(&Cross::new(at, 4, BLACK.stroke_width(2)))?,
            _ => area.draw(&Circle::new(at, 5, BLACK.stroke_width(1)))?,
        }
        area.draw(&Text::new(name.clone(), (16, y - 6), font))?;
        y += 20;
    }
    Ok(())
}
