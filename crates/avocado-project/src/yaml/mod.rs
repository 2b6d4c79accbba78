//! YAML as a tree that knows where each part of it was written.

mod parse;
mod scalar;
mod tree;

pub(crate) use parse::{MAX_BYTES, parse};
pub(crate) use tree::{Entry, Key, Node, Scalar, Style, Value};
