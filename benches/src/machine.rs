//! What the figures depend on besides the program.

use std::fs;
use std::path::Path;

use avocado_testbed::tools::ToolCall;

use crate::failure::Failure;

/// Says what is measured, and where.
pub(crate) fn describe(program: &Path, directory: &Path) -> Result<(), Failure> {
    let version = ToolCall::new(program).arg("--version").ok()?.stdout;
    let size = fs::metadata(program)
        .map_err(Failure::system("look at the program"))?
        .len();
    println!("program: {} ({size} bytes)", version.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "machine: {cores} cores, {}",
        line("/proc/cpuinfo", "model name")
    );
    println!("kernel: {}", read("/proc/sys/kernel/osrelease"));
    println!("file system: {}", file_system(directory)?);
    println!("load at the start: {}", load());
    Ok(())
}

/// The load averages over 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = read("/proc/loadavg");
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// The type of the file system that `directory` is on, and how it is mounted.
fn file_system(directory: &Path) -> Result<String, Failure> {
    let found = ToolCall::new("findmnt")
        .args(["--noheadings", "--output", "FSTYPE,OPTIONS", "--target"])
        .arg(directory)
        .ok()?;
    let words: Vec<_> = found.stdout.split_whitespace().collect();
    Ok(words.join(" "))
}

fn read(path: &str) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn line(path: &str, key: &str) -> String {
    let text = read(path);
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(name, _)| name.trim() == key);
    found.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}
