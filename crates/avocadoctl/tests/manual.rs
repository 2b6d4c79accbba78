//! The man pages and completions in the tree are those of the arguments.
#![allow(missing_docs, unreachable_pub)]

#[path = "../examples/manual/pages.rs"]
mod pages;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn tree(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(place) = open.pop() {
        for entry in fs::read_dir(&place).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().to_owned();
                files.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn the_manual_is_current() {
    let fresh = tempfile::tempdir().unwrap();
    pages::write(fresh.path()).unwrap();
    let fresh = tree(fresh.path());
    let kept = tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("share"));
    let names = fresh.keys().chain(kept.keys());
    for name in names {
        assert!(
            fresh.get(name) == kept.get(name),
            "{} is not current: run `cargo run -p avocadoctl --example manual -- \
             crates/avocadoctl/share`",
            name.display()
        );
    }
    let page = &fresh[Path::new("man/man1/avocadoctl-runtime-add.1")];
    assert!(page.contains(".TH avocadoctl") && page.contains("AVOCADO_TUF_AUTH_TOKEN"));
}
