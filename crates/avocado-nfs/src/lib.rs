//! Directories over NFS 4, by NFS-Ganesha, which is a program and needs no kernel module.
//!
//! [`NfsServer`] runs it in the foreground for as long as the value lives: it ends with this process
//! too, whatever ends that. [`ExportTree`] is what is exported, a copy that follows a tree that is
//! replaced as a whole, as builds do it: clients keep hold of files and directories by what they are,
//! not by their names.
// Nothing is built elsewhere, so there is nothing to export.
#![cfg(target_os = "linux")]

mod configuration;
mod error;
mod export_tree;
mod listener;
mod server;

pub use error::NfsError;
pub use export_tree::{ExportTree, REVISION_FILE};
pub use server::{
    NfsAccess, NfsClients, NfsExport, NfsServer, NfsServerOptions, PROGRAM, may_serve,
};
