//! Scratch memory that each thread keeps, so that a product does not pay for fresh pages every time.

use super::Scalar;

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;
/// A buffer longer than this many bytes is freed after use.
pub(super) const MAX_KEPT_BYTES: usize = 32 << 20;

/// The buffers that a thread keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Workspace {
    /// Intermediates that one call shares between its threads.
    Shared,
    /// The result of one product that another one continues from.
    Product,
    /// What one task needs for itself.
    Task,
}

/// Splits a buffer, grown if need be, into slices of the given lengths, each aligned to a cache line: a vector that crosses two lines
/// is loaded twice.
pub(crate) fn split_aligned<E: Scalar, const N: usize>(buffer: &mut Vec<E>, lengths: [usize; N]) -> [&mut [E]; N] {
    let line = LINE / size_of::<E>();
    let total = lengths.iter().map(|len| len.next_multiple_of(line)).sum::<usize>() + line;
    if buffer.len() < total {
        buffer.resize(total, E::ZERO);
    }
    let aligned = buffer.as_ptr().align_offset(LINE).min(line);
    let mut rest = &mut buffer[aligned..];
    lengths.map(|len| {
        let slice = rest.split_off_mut(..len.next_multiple_of(line)).expect("the buffer holds all slices");
        &mut slice[..len]
    })
}
