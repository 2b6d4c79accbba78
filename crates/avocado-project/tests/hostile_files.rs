//! What stands in the place of a file of the project: nothing of it is waited for, followed without
//! end, read without limit, or a reason to crash. It is an error that names the file.

#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use avocado_project::{Diagnostic, LockFile};
use common::Site;

/// Text that no reader should take.
fn texts() -> Vec<(&'static str, Vec<u8>)> {
    let mut aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..20 {
        let last = format!("*a{}", n - 1);
        aliases += &format!("a{n}: &a{n} [{}]\n", [last.as_str(); 10].join(", "));
    }
    vec![
        ("not UTF-8", b"version: \xff\n".to_vec()),
        ("a zero", b"version: 1\0\n".to_vec()),
        ("large", vec![b'#'; 65 << 20]),
        ("deep lists", "[".repeat(100_000).into_bytes()),
        ("deep maps", "{a: ".repeat(100_000).into_bytes()),
        ("deep objects", "{\"a\":".repeat(100_000).into_bytes()),
        (
            "deep tables",
            ["version = ", &"[".repeat(100_000)].concat().into_bytes(),
        ),
        ("aliases", aliases.into_bytes()),
    ]
}

/// Puts one thing after the other in the place of a file, and collects what `read` says of each.
fn said_of(place: &Path, mut read: impl FnMut() -> String) -> Vec<(&'static str, String)> {
    let mut said = Vec::new();
    let clear = || {
        let _ = fs::remove_dir(place);
        let _ = fs::remove_file(place);
    };
    clear();
    let made = Command::new("mkfifo").arg(place).status().unwrap();
    assert!(made.success());
    said.push(("pipe", read()));
    clear();
    symlink(place, place).unwrap();
    said.push(("link to itself", read()));
    clear();
    symlink("/dev/zero", place).unwrap();
    said.push(("device", read()));
    clear();
    fs::create_dir(place).unwrap();
    said.push(("directory", read()));
    clear();
    for (what, text) in texts() {
        fs::write(place, text).unwrap();
        said.push((what, read()));
    }
    clear();
    said
}

fn check(said: &[(&str, String)], file: &str) {
    for (what, said) in said {
        assert!(!said.is_empty(), "{file}, {what}: nothing is said");
        assert!(said.contains(file), "{file}, {what}: {said}");
        assert!(said.len() < 4000, "{file}, {what}: {} bytes", said.len());
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(|error| format!("{error}\n")).collect()
}

fn load(site: &Site) -> Result<avocado_project::Loaded, avocado_project::ProjectError> {
    avocado_project::load(&avocado_project::LoadOptions {
        config: &site.config(),
        text: None,
        target: Some("qemux86-64"),
        env: &|_| None,
        cli_version: "0.41.0",
    })
}

#[test]
fn in_the_place_of_the_project() {
    let site = Site::new();
    let said = said_of(&site.config(), || match load(&site) {
        Ok(loaded) => format!("{:?}", loaded.warnings),
        Err(error) => chain(&error),
    });
    check(&said, "avocado.yaml");
}

#[test]
fn in_the_place_of_a_fetched_project() {
    let site = Site::new();
    let yaml = "extensions: {near: {source: {type: path, path: near}}}\n";
    fs::write(site.config(), yaml).unwrap();
    fs::create_dir(site.dir.path().join("near")).unwrap();
    let place = site.dir.path().join("near/avocado.yaml");
    let said = said_of(&place, || match load(&site) {
        Ok(loaded) => format!("{:?}", loaded.warnings),
        Err(error) => chain(&error),
    });
    check(&said, "near");
}

#[test]
fn in_the_place_of_a_file_with_a_version() {
    for file in ["v.json", "v.toml", "v.yaml"] {
        let site = Site::new();
        let yaml = format!("extensions: {{app: {{version: {{file: {file}}}}}}}\n");
        fs::write(site.config(), yaml).unwrap();
        let place = site.dir.path().join(file);
        let said = said_of(&place, || {
            let project = load(&site).unwrap().project;
            let missing = project.extensions[0].version.get();
            missing.map_err(Diagnostic::render).unwrap_err()
        });
        check(&said, file);
    }
}

#[test]
fn in_the_place_of_the_lock() {
    let site = Site::new();
    let place = site.dir.path().join("avocado.lock");
    let said = said_of(&place, || {
        chain(&LockFile::load(site.dir.path()).unwrap_err())
    });
    check(&said, "avocado.lock");
}
