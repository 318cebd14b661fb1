//! Who multiplies tiles: the matrix instruction, or what stands in for it where there is none.

/// Who multiplies tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Multiply {
    /// The device's matrix instruction.
    Instruction,
    /// The kernel itself, with the same shares of a tile for each unit: a stand-in by which devices without the instruction can test
    /// what is around it. All units of a cube have to multiply together.
    #[cfg_attr(not(all(test, feature = "cpu")), allow(dead_code, reason = "only tests need the stand-in"))]
    Emulated,
}
