//! The two figures: time against tokens, and speed-up against the share of the parameters, with all programs in each.
//!
//! At most six series a panel, each labelled at its points, in the workspace's palette.

use super::arguments::Pass;
use super::compare::geometric_mean;
use super::harness::file::write;
use super::record::{Results, Role, Row};
use super::report::device;
use burn_structured::checkpoint::PALETTE;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

/// The file of [`time_against_tokens`].
pub const TIME: &str = "time-against-tokens.svg";
/// The file of [`speed_up_against_parameters`].
pub const SPEED_UP: &str = "speed-up-against-parameters.svg";

const PANEL: (u32, u32) = (560, 400);
const COLUMNS: usize = 2;
const MOST_PANELS: usize = 8;
pub(crate) const MOST_SERIES: usize = PALETTE.len();
pub(crate) const FONT: (&str, i32) = ("sans-serif", 12);
const DENSE: &str = "dense (best)";

/// The colour of a series; black is dense.
pub(crate) fn colour(series: usize) -> RGBColor {
    let [red, green, blue] = PALETTE[series % PALETTE.len()];
    RGBColor(red, green, blue)
}

/// Writes both figures to `folder`, those that there is something for.
///
/// # Errors
///
/// If a figure cannot be drawn or written.
pub fn write_both(files: &[Results], folder: &Path) -> Result<(), String> {
    for (name, figure) in [(TIME, time_against_tokens(files)), (SPEED_UP, speed_up_against_parameters(files))] {
        if let Some(svg) = figure {
            write(&folder.join(name), &svg.map_err(|error| format!("{name}: {error}"))?)?;
        }
    }
    Ok(())
}

/// Milliseconds of the forward pass against tokens, a panel for each layer. `None` if nothing was measured at several
/// numbers of tokens.
pub fn time_against_tokens(files: &[Results]) -> Option<Result<String, String>> {
    let mut panels: BTreeMap<(usize, usize, String), Panel> = BTreeMap::new();
    for (results, row) in rows(files).filter(|(_, row)| row.pass == Pass::Forward) {
        let panel = panels.entry((row.d_input, row.d_output, row.dtype.clone())).or_insert_with(|| Panel {
            title: format!("{}→{}, {}, forward", row.d_input, row.d_output, row.dtype),
            x: "tokens (logarithmic)",
            y: "ms (logarithmic)",
            lines: true,
            guide: |_| None,
            series: Vec::new(),
        });
        for (name, role) in [(DENSE, Role::Dense), (row.structure.as_str(), Role::Structured)] {
            if let Some(candidate) = row.best(role) {
                panel.add(name, &device(results, row), (row.tokens as f64, candidate.time.median_ms), name);
            }
        }
    }
    let panels = panels.into_values().filter(|panel| panel.series.iter().any(|series| series.points.len() > 1));
    draw_all(panels.collect())
}

/// How many times as fast as dense, against the share of the parameters, a panel for each pass at the fewest and at the most tokens: the
/// geometric mean over the layers, a series for each kind of structure. `None` if nothing was measured.
pub fn speed_up_against_parameters(files: &[Results]) -> Option<Result<String, String>> {
    type Point<'a> = (Vec<f64>, Vec<f64>, &'a Results, &'a Row);
    let mut points: BTreeMap<(Pass, usize, String), Vec<Point<'_>>> = BTreeMap::new();
    for (results, row) in rows(files) {
        let Some(speed_up) = row.speed_up() else { continue };
        let points = points.entry((row.pass, row.tokens, row.dtype.clone())).or_default();
        let of = (&row.structure, device(results, row));
        match points.iter_mut().find(|(.., results, row)| (&row.structure, device(results, row)) == of) {
            Some((shares, speed_ups, ..)) => {
                shares.push(row.params_ratio);
                speed_ups.push(speed_up);
            }
            None => points.push((vec![row.params_ratio], vec![speed_up], results, row)),
        }
    }
    let ends = |pass: Pass| {
        let tokens = || points.keys().filter(move |key| key.0 == pass).map(|key| key.1);
        [tokens().min(), tokens().max()].map(Option::unwrap_or_default)
    };
    let ends: BTreeMap<Pass, [usize; 2]> = points.keys().map(|key| (key.0, ends(key.0))).collect();
    points.retain(|(pass, tokens, _), _| ends[pass].contains(tokens));
    let panels = points.into_iter().map(|((pass, tokens, dtype), points)| {
        let mut panel = Panel {
            title: format!("{tokens} {}, {dtype}, {pass}", if tokens == 1 { "token" } else { "tokens" }),
            x: "% of the dense parameters",
            y: "times as fast as dense (grey: 1 / share)",
            lines: false,
            guide: |share| Some(100.0 / share),
            series: Vec::new(),
        };
        for (shares, speed_ups, results, row) in points {
            let mean = |values: Vec<f64>| geometric_mean(values.into_iter()).expect("at least one");
            let kind = row.structure.split(':').next().unwrap_or_default();
            // The budget is on the axis.
            let settings = row.structure.split_once(':').map_or("", |(_, settings)| settings);
            let label: Vec<&str> = settings.split(',').filter(|setting| !setting.starts_with("ratio=")).collect();
            let label = if label.is_empty() { kind.to_string() } else { format!("{kind}:{}", label.join(",")) };
            panel.add(kind, &device(results, row), (100.0 * mean(shares), mean(speed_ups)), &label);
        }
        panel
    });
    draw_all(panels.collect())
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
    /// A text for each point.
    labels: Vec<String>,
}

