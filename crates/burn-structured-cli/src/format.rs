//! Numbers for people.

/// A count with three digits and a unit: `950`, `22.7 M`.
pub fn count(value: u64) -> String {
    scaled(value, 1000.0, &["", " k", " M", " G", " T"])
}

/// A size in bytes: `512 B`, `86.7 MiB`.
pub fn bytes(value: u64) -> String {
    scaled(value, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

fn scaled(value: u64, base: f64, units: &[&str]) -> String {
    let (mut scaled, mut unit) = (value as f64, 0);
    // 999.95 would be printed as 1000.0.
    while scaled >= base * 0.99995 && unit + 1 < units.len() {
        scaled /= base;
        unit += 1;
    }
    if unit == 0 { format!("{value}{}", units[0]) } else { format!("{scaled:.1}{}", units[unit]) }
}

/// A share in percent: `48.7 %`; `-` of nothing.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "-".into() } else { format!("{:.1} %", 100.0 * part as f64 / whole as f64) }
}

/// A duration: `0.35 s`, `12 s`, `3 min 05 s`, `2 h 10 min`.
pub fn seconds(value: f64) -> String {
    match value {
        value if value < 10.0 && value.fract() != 0.0 => format!("{value:.2} s"),
        value if value < 60.0 => format!("{value:.0} s"),
        value => {
            let whole = value.round() as u64;
            let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
            if hours > 0 { format!("{hours} h {minutes:02} min") } else { format!("{minutes} min {seconds:02} s") }
        }
    }
}

/// An error: four digits behind the point, or an exponent where that leaves too few.
pub fn error(value: f64) -> String {
    if value == 0.0 || value >= 0.01 { format!("{value:.4}") } else { format!("{value:.1e}") }
}

/// A shape: `384×1536`; `scalar` without dimensions.
pub fn shape(dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    if dims.is_empty() { "scalar".into() } else { dims.join("×") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_units() {
        assert_eq!([count(0), count(950), count(999_999), count(22_713_216)], ["0", "950", "1.0 M", "22.7 M"]);
        assert_eq!([bytes(512), bytes(90_868_376)], ["512 B", "86.7 MiB"]);
        assert_eq!([percent(1, 2), percent(0, 0)], ["50.0 %", "-"]);
        assert_eq!(
            [seconds(0.346), seconds(59.0), seconds(185.0), seconds(7801.0)],
            ["0.35 s", "59 s", "3 min 05 s", "2 h 10 min"]
        );
        assert_eq!([error(0.53456), error(0.00012), error(0.0)], ["0.5346", "1.2e-4", "0.0000"]);
        assert_eq!([shape(&[384, 1536]), shape(&[])], ["384×1536", "scalar"]);
    }
}
