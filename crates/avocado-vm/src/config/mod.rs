//! `config.yaml`: what the user wants of the VM. Others write it as well (the desktop
//! application), and people comment it: a change touches what it has to, and nothing else.

mod document;
mod file;
mod problem;
mod schema;
#[cfg(test)]
mod tests;

pub use file::VmConfigFile;
pub use problem::ConfigProblem;
pub use schema::{KEYS, VmConfig, default_of};
