//! What can be wrong with a device tree.

/// Why a device tree cannot be read, changed or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceTreeError {
    /// The bytes do not begin as a device tree does.
    #[error("this is not a flattened device tree")]
    NotATree,
    /// A layout that this program does not know.
    #[error(
        "the device tree has version {version}, readable for programs of version {compatible}; \
         this program reads 16 and 17"
    )]
    Version {
        /// The version of its layout.
        version: u32,
        /// The oldest version that it can be read as.
        compatible: u32,
    },
    /// A part of it is not where the header says.
    #[error("the device tree's {part} is outside of it or not aligned")]
    Bounds {
        /// Which part.
        part: &'static str,
    },
    /// What the file says makes no sense.
    #[error("the device tree is damaged at byte {offset}: {problem}")]
    Damaged {
        /// Where, from the beginning of the file.
        offset: usize,
        /// What is wrong there.
        problem: &'static str,
    },
    /// More than any machine needs.
    #[error("the device tree has {what}")]
    TooMuch {
        /// What there is too much of, and how much is allowed.
        what: &'static str,
    },
    /// A name that the file could not hold.
    #[error("{name:?} cannot be a name in a device tree")]
    Name {
        /// The name.
        name: String,
    },
    /// An empty reservation at address 0, which would end the list of them.
    #[error("an empty reservation at address 0 cannot be written")]
    EmptyReservation,
    /// The tree is not of a machine that idle states could be added to.
    #[error("no idle states for this device tree: {why}")]
    NoIdleStates {
        /// What is missing.
        why: &'static str,
    },
}
