//! Where packages come from, and how they get into a tree.

pub(crate) mod dnf;
pub(crate) mod feed;
mod feed_repositories;
pub(crate) mod installed;
mod kernels;
mod lost;
pub(crate) mod repository;
pub(crate) mod version;
