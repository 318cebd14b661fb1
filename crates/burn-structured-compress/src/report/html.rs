//! A report as one self-contained page.

use super::chart::{Chart, Mark, Series, escaped, number};
use super::{LayerSpectrum, Report, RunInfo};
use crate::plan::{Change, Size};
use burn_structured_checkpoint::PALETTE;
use std::fmt::Write;

const STYLE: &str = include_str!("page.css");

/// What a page shows.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// What became of the model.
    pub report: &'a Report,
    /// How the run went.
    pub run: Option<&'a RunInfo>,
    /// The singular values of the dense weights.
    pub spectra: &'a [LayerSpectrum],
    /// Other outputs of the same model, for the chart of scores against sizes.
    pub others: &'a [(Report, RunInfo)],
}

impl<'a> Page<'a> {
    /// A page without charts that take more than the report.
    pub fn new(report: &'a Report) -> Self {
        Self { report, run: None, spectra: &[], others: &[] }
    }
}

/// The page as HTML, with its style and its charts: it needs no other file and no network.
pub fn html(page: &Page<'_>) -> String {
    let Page { report, run, spectra, others } = *page;
    let title = format!("{} compressed", report.model);
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{0}</title>\n<style>\n{STYLE}{1}</style>\n</head>\n<body>\n<h1>{0}</h1>\n",
        escaped(&title),
        colours()
    );
    text.push_str(&summary(report));
    text.push_str(&scores(report, run, others));
    text.push_str(&errors(report));
    text.push_str(&blocks(report));
    text.push_str(&singular_values(report, spectra));
    text.push_str(&layers(report));
    text.push_str(&origin(report, run));
    text.push_str("</body>\n</html>\n");
    text
}

/// The classes `c0`, `c1`, … of series.
fn colours() -> String {
    let rules = PALETTE.iter().enumerate().map(|(index, [red, green, blue])| {
        let colour = format!("rgb({red} {green} {blue})");
        format!(".c{index} {{ fill: {colour}; stroke: {colour}; }}\n")
    });
    rules.chain(["rect { stroke: none; } circle { stroke: var(--back); stroke-width: 1; }\n".to_string()]).collect()
}

/// A section, unless it has nothing to say.
fn section(title: &str, content: &str) -> String {
    if content.is_empty() { String::new() } else { format!("<h2>{}</h2>\n{content}\n", escaped(title)) }
}

fn figure(chart: &Chart<'_>, caption: &str) -> String {
    match chart.svg() {
        svg if svg.is_empty() => svg,
        svg => format!("<figure>{svg}<figcaption>{}</figcaption></figure>\n", escaped(caption)),
    }
}

fn row(cells: &[String]) -> String {
    cells.iter().fold("<tr>".to_string(), |row, cell| row + "<td>" + &escaped(cell) + "</td>") + "</tr>\n"
}

fn head(cells: &[&str]) -> String {
    cells.iter().fold("<tr>".to_string(), |row, cell| row + "<th>" + &escaped(cell) + "</th>") + "</tr>\n"
}

fn summary(report: &Report) -> String {
    let mut table = head(&["", "parameters", "FLOPs a token", "bytes"]);
    let mut add = |name: &str, Change { before, after }: Change| {
        let cells = |name: String, size: Size, flops: bool| {
            let flops = if flops { grouped(size.flops_per_token) } else { String::new() };
            [name, grouped(size.params), flops, grouped(size.bytes)]
        };
        let flops = name.starts_with("linear");
        table += &row(&cells(format!("{name}, dense"), before, flops));
        table += &row(&cells(format!("{name}, compressed"), after, flops));
        let share = |before: usize, after: usize| {
            if before == 0 { String::new() } else { percent(after as f64 / before as f64) }
        };
        let flops = if flops { share(before.flops_per_token, after.flops_per_token) } else { String::new() };
        table += &row(&["".into(), share(before.params, after.params), flops, share(before.bytes, after.bytes)]);
    };
    add("linear layers", report.linear);
    add("whole file", report.file);
    section("Size", &format!("<table>\n{table}</table>"))
}

