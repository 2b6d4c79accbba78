//! Where packages come from, and how they get into a tree.

pub(crate) mod dnf;
mod dnf_output;
pub(crate) mod feed;
mod feed_repositories;
mod indexes;
pub(crate) mod installed;
mod kernels;
mod lost;
pub(crate) mod repository;
pub(crate) mod version;
