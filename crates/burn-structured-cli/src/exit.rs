//! The exit codes, which the help text documents.

/// Success.
pub const OK: u8 = 0;
/// The command failed; standard error says why in one line.
pub const FAILED: u8 = 1;
/// The arguments are wrong, as in clap's own errors.
pub const USAGE: u8 = 2;
/// `verify` found a difference.
pub const UNVERIFIED: u8 = 3;
/// Ended by Ctrl-C or a termination signal: 128 + SIGINT.
pub const INTERRUPTED: u8 = 130;
