//! Files that change whole or not at all.
//!
//! - [`write()`] and [`WriteOptions`] replace a file: a reader, a crash or a power cut leaves the old
//!   bytes or the new ones.
//! - [`LockPlace`] is where a lock between processes is, and [`FileLock`] is that lock while it is
//!   held.
//! - [`read_at_most`] and [`read_if_there`] read files that are small by their nature, and refuse
//!   others; [`remove_tree`] removes whatever is at a path, [`remove_oldest`] what a cache has too much; [`find_program`] looks for one as PATH does.
//! - [`recorded`] has one function for each system call that changes a disk. All of the above goes
//!   through it, and so does the device's store. With the feature `record`, which only tests turn
//!   on, a `crash::Recorder` sees each call, and a `crash::Disk` makes from them every state in
//!   which a crash can leave the disk.
//!
//! Every error is a [`PathError`], which names what was done to which path.

mod below;
#[cfg(feature = "record")]
pub mod crash;
mod error;
mod lock;
#[cfg(target_os = "linux")]
mod locking_process;
mod private;
mod program;
mod read;
pub mod recorded;
mod remove;
mod shrink;
mod write;

pub use below::leads_below;
pub use error::{AtPath, PathError};
pub use lock::{FileLock, LockPlace, lock_file_beside};
#[cfg(target_os = "linux")]
pub use locking_process::LockingProcess;
pub use private::{OpenFileWarning, open_to_others};
pub use program::find_program;
pub use read::{
    file_names, open_file, read_at_most, read_if_there, read_stream_at_most, same_file,
};
pub use remove::{remove_file_if_there, remove_tree};
pub use shrink::remove_oldest;
pub use write::{
    Durability, PendingFile, TemporaryName, WriteOptions, create_directories, link_or_copy,
    sync_directory, write,
};
