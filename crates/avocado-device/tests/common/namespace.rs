//! Tests that mount: each case runs in a process with a mount namespace of its own.
#![allow(dead_code, unreachable_pub)]

use std::path::Path;
use std::process::{Command, Stdio};

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