fn scores(report: &Report, run: Option<&RunInfo>, others: &[(Report, RunInfo)]) -> String {
    let Some(run) = run.filter(|run| !run.scores.is_empty()) else { return String::new() };
    let mut table = head(&["", "dense", "compressed", "difference"]);
    let mut charts = String::new();
    for score in &run.scores {
        let dense = score.dense.map(|dense| format!("{dense:.4}")).unwrap_or_default();
        let difference = score.dense.map(|dense| format!("{:+.4}", score.compressed - dense)).unwrap_or_default();
        let better = if score.higher_is_better { "higher is better" } else { "lower is better" };
        table += &row(&[format!("{} ({better})", score.name), dense, format!("{:.4}", score.compressed), difference]);
        let mut dense = Vec::new();
        let mut points = Vec::new();
        for (report, run) in [(report, run)].into_iter().chain(others.iter().map(|(report, run)| (report, run))) {
            for found in run.scores.iter().filter(|found| found.name == score.name) {
                let label = format!("{} by {}", percent(report.linear.params_share()), report.executor);
                points.push(((report.file.after.params as f64 / 1e6, found.compressed), label));
                dense.extend(found.dense.map(|dense| (report.file.before.params as f64 / 1e6, dense)));
            }
        }
        dense.dedup();
        let (points, labels) = points.into_iter().unzip();
        let series = |name: &str, colour, points, labels| Series {
            name: name.into(),
            mark: Mark::Points,
            colour,
            points,
            labels,
        };
        let chart = Chart {
            x_label: "millions of parameters in the file",
            y_label: "score",
            logarithmic: false,
            from_zero: false,
            series: vec![series("dense", 1, dense, Vec::new()), series("compressed", 0, points, labels)],
        };
        charts += &figure(&chart, &format!("{} against size: compressed (blue) and dense (orange).", score.name));
    }
    section("Scores", &format!("<table>\n{table}</table>\n{charts}"))
}

fn errors(report: &Report) -> String {
    let series = |name: &str, colour: usize, error: &dyn Fn(&super::LayerResult) -> Option<f64>| {
        let found = report.layers.iter().enumerate().filter_map(|(at, layer)| Some((at, layer, error(layer)?)));
        let (points, labels) = found.map(|(at, layer, error)| ((at as f64, error), layer.name.clone())).unzip();
        Series { name: name.into(), mark: if colour == 0 { Mark::Bars } else { Mark::Points }, colour, points, labels }
    };
    let chart = Chart {
        x_label: "linear layer, in the order of the network",
        y_label: "relative error",
        logarithmic: false,
        from_zero: true,
        series: vec![
            series("weights", 0, &|layer| layer.weight_error),
            series("outputs", 1, &|layer| layer.output_error),
        ],
    };
    let caption = "Relative errors of the weights (bars), and of the outputs on the calibration's inputs when the layers were \
                   fitted (dots). Point at a layer for its name.";
    section("Errors of the layers", &figure(&chart, caption))
}

fn blocks(report: &Report) -> String {
    if report.blocks.is_empty() {
        return String::new();
    }
    let mut table = head(&["block", "share α", "error when fitted", "error when refined", "steps"]);
    for block in &report.blocks {
        let alpha = block.alpha.map(number).unwrap_or_default();
        let (refined, steps) = match &block.refinement {
            Some(refined) => (number(refined.lowered()[1]), refined.steps.to_string()),
            None => Default::default(),
        };
        table += &row(&[block.block.to_string(), alpha, number(block.output_error), refined, steps]);
    }
    let distilled = report.distillation.map(|found| {
        let [before, after] = found.lowered().map(number);
        let what = found.divergence.map_or("relative error of the model's output", |_| "divergence of the next token");
        format!("<p>Distillation, {} steps: {what} {before} before, {after} afterwards.</p>\n", found.steps)
    });
    let note =
        "<p>Relative errors of the blocks' outputs on held-out text, behind the compressed blocks before them.</p>\n";
    section("Blocks", &format!("{note}<table>\n{table}</table>\n{}", distilled.unwrap_or_default()))
}

