//! Tests that mount: each case runs in a process with a mount namespace of its own.
#![allow(dead_code, unreachable_pub, unused_imports, unused_macros)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The mounts that were there when the namespace was made.
static INHERITED: OnceLock<BTreeSet<String>> = OnceLock::new();

const INSIDE: &str = "AVOCADO_TEST_INSIDE";

/// Tests of the functions `of::name`, which `run` is given with their names. Each runs alone as well as
/// with the others: `cargo test --test FILE NAME`.
macro_rules! cases {
    ($run:ident($of:ident): $($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            $run(stringify!($name), $of::$name);
        })*
    };
}
pub(crate) use cases;

/// Whether a program is there.
pub fn exists(program: &str) -> bool {
    let status = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok()
}

/// Runs a test's `body` in a process with a mount namespace of its own. Where that is not possible,
/// or one of `programs` is not there, the test is skipped.
pub fn with_own_mounts(test: &str, programs: &[&str], body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        INHERITED.set(mounts()).unwrap();
        return body();
    }
    let root = rustix::process::geteuid().is_root();
    let mut programs = programs.iter().chain(&["unshare"]);
    let missing = programs.find(|program| !exists(program));
    if !root || missing.is_some() || !Path::new("/dev/loop-control").exists() {
        let missing = missing.unwrap_or(&"nothing else");
        let why = format!("it needs root, loop devices, and {missing}");
        avocado_test_support::skip(test, why);
        return;
    }
    let status = Command::new("unshare")
        .args(["--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(status.unwrap().success());
}

/// How many mounts were made in this namespace and are there. What it inherited does not count: of
/// that some go when others on this machine remove the directories that they are at.
pub fn mount_count() -> usize {
    mounts().difference(INHERITED.get().unwrap()).count()
}

/// Each by its id, which another one may get when it is gone, its device, its root and its place.
fn mounts() -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let lines = table.lines().map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        [fields[0], fields[2], fields[3], fields[4]].join(" ")
    });
    lines.collect()
}
