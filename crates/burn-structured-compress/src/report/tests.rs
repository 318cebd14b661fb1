//! Pages of reports.

use super::*;
use crate::plan::{Change, Size};
use burn_structured_checkpoint::Orientation;
use std::collections::BTreeMap;

/// A report of two layers, with names that are hostile to pages.
pub(super) fn report() -> Report {
    let size = |params| Size { params, flops_per_token: 2 * params, bytes: 4 * params };
    let layer = |name: &str, structure: Option<&str>, error| LayerResult {
        name: name.into(),
        block: Some(0),
        d_input: 16,
        d_output: 16,
        orientation: Orientation::OutIn,
        structure: structure.map(|text| text.parse().unwrap()),
        before: size(256),
        after: size(128),
        weight_error: error,
        output_error: error,
    };
    Report {
        format: FORMAT,
        tool: "tool 1".into(),
        executor: "blockwise".into(),
        run: "run".into(),
        seed: 3,
        model: "<script>alert(1)</script>|\n`".into(),
        source: "source".into(),
        settings: BTreeMap::from([("steps".to_string(), "5".to_string())]),
        layers: vec![layer("a<b>|c", Some("low-rank:r=4"), Some(0.25)), layer("b", None, None)],
        blocks: vec![BlockResult {
            block: 0,
            alpha: Some(0.25),
            output_error: 0.2,
            refinement: Some(RefineResult { steps: 7, before: 0.2, after: 0.1 }),
        }],
        distillation: Some(DistillResult { steps: 9, before: 0.1, after: 0.05, divergence: None }),
        linear: Change { before: size(512), after: size(384) },
        file: Change { before: size(1512), after: size(1384) },
        changed: vec!["norm".into()],
        files: Vec::new(),
    }
}

fn run() -> RunInfo {
    let mut run = RunInfo::now(Some("compress 'a ``` <b>'".into()), 150.0, "flex".into());
    run.add_score(Score { name: "STS <dev>".into(), higher_is_better: true, dense: Some(0.86), compressed: 0.85 });
    run
}

#[test]
fn html_is_self_contained_and_escaped() {
    let (report, run) = (report(), run());
    let spectra = [LayerSpectrum { layer: "a<b>|c".into(), values: vec![4.0, 2.0, 0.0] }];
    let others = [(report.clone(), run.clone())];
    let page = html(&Page { report: &report, run: Some(&run), spectra: &spectra, others: &others });
    assert!(!page.contains("<script") && !page.contains("a<b>") && !page.contains("<dev>"));
    assert!(!page.contains("http") && !page.contains("src="), "another file is needed");
    for part in ["low-rank:r=4", "0.2500", "STS &lt;dev&gt;", "compress &#39;a", "Singular values", "<svg", "2.5 min"] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(page.matches("<svg").count(), 3);
    assert_eq!(page.matches("<table>").count(), page.matches("</table>").count());
    // Without what takes more than the report.
    assert_eq!(html(&Page::new(&report)).matches("<svg").count(), 1);
}

#[test]
fn model_card_survives_any_name() {
    let card = model_card(&report(), Some(&run()));
    assert!(card.starts_with("# &lt;script>alert(1)&lt;/script>|  , compressed\n"), "{card}");
    assert!(card.contains("| a&lt;b>\\|c | low-rank:r=4 | 50.0 % | 0.2500 | 0.2500 |"), "{card}");
    assert!(card.contains("75.0 % of the parameters"), "{card}");
    assert!(card.contains("\n``````text\ncompress"), "{card}");
    assert!(!model_card(&report(), None).contains("```text"));
}

#[test]
fn report_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let report = report();
    report.save(folder.path()).unwrap();
    assert_eq!(Report::load(folder.path()).unwrap(), report);
    let path = folder.path().join("report.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"format\": 1", "\"format\": 2")).unwrap();
    let error = Report::load(folder.path()).unwrap_err().to_string();
    assert!(error.contains("report.json") && error.contains("format 2"), "{error}");
    std::fs::write(&path, "[".repeat(100_000)).unwrap();
    assert!(Report::load(folder.path()).is_err());
}
