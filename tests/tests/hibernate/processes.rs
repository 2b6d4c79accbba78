//! Processes of a VM, as the kernel shows them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use avocado_testbed::tools::find;

use crate::harness::LONG;

/// Processes whose command line names the directory: QEMU, supervisor, tunnel.
pub(crate) fn processes_of(directory: &Path) -> Vec<u32> {
    let name = directory.to_string_lossy();
    all(|process| line_of(process).contains(&*name))
}

/// With what a process was started; empty where there is none.
pub(crate) fn command_line(pid: u32) -> String {
    line_of(&Path::new("/proc").join(pid.to_string()))
}

fn line_of(process: &Path) -> String {
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).into_owned()
}

/// Processes that work in a directory or below: the TPM names no other place.
pub(crate) fn working_in(directory: &Path) -> Vec<u32> {
    all(|process| {
        let place = fs::read_link(process.join("cwd"));
        place.is_ok_and(|place| place.starts_with(directory))
    })
}

/// The processes whose directory in /proc shows this.
fn all(shows: impl Fn(&Path) -> bool) -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        shows(&entry.path()).then_some(pid)
    });
    pids.collect()
}

pub(crate) fn kill(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// Waits until a process is gone; a zombie is.
pub(crate) fn until_gone(pid: u32) {
    let deadline = Instant::now() + LONG;
    while is_alive(pid) {
        assert!(Instant::now() < deadline, "process {pid} does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A zombie is none, once all its threads have ended: until then its sockets are open.
pub(crate) fn is_alive(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    if threads.is_ok_and(|threads| threads.count() > 1) {
        return true;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.starts_with('Z'));
    state == Some(false)
}

/// Waits until a process has this many children, zombies among them. They are counted by the parent
/// that each names: the kernel's list for each thread moves to another thread when one ends.
pub(crate) fn until_children(parent: u32, count: usize, why: &str) {
    let deadline = Instant::now() + LONG;
    loop {
        let all = all(|process| parent_of(process) == Some(parent));
        if all.len() == count {
            return;
        }
        let lines: Vec<String> = all.iter().map(|pid| command_line(*pid)).collect();
        assert!(Instant::now() < deadline, "{why}: {all:?} {lines:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn parent_of(process: &Path) -> Option<u32> {
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(1)?.parse().ok()
}

/// How many processes of the supervisor a VM needs: QEMU, and the TPM where there can be one.
pub(crate) fn of_the_machine() -> usize {
    1 + usize::from(find("swtpm").is_some())
}
