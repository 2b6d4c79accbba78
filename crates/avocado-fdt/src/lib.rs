//! A flattened device tree (DTB): read, change, write.
//!
//! [`DeviceTree::parse`] takes any bytes: every offset and length is checked, and size and depth have
//! bounds. [`DeviceTree::to_bytes`] writes version 17, as compact as it goes. [`idle_states::add`] makes
//! the processors of an arm64 guest sleep deeper.
//!
//! ```
//! use avocado_fdt::{DeviceTreeNode, DeviceTree};
//!
//! let mut tree = DeviceTree::default();
//! tree.root.set_text("compatible", "linux,dummy-virt");
//! tree.root.children.push(DeviceTreeNode::new("chosen"));
//! let bytes = tree.to_bytes()?;
//! assert_eq!(DeviceTree::parse(&bytes)?, tree);
//! # Ok::<(), avocado_fdt::DeviceTreeError>(())
//! ```

mod error;
mod format;
pub mod idle_states;
mod read;
mod tree;
mod write;

pub use error::DeviceTreeError;
pub use format::{MAX_DEPTH, MAX_NAME, MAX_SIZE};
pub use tree::{DeviceTree, DeviceTreeNode, DeviceTreeProperty, MemoryReservation};
