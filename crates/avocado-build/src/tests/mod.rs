//! Whole builds, with a backend that makes small files instead of starting tools.

mod accounts;
mod bill;
mod clean_part;
mod compile;
mod explain;
pub(crate) mod fake_backend;
mod goals;
pub(crate) mod graphs;
mod hostile_trees;
mod kernels;
mod lock;
mod needed;
mod never_stale;
mod provenance;
mod reading;
mod scriptlets;
mod sdk;
mod sources;
mod stamp_inputs;
mod strict;
pub(crate) mod test_project;
mod uninstall;
