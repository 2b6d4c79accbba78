//! A tree as one stream: a pax archive in which it is the directory `tree`. What is read from one may be
//! of a stranger, and comes into a tree by [`Tree`](super::Tree) alone.

mod headers;
mod holes;
mod order;
mod pack;
#[cfg(test)]
mod tests;
mod unpack;

pub(crate) use self::headers::CheckedHeaders;
pub(crate) use self::holes::copy_with_holes;
pub(crate) use self::pack::{PackedAmount, pack};
pub(crate) use self::unpack::{states_size, unpack};
use crate::error::BuildError;

/// What the tree is in the archive.
const ROOT: &str = "tree";

/// The standard record of a time with its fraction.
const TIME: &str = "mtime";

/// The standard record of a length. None is written: the header has room for every length.
const SIZE: &str = "size";

/// Our record of extended attributes, which may be of any bytes: records of others end with lines.
const ATTRIBUTES: &str = "AVOCADO.attributes";

/// Whether devices are in an archive. The one with the numbers 0 and 0 always may be: an overlay marks
/// with it what it hides, and no driver answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ArchivedDevices {
    /// As they are in the tree.
    Kept,
    /// Any is an error: one that everybody may open would give a disk to everybody.
    Refused,
}

fn strange(what: &str) -> BuildError {
    BuildError::Invalid(format!("the archive of a tree {what}"))
}