impl Panel {
    fn add(&mut self, name: &str, device: &str, point: (f64, f64), label: &str) {
        let found = self.series.iter_mut().position(|series| series.name == name && series.device == device);
        let at = found.unwrap_or_else(|| {
            let (points, labels) = (Vec::new(), Vec::new());
            self.series.push(Series { name: name.into(), device: device.into(), points, labels });
            self.series.len() - 1
        });
        // The dense layer is in the rows of every structure.
        let series = &mut self.series[at];
        if name != DENSE || series.points.iter().all(|other| other.0 != point.0) {
            series.points.push(point);
            series.labels.push(label.into());
        }
    }

    /// Where a value is on an axis: by its logarithm in a panel with lines.
    fn at(&self, value: f64) -> f64 {
        if self.lines { value.log2() } else { value }
    }

    /// The value there.
    fn value(&self, at: f64) -> f64 {
        if self.lines { at.exp2() } else { at }
    }

    /// From the least to the greatest value on an axis.
    fn data(&self, of: fn(&(f64, f64)) -> f64) -> (f64, f64) {
        let all = || self.series.iter().flat_map(|series| &series.points).map(|point| self.at(of(point)));
        (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max))
    }

    /// The same with a margin; on the right there has to be room for a label.
    fn range(&self, of: fn(&(f64, f64)) -> f64, room: f64) -> std::ops::Range<f64> {
        let (low, high) = self.data(of);
        let size = (high - low).max(0.02 * high.abs()).max(0.1);
        low - 0.08 * size..high + (0.08 + room) * size
    }
}

fn draw_all(mut panels: Vec<Panel>) -> Option<Result<String, String>> {
    // The series that are drawn in all panels: as the catalogue and the files have them.
    let mut names: Vec<String> = Vec::new();
    for panel in &mut panels {
        let devices = panel.series.iter().map(|series| &series.device).collect::<std::collections::BTreeSet<_>>().len();
        for series in &panel.series {
            let full = names.len() == MOST_SERIES - usize::from(panel.lines);
            if series.name != DENSE && !names.contains(&series.name) && !full {
                names.push(series.name.clone());
            }
        }
        let most = if panel.lines { (MOST_SERIES - 1) / devices.max(1) } else { MOST_SERIES / devices.max(1) };
        let drawn = &names[..names.len().min(most.max(1))];
        panel.series.retain(|series| series.name == DENSE || drawn.contains(&series.name));
        panel.series.truncate(MOST_SERIES);
    }
    panels.retain(|panel| !panel.series.is_empty());
    if panels.is_empty() {
        return None;
    }
    if panels.len() > MOST_PANELS {
        // The fullest, in their order.
        let points = |panel: &Panel| panel.series.iter().map(|series| series.points.len()).sum::<usize>();
        let mut sizes: Vec<usize> = panels.iter().map(points).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let fewest = sizes[MOST_PANELS - 1];
        panels.retain(|panel| points(panel) >= fewest);
        panels.truncate(MOST_PANELS);
    }
    let mut svg = String::new();
    let columns = panels.len().min(COLUMNS);
    let rows = panels.len().div_ceil(columns);
    let size = (PANEL.0 * columns as u32, PANEL.1 * rows as u32);
    let drawn = draw(&panels, &names, (rows, columns), SVGBackend::with_string(&mut svg, size));
    Some(drawn.map(|()| svg))
}

