use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use avocado_manifest::Name;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod damage;
mod document;
mod file;
mod gone;
mod migration;
mod unlock;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn packages(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    let list = list.iter();
    list.map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect()
}

/// A directory with a lock file of that text.
fn directory(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("avocado.lock"), text).unwrap();
    dir
}

/// An error with its causes.
fn chain(error: &LockFileError) -> String {
    let mut said = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        said.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    said
}

fn error(text: &str) -> LockFileError {
    let dir = directory(text);
    LockFile::load(dir.path()).unwrap_err()
}

/// What is written after a document was read.
fn rewritten(document: &Value) -> Value {
    let dir = directory(&document.to_string());
    let mut lock = LockFile::load(dir.path()).unwrap();
    lock.save().unwrap();
    let bytes = fs::read(lock.path()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn headers(list: &[(&str, &str, u32)]) -> PackageHeaders {
    let header = |(name, version, epoch): &(&str, &str, u32)| {
        let header = PackageHeader {
            version: (*version).to_owned(),
            epoch: *epoch,
            digest: format!("sha256:{name}"),
        };
        ((*name).to_owned(), header)
    };
    list.iter().map(header).collect()
}
