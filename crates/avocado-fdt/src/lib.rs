//! A flattened device tree (DTB): read, change, write.
//!
//! [`Tree::parse`] takes any bytes: every offset and length is checked, and size and depth have
//! bounds. [`Tree::to_bytes`] writes version 17, as compact as it goes. [`idle_states::add`] makes
//! the processors of an arm64 guest sleep deeper.
//!
//! ```
//! use avocado_fdt::{Node, Tree};
//!
//! let mut tree = Tree::default();
//! tree.root.set_text("compatible", "linux,dummy-virt");
//! tree.root.children.push(Node::new("chosen"));
//! let bytes = tree.to_bytes()?;
//! assert_eq!(Tree::parse(&bytes)?, tree);
//! # Ok::<(), avocado_fdt::Error>(())
//! ```

mod error;
pub mod idle_states;
mod read;
mod tree;
mod write;

pub use error::Error;
pub use tree::{Node, Property, Reservation, Tree};

/// What a device tree may have at most, in bytes: Linux takes no larger one on arm64.
pub const MAX_SIZE: usize = 2 << 20;
/// How deep nodes may be nested, the root included.
pub const MAX_DEPTH: usize = 64;
/// How long a name may be, in bytes.
pub const MAX_NAME: usize = 255;

const MAGIC: u32 = 0xd00d_feed;
/// The layout that is written.
const VERSION: u32 = 17;
/// The oldest layout that is read; what is written can be read as this one.
const COMPATIBLE: u32 = 16;

/// What the structure is made of.
mod token {
    pub(crate) const BEGIN_NODE: u32 = 1;
    pub(crate) const END_NODE: u32 = 2;
    pub(crate) const PROPERTY: u32 = 3;
    pub(crate) const NOP: u32 = 4;
    pub(crate) const END: u32 = 9;
}

/// Whether a node may have this name, or with `root` the root.
fn is_node_name(name: &str, root: bool) -> bool {
    name.len() <= MAX_NAME && !name.contains(['\0', '/']) && name.is_empty() == root
}

/// Whether a property may have this name.
fn is_property_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.contains('\0')
}