fn draw<B: DrawingBackend>(panels: &[Panel], names: &[String], grid: (usize, usize), backend: B) -> Result<(), String> {
    let text = |error: DrawingAreaErrorKind<B::ErrorType>| error.to_string();
    let area = backend.into_drawing_area();
    area.fill(&WHITE).map_err(text)?;
    for (panel, cell) in panels.iter().zip(area.split_evenly(grid)) {
        draw_panel(panel, names, &cell).map_err(text)?;
    }
    area.present().map_err(text)
}

fn draw_panel<B: DrawingBackend>(
    panel: &Panel,
    names: &[String],
    area: &DrawingArea<B, Shift>,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let (x, mut y) = (panel.range(|point| point.0, 0.34), panel.range(|point| point.1, 0.0));
    // The guide is seen at the points' shares.
    let (first, last) = panel.data(|point| point.0);
    for guide in [first, last].into_iter().filter_map(|at| (panel.guide)(panel.value(at))) {
        y = y.start.min(0.95 * panel.at(guide))..y.end.max(1.05 * panel.at(guide));
    }
    // Labels of points near the bottom are below them.
    if !panel.lines {
        y.start -= 0.1 * (y.end - y.start);
    }
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(56)
        .build_cartesian_2d(x.clone(), y.clone())?;
    let label = |at: &f64| value(panel.value(*at));
    // Beyond the data there is room for labels and nothing to read off.
    let x_label = |at: &f64| if *at > last + 1e-9 { String::new() } else { label(at) };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc(panel.x)
        .y_desc(panel.y)
        .x_labels(8)
        .y_labels(8)
        .x_label_formatter(&x_label)
        .y_label_formatter(&label)
        .light_line_style(WHITE)
        .draw()?;
    let steps = (0..=40).map(|step| x.start + (last - x.start) * f64::from(step) / 40.0);
    let guide = steps.filter_map(|x| Some((x, panel.at((panel.guide)(panel.value(x))?))));
    let guide: Vec<(f64, f64)> = guide.filter(|(_, at)| y.contains(at)).collect();
    chart.draw_series(LineSeries::new(guide, BLACK.mix(0.3).stroke_width(2)))?;
    let mut devices: Vec<&str> = Vec::new();
    let mut texts = Vec::new();
    for series in &panel.series {
        let colour = names.iter().position(|name| *name == series.name).map_or(BLACK, colour);
        let shape = devices.iter().position(|device| *device == series.device).unwrap_or_else(|| {
            devices.push(&series.device);
            devices.len() - 1
        });
        let mut points: Vec<((f64, f64), &String)> =
            series.points.iter().map(|(x, y)| (panel.at(*x), panel.at(*y))).zip(&series.labels).collect();
        points.sort_by(|a, b| a.0.0.total_cmp(&b.0.0));
        if panel.lines {
            let width = if series.name == DENSE { 3 } else { 1 };
            chart.draw_series(LineSeries::new(points.iter().map(|(at, _)| *at), colour.stroke_width(width)))?;
        }
        match shape {
            0 => chart.draw_series(points.iter().map(|(at, _)| Circle::new(*at, 4, colour.filled())))?,
            1 => chart.draw_series(points.iter().map(|(at, _)| TriangleMarker::new(*at, 6, colour.filled())))?,
            _ => chart.draw_series(points.iter().map(|(at, _)| Circle::new(*at, 5, colour.stroke_width(1))))?,
        };
        // A line is labelled at its end.
        let labelled = if panel.lines { &points[points.len() - 1..] } else { &points[..] };
        texts.extend(
            labelled.iter().map(|(at, text)| (chart.backend_coord(at), text.to_string(), colour, &series.device)),
        );
    }
    let origin = area.get_pixel_range();
    let mut taken: Vec<(i32, i32)> = Vec::new();
    texts.sort_by_key(|((_, y), ..)| *y);
    for ((x, y), text, colour, device) in texts {
        let (x, mut y) = (x - origin.0.start + 8, y - origin.1.start - 6);
        // Below the labels before it that it would cover.
        while let Some((_, other)) = taken.iter().find(|(at, other)| (at - x).abs() < 120 && (other - y).abs() < 12) {
            y = other + 12;
        }
        taken.push((x, y));
        let text = if devices.len() > 1 { format!("{text}, {device}") } else { text };
        area.draw(&Text::new(text, (x, y), FONT.into_font().color(&colour)))?;
    }
    Ok(())
}

/// Two digits, without zeros behind the point.
pub(crate) fn value(value: f64) -> String {
    let decimals = (1 - value.abs().max(1e-9).log10().floor() as i32).clamp(0, 4) as usize;
    let text = format!("{value:.decimals$}");
    if decimals > 0 { text.trim_end_matches('0').trim_end_matches('.').to_string() } else { text }
}
