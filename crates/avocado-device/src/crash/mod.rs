//! Every state in which a crash can leave the store, and whether the agent lives with it.
//!
//! What an operation does to the disk is recorded (`avocado_fs::recorded`), what the repository's
//! client does for it included. After each of its steps, everything that was not synced by then may
//! be there or not: the entries of a directory in any combination, the bytes of a file not at all,
//! in part, whole, or as zeros. Each such state is put into a directory of its own and looked at;
//! then the operation is done again there.
#![allow(clippy::print_stderr)]

mod os_update;
mod scenario;
mod store;
