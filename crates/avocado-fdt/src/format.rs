//! The layout of the file, and its bounds: the numbers that reading and writing share
//! (Devicetree Specification, chapter 5).

/// What a device tree may have at most, in bytes: Linux takes no larger one on arm64.
pub const MAX_SIZE: usize = 2 << 20;
/// How deep nodes may be nested, the root included.
pub const MAX_DEPTH: usize = 64;
/// How long a name may be, in bytes.
pub const MAX_NAME: usize = 255;

pub(crate) const MAGIC: u32 = 0xd00d_feed;
/// The layout that is written.
pub(crate) const VERSION: u32 = 17;
/// The oldest layout that is read; what is written can be read as this one.
pub(crate) const COMPATIBLE: u32 = 16;

/// What the structure is made of.
pub(crate) mod token {
    pub(crate) const BEGIN_NODE: u32 = 1;
    pub(crate) const END_NODE: u32 = 2;
    pub(crate) const PROPERTY: u32 = 3;
    pub(crate) const NOP: u32 = 4;
    pub(crate) const END: u32 = 9;
}

/// Whether a node may have this name, or with `root` the root.
pub(crate) fn is_node_name(name: &str, root: bool) -> bool {
    name.len() <= MAX_NAME && !name.contains(['\0', '/']) && name.is_empty() == root
}

/// Whether a property may have this name.
pub(crate) fn is_property_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.contains('\0')
}
