//! The book is complete: every page is in the summary and short enough, and every link, anchor and picture leads somewhere.
//!
//! Paths are relative to the package, in whose folder Cargo runs its tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const BOOK: &str = "book/src";
/// The most words of a page, as `wc -w` counts them.
const MOST_WORDS: usize = 1200;

/// The pages of the book by file name.
fn pages() -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(BOOK).expect("the book").map(|entry| entry.expect("an entry").path());
    let pages = entries.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.map(|path| (path.file_name().expect("a name").to_string_lossy().into_owned(), read(&path))).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text without fenced code.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fence && !fenced
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// The targets of `[text](target)` and `![text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// The anchors of a page's headings, as mdBook and GitHub make them: lower case, hyphens for spaces, no punctuation.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).lines().filter(|line| line.starts_with('#')).map(str::to_lowercase).collect::<Vec<_>>();
    let anchor = |heading: &String| {
        let title = heading.trim_start_matches('#').trim();
        let kept = title.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
        kept.map(|char| if char == ' ' { '-' } else { char }).collect()
    };
    headings.iter().map(anchor).collect()
}

/// Whether a link stays in this repository.
fn is_relative(link: &str) -> bool {
    !link.contains("://")
}

/// Every Markdown file that people read, with its folder.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths: Vec<PathBuf> = pages().keys().map(|name| Path::new(BOOK).join(name)).collect();
    paths.push("README.md".into());
    paths.push("benches/external/README.md".into());
    for folder in ["crates", "benches/results"] {
        let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        paths.extend(entries.map(|path| path.join("README.md")).filter(|path| path.exists()));
    }
    paths.push("benches/results/README.md".into());
    paths.into_iter().map(|path| (path.clone(), read(&path))).collect()
}

#[test]
fn summary_lists_every_page() {
    let pages = pages();
    let listed: Vec<&str> = links(&pages["SUMMARY.md"]).collect();
    for name in pages.keys().filter(|name| *name != "SUMMARY.md") {
        assert!(listed.contains(&name.as_str()), "{name} is not in the summary");
    }
    for link in listed {
        assert!(pages.contains_key(link), "the summary lists {link}, which is not there");
    }
}

#[test]
fn summary_has_four_parts() {
    let pages = pages();
    let parts: Vec<&str> = pages["SUMMARY.md"].lines().filter(|line| line.starts_with("# ")).collect();
    assert_eq!(parts, ["# Summary", "# Use", "# Understand", "# Extend", "# Reference"]);
}

#[test]
fn page_is_short_and_has_one_title() {
    for (name, text) in pages() {
        let words = text.split_whitespace().count();
        assert!(words <= MOST_WORDS, "{name} has {words} words");
        let titles = prose(&text).lines().filter(|line| line.starts_with("# ")).count();
        assert!(titles == 1 || name == "SUMMARY.md", "{name} has {titles} titles");
    }
}

#[test]
fn relative_links_lead_to_files_and_headings() {
    for (path, text) in documents() {
        let folder = path.parent().expect("a folder");
        let prose = prose(&text);
        for link in links(&prose).filter(|link| is_relative(link)) {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            assert!(!file.starts_with('/'), "{}: {link} begins at the root", path.display());
            let target = if file.is_empty() { path.clone() } else { folder.join(file) };
            assert!(target.exists(), "{} links to {link}, which is not there", path.display());
            if let Some(anchor) = anchor {
                assert!(anchors(&read(&target)).contains(anchor), "{}: {link} has no such heading", path.display());
            }
        }
    }
}

/// A page's code is compiled by the documentation tests of a crate that includes it.
#[test]
fn code_of_every_page_is_compiled() {
    let crates = ["src/lib.rs", "crates/burn-structured-ops/src/lib.rs"].map(|path| read(Path::new(path))).concat();
    for (name, text) in pages() {
        let included = crates.contains(&format!("book/src/{name}\")]"));
        assert_eq!(text.lines().any(|line| line.starts_with("```rust")), included, "{name}");
    }
}

/// mdBook turns a link to a page into one to HTML, and copies the other files of the book's folder.
#[test]
fn built_book_has_what_it_links_to() {
    for (name, text) in pages() {
        let prose = prose(&text);
        for link in links(&prose).filter(|link| is_relative(link) && link.starts_with("../")) {
            assert!(!link.contains(".md"), "{name} links to {link}, which is no page of the book; link to its folder");
        }
        for picture in prose.split("![").skip(1).filter_map(|rest| links(rest).next()) {
            assert!(picture.starts_with("figures/"), "{name} shows {picture}, which is not in the book's folder");
        }
    }
}

#[test]
fn pictures_of_results_are_those_beside_the_results() {
    let figures = Path::new(BOOK).join("figures");
    let mut found: BTreeMap<PathBuf, bool> = BTreeMap::new();
    let results = std::fs::read_dir("benches/results").expect("results").map(|entry| entry.expect("an entry").path());
    for folder in results.chain(["benches/results".into()]) {
        let files = std::fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.expect("an entry").path());
        for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "svg")) {
            let copy = figures.join(file.file_name().expect("a name"));
            if copy.exists() {
                // Several folders may have a picture of a name; the book shows one of them.
                let same = read(&copy) == read(&file);
                *found.entry(copy).or_default() |= same;
            }
        }
    }
    assert!(!found.is_empty(), "no picture of the results is in the book");
    for (copy, same) in found {
        assert!(same, "{} is none of benches/results; run the benchmark with --summary", copy.display());
    }
}

#[test]
fn features_page_has_every_feature() {
    let manifest = read(Path::new("Cargo.toml"));
    let features = manifest.split("\n[features]\n").nth(1).and_then(|rest| rest.split("\n[").next()).expect("features");
    let names: Vec<&str> = features.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name).collect();
    let page = &pages()["features.md"];
    assert!(names.contains(&"flex"), "{names:?}");
    for name in names.iter().filter(|name| **name != "default") {
        assert!(page.contains(&format!("`{name}`")), "features.md lacks {name}");
    }
}

#[test]
fn anchor_is_the_heading_in_lower_case() {
    let found = anchors("# A, b!\n```\n# no heading\n```\n## `c` and d_e\n");
    assert_eq!(found, ["a-b", "c-and-d_e"].map(String::from).into());
}
