//! Directory trees: copying, overlaying, digesting, replacing; and the users, groups and seed
//! files in them.

pub(crate) mod archive;
mod attributes;
mod bytecode;
mod checkout;
mod content;
mod copied;
mod copy;
mod digest;
mod hiding;
mod list;
pub(crate) mod merged;
mod modes;
pub(crate) mod passwd;
mod paths;
mod replace;
mod settle;
mod state;
mod tree;
pub(crate) mod var_files;

#[cfg(test)]
pub(crate) use attributes::set_attribute;
pub(crate) use attributes::{attributes, content_of_attributes};
pub(crate) use checkout::{lost_in_clones, refuse_special};
pub(crate) use copied::CopiedFiles;
pub(crate) use copy::{copy, copy_of_project, copy_without, make_parents, of_project};
pub(crate) use digest::{
    add_entry, content_of_file, content_of_other, digest, digest_of_copied, digest_of_project,
    digest_with_times,
};
pub(crate) use hiding::{MERGED_DIRECTORIES, hidden_parts, remove_unused_directories};
pub(crate) use list::list_of;
pub(crate) use modes::{CopyModes, checkout_mode};
pub(crate) use paths::{link_stays_inside, paths_of};
pub(crate) use replace::{clear, fresh, hidden, put_away, recover, replace, unfinished, write};
pub(crate) use settle::{TreeFeatures, began_at, settle, settle_copied};
pub(crate) use state::{has_state, state_before_reading};
pub(crate) use tree::{Tree, is};
