//! Directory trees: copying, overlaying, digesting, replacing; and the users, groups and seed
//! files in them.

mod bytecode;
mod checkout;
mod content;
mod copy;
mod digest;
mod hiding;
mod list;
pub(crate) mod merged;
mod modes;
pub(crate) mod passwd;
mod replace;
mod times;
mod tree;
pub(crate) mod var_files;

pub(crate) use checkout::modes_of_no_clone;
pub(crate) use copy::{copy, make_parents, of_project};
pub(crate) use digest::{add_entry, content_of_file, content_of_other, digest, digest_with_times};
pub(crate) use hiding::{MERGED_DIRECTORIES, hidden_parts, remove_unused_directories};
pub(crate) use list::list_of;
pub(crate) use modes::CopyModes;
pub(crate) use replace::{clear, fresh, hidden, replace, unfinished, write};
pub(crate) use times::{began_at, settle_times};
pub(crate) use tree::{Tree, is};
