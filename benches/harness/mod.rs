//! What the benchmarks share: how candidates are timed, on which machine and commit, and where results go.

#![allow(dead_code, reason = "each benchmark uses the part it needs")]

pub mod file;
pub mod machine;
pub mod measure;
pub mod provenance;

/// Whether `cargo test` started this program, not `cargo bench`, which says `--bench`: then it only has to show that it works.
pub fn is_a_test() -> bool {
    !std::env::args().any(|argument| argument == "--bench")
}
