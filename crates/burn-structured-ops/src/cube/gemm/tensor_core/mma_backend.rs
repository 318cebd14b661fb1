//! The matrix instruction, or its emulation for tests.

/// What multiplies tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MmaBackend {
    /// The device's matrix instruction.
    Instruction,
    /// Plain arithmetic with the same fragment layout, so that devices without the instruction can test the kernel around it.
    /// All units of a cube have to take part together.
    #[cfg_attr(not(all(test, feature = "cpu")), allow(dead_code, reason = "only tests emulate it"))]
    Emulated,
}
