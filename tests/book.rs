//! The book is complete: every page is in the summary, and every relative link leads somewhere.
//!
//! Paths are relative to the package, in whose folder Cargo runs its tests.

use std::path::Path;

fn pages() -> Vec<(String, String)> {
    let folder = Path::new("book/src");
    let mut pages: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap()))
        .collect();
    pages.sort();
    pages
}

/// The targets of `[text](target)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[test]
fn summary_lists_every_page() {
    let pages = pages();
    let (_, summary) = pages.iter().find(|(name, _)| name == "SUMMARY.md").expect("a summary");
    for (name, _) in pages.iter().filter(|(name, _)| name != "SUMMARY.md") {
        assert!(links(summary).any(|link| link == name), "{name} is not in the summary");
    }
}

#[test]
fn relative_links_lead_to_files() {
    let root = Path::new("");
    let readme = ("README.md".to_string(), std::fs::read_to_string(root.join("README.md")).unwrap());
    let all = pages().into_iter().map(|page| (root.join("book/src"), page)).chain([(root.to_owned(), readme)]);
    for (folder, (name, text)) in all {
        for link in links(&text).filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let file = link.split('#').next().unwrap_or_default();
            assert!(folder.join(file).exists(), "{name} links to {link}, which is not there");
        }
    }
}
