//! Names of layers in checkpoints, which may have a prefix.

/// Whether `full` is `name` behind a prefix such as `bert.`, or without one.
pub(crate) fn is_suffix(full: &str, name: &str) -> bool {
    full.strip_suffix(name).is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('.'))
}
