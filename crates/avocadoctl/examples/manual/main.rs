//! Writes the man pages and the shell completions of avocadoctl, from the same definitions that
//! read its arguments. The device's program does not have to carry them.
//!
//! `cargo run -p avocadoctl --example manual -- crates/avocadoctl/share` brings those in the tree
//! up to date, and a test says when they are not.

mod pages;

use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    let directory = std::env::args_os().nth(1);
    let directory = directory.ok_or_else(|| io::Error::other("usage: manual DIRECTORY"))?;
    pages::write(Path::new(&directory))
}