fn singular_values(report: &Report, spectra: &[LayerSpectrum]) -> String {
    let position = |name: &str| report.layers.iter().position(|layer| layer.name == name).unwrap_or(0);
    let series = spectra.iter().map(|LayerSpectrum { layer, values }| {
        let largest = values.first().copied().unwrap_or(1.0).max(f64::MIN_POSITIVE);
        let count = values.len().max(1) as f64;
        // As many points as can be told apart.
        let step = values.len().div_ceil(240).max(1);
        let points = values.iter().enumerate().step_by(step).map(|(at, value)| (at as f64 / count, value / largest));
        let points = points.filter(|point| point.1 > 1e-8).collect();
        Series { name: layer.clone(), mark: Mark::Line, colour: position(layer), points, labels: Vec::new() }
    });
    let chart = Chart {
        x_label: "position, as a share of all",
        y_label: "singular value, relative",
        logarithmic: true,
        from_zero: false,
        series: series.collect(),
    };
    section(
        "Singular values of the dense weights",
        &figure(&chart, "One line for each compressed layer. The faster it falls, the better a layer compresses."),
    )
}

fn layers(report: &Report) -> String {
    let mut table =
        head(&["layer", "size", "structure", "parameters", "", "share", "error of the weight", "error of the outputs"]);
    for layer in &report.layers {
        let structure = layer.structure.map_or_else(|| "dense".to_string(), |structure| structure.to_string());
        let error = |error: Option<f64>| error.map(|error| format!("{error:.4}")).unwrap_or_default();
        table += &row(&[
            layer.name.clone(),
            format!("{} → {}", layer.d_input, layer.d_output),
            structure,
            grouped(layer.before.params),
            grouped(layer.after.params),
            percent(layer.after.params as f64 / layer.before.params.max(1) as f64),
            error(layer.weight_error),
            error(layer.output_error),
        ]);
    }
    section("Layers", &format!("<div class=\"wide\"><table>\n{table}</table></div>"))
}

fn origin(report: &Report, run: Option<&RunInfo>) -> String {
    let mut text = String::new();
    if let Some(command) = run.and_then(|run| run.command.as_deref()) {
        let _ = writeln!(text, "<pre>{}</pre>", escaped(command));
    }
    let mut table = String::new();
    let mut add = |name: &str, value: String| table += &row(&[name.to_string(), value]);
    add("program", report.tool.clone());
    add("executor", report.executor.clone());
    add("seed", report.seed.to_string());
    add("dense checkpoint", report.source.clone());
    add("run", report.run.clone());
    if let Some(run) = run {
        let environment = &run.environment;
        add("time", duration(run.seconds));
        if let Some(bytes) = run.peak_memory {
            add("peak memory", format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20)));
        }
        add("finished", date(run.finished));
        let processor = environment.processor.clone().unwrap_or_else(|| environment.arch.clone());
        add("machine", format!("{}, {processor}, {} threads", environment.os, environment.threads));
        add("device", environment.device.clone());
    }
    for (name, value) in &report.settings {
        add(name, value.clone());
    }
    let _ = write!(text, "<table>\n{table}</table>");
    section("How it was made", &text)
}

/// A whole number with its thousands apart.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

pub(super) fn duration(seconds: f64) -> String {
    if seconds < 120.0 { format!("{seconds:.1} s") } else { format!("{:.1} min", seconds / 60.0) }
}

/// The day of a time in seconds since 1970, in UTC (the days-to-civil algorithm of H. Hinnant).
pub(super) fn date(seconds: u64) -> String {
    let days = (seconds / 86_400) as i64 + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_735_689_599, "2024-12-31"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }

    #[test]
    fn grouped_separates_thousands() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
