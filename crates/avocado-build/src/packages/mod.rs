//! Where packages come from, and how they get into a tree.

pub(crate) mod dnf;
pub(crate) mod feed;
mod indexes;
pub(crate) mod installed;
mod lost;
pub(crate) mod version;
