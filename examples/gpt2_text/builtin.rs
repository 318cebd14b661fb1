//! The text that the program has without any file: the documentation of this repository.

/// Its name on every output.
pub const NAME: &str = "built-in text";

const PAGES: [&str; 19] = [
    include_str!("../../README.md"),
    include_str!("../../book/src/introduction.md"),
    include_str!("../../book/src/first-layer.md"),
    include_str!("../../book/src/structures.md"),
    include_str!("../../book/src/blast.md"),
    include_str!("../../book/src/ss1.md"),
    include_str!("../../book/src/approximation.md"),
    include_str!("../../book/src/factorization.md"),
    include_str!("../../book/src/calibration.md"),
    include_str!("../../book/src/vision-transformer.md"),
    include_str!("../../book/src/support.md"),
    include_str!("../../book/src/architecture.md"),
    include_str!("../../book/src/benchmarks.md"),
    include_str!("../../benches/results/epyc-2-cores-avx512/README.md"),
    include_str!("../../crates/burn-structured-ops/README.md"),
    include_str!("../../crates/burn-structured-nn/README.md"),
    include_str!("../../crates/burn-structured-compress/README.md"),
    include_str!("../../crates/burn-structured-models/README.md"),
    include_str!("../../crates/burn-structured-train/README.md"),
];

/// All pages, one after the other.
pub fn text() -> String {
    PAGES.join("\n\n")
}
