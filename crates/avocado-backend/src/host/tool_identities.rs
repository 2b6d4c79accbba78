//! What the tools of the host are: asked once, and again only when a tool's file has changed.
//!
//! With nothing to do a build starts no process, so what a tool said is remembered in a file, by
//! everything that the kernel knows of the tool's file. That key stays on this machine; a step's
//! inputs have the identity alone, which is the same wherever the same tool is installed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use avocado_fs::AtPath as _;
use serde::{Deserialize, Serialize};

use crate::{BackendError, ToolQuery, remembered, tool_identity};

/// The version of the file's format.
const FORMAT: u32 = 1;

/// The tools on a search path.
#[derive(Debug)]
pub(super) struct ToolIdentities {
    search_path: OsString,
    /// What earlier runs were told.
    file: PathBuf,
    /// Whether a tool that is not known is asked.
    pub(super) asks: bool,
    known: Mutex<Option<Known>>,
}

/// What is known of the tools in this run.
#[derive(Debug, Default)]
struct Known {
    /// By the tool's name: the answers of this run.
    answers: BTreeMap<&'static str, Option<String>>,
    remembered: Vec<Remembered>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct IdentityFile {
    format: u32,
    tools: Vec<Remembered>,
}

/// What a tool said once, and which file said it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    file: ToolFile,
    arguments: Vec<String>,
    identity: String,
}

/// A program's file, as the kernel knows it: a file that was replaced or written to differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ToolFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// In bytes.
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// Seconds and nanoseconds.
    changed: (i64, i64),
}

impl ToolFile {
    fn new(path: &Path, metadata: &Metadata) -> Self {
        ToolFile {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl ToolIdentities {
    /// The tools on `search_path`; what they say is remembered in `file`.
    pub(super) fn new(search_path: OsString, file: PathBuf) -> Self {
        ToolIdentities {
            search_path,
            file,
            asks: true,
            known: Mutex::new(None),
        }
    }

    /// PATH for tools.
    pub(super) fn search_path(&self) -> &OsStr {
        &self.search_path
    }

    /// [`Backend::tool_identity`](crate::Backend::tool_identity). `spawned` is told of each process.
    pub(super) fn get(
        &self,
        query: &ToolQuery,
        spawned: &dyn Fn(),
    ) -> Result<Option<String>, BackendError> {
        // Held while a tool is asked: other steps want to know the same.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_with(|| Known {
            answers: BTreeMap::new(),
            remembered: self.read(),
        });
        if let Some(answer) = known.answers.get(query.tool) {
            return Ok(answer.clone());
        }
        let answer = match tool_identity::find(&self.search_path, query.tool) {
            Some((path, metadata)) => Some(self.identity(&path, &metadata, query, known, spawned)?),
            None => None,
        };
        known.answers.insert(query.tool, answer.clone());
        Ok(answer)
    }

    fn identity(
        &self,
        path: &Path,
        metadata: &Metadata,
        query: &ToolQuery,
        known: &mut Known,
        spawned: &dyn Fn(),
    ) -> Result<String, BackendError> {
        let file = ToolFile::new(path, metadata);
        let is_same = |r: &&Remembered| r.file == file && r.arguments == query.arguments;
        if let Some(remembered) = known.remembered.iter().find(is_same) {
            return Ok(remembered.identity.clone());
        }
        if !self.asks {
            let path = path.display();
            return Ok(format!("{path}, which is another file than before"));
        }
        let identity = tool_identity::ask(&self.search_path, path, query.arguments, spawned)?;
        let after = fs::metadata(path).at("look at", path)?;
        // A tool that was replaced while it was asked is asked again in the next run.
        if ToolFile::new(path, &after) == file {
            known.remembered.retain(|r| r.file.path != file.path);
            known.remembered.push(Remembered {
                file,
                arguments: query.arguments.iter().map(|a| (*a).to_owned()).collect(),
                identity: identity.clone(),
            });
            self.write(&known.remembered);
        }
        Ok(identity)
    }

    fn read(&self) -> Vec<Remembered> {
        remembered::read::<IdentityFile>(&self.file)
            .filter(|file| file.format == FORMAT)
            .map_or_else(Vec::new, |file| file.tools)
    }

    fn write(&self, tools: &[Remembered]) {
        let file = IdentityFile {
            format: FORMAT,
            tools: tools.to_vec(),
        };
        remembered::write(&self.file, &file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::fs::File;
    use std::process::Command;

    const QUERY: ToolQuery = ToolQuery {
        tool: "mkthing",
        arguments: &["--version"],
    };

    /// A directory with tools, and the file in which their identities are remembered.
    struct Place {
        directory: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir(directory.path().join("bin")).unwrap();
            Place { directory }
        }

        fn tool(&self, name: &str, script: &str) {
            let text = self.directory.path().join("text");
            fs::write(&text, format!("#!/bin/sh\n{script}\n")).unwrap();
            // Not written by this process, whose other children might hold it open.
            let mut install = Command::new("install");
            let to = self.directory.path().join("bin").join(name);
            let done = install.args(["-m", "755"]).args([&text, &to]).status();
            assert!(done.unwrap().success());
        }

        /// What a new run is told, and how many processes it took.
        fn ask(&self) -> (Option<String>, u32) {
            let identities = ToolIdentities::new(
                self.directory.path().join("bin").into(),
                self.directory.path().join("tools.json"),
            );
            let processes = Cell::new(0);
            let count = || processes.set(processes.get() + 1);
            let first = identities.get(&QUERY, &count).unwrap();
            let started = processes.get();
            assert_eq!(identities.get(&QUERY, &count).unwrap(), first);
            assert_eq!(processes.get(), started, "a second question in one run");
            (first, started)
        }
    }

    fn said(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_tool_is_asked_once_and_again_when_its_file_changed() {
        let place = Place::new();
        assert_eq!(place.ask(), (None, 0));
        place.tool("mkthing", "echo; echo ' mkthing 1.0 '; echo more");
        assert_eq!(place.ask(), (said("mkthing 1.0"), 1));
        assert_eq!(place.ask(), (said("mkthing 1.0"), 0));
        // Another build of the same version: asked again, and the same to every step.
        place.tool("mkthing", "echo mkthing 1.0 # rebuilt");
        assert_eq!(place.ask(), (said("mkthing 1.0"), 1));
        place.tool("mkthing", "echo mkthing 2.0 # rebuilt");
        assert_eq!(place.ask(), (said("mkthing 2.0"), 1));
        assert_eq!(place.ask(), (said("mkthing 2.0"), 0));
        for damaged in ["{", "{\"format\": 2, \"tools\": []}"] {
            fs::write(place.directory.path().join("tools.json"), damaged).unwrap();
            assert_eq!(place.ask(), (said("mkthing 2.0"), 1), "{damaged}");
        }
    }

    #[test]
    fn a_file_with_the_same_size_and_times_is_another_one() {
        let place = Place::new();
        place.tool("mkthing", "echo 1");
        assert_eq!(place.ask().0, said("1"));
        let path = place.directory.path().join("bin/mkthing");
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        place.tool("mkthing", "echo 2");
        File::open(&path).unwrap().set_modified(modified).unwrap();
        assert_eq!(place.ask().0, said("2"));
    }

    #[test]
    fn a_tool_that_says_nothing_is_known_by_its_package() {
        let place = Place::new();
        place.tool("mkthing", "exit 1");
        // As on Debian, where `-S` knows the file and `-W` the version.
        place.tool(
            "dpkg-query",
            "case $1 in -S) echo \"thing:amd64: $2\";; -W) echo \"$4 1.2-3 amd64\";; esac",
        );
        assert_eq!(place.ask().0, said("thing:amd64 1.2-3 amd64"));

        let place = Place::new();
        place.tool("mkthing", "exit 1");
        place.tool("rpm", "echo thing-1.2-3.fc44.x86_64");
        assert_eq!(place.ask().0, said("thing-1.2-3.fc44.x86_64"));
    }

    #[test]
    fn a_tool_in_no_package_is_known_by_its_content() {
        let place = Place::new();
        place.tool("dpkg-query", "exit 1");
        place.tool("rpm", "echo is not owned by any package; exit 1");
        place.tool("mkthing", "exit 1 # a");
        let first = place.ask().0.unwrap();
        assert!(first.starts_with("mkthing "), "{first}");
        place.tool("mkthing", "exit 1 # b");
        assert_ne!(place.ask().0.unwrap(), first);
        place.tool("mkthing", "exit 1 # a");
        assert_eq!(place.ask().0.unwrap(), first);
    }

    #[test]
    fn ctrl_c_does_not_reach_a_tool_that_is_asked() {
        let place = Place::new();
        place.tool(
            "mkthing",
            "read -r _ _ _ _ group _ </proc/self/stat; echo $group",
        );
        let own = rustix::process::getpgrp().as_raw_nonzero();
        assert_ne!(place.ask().0.unwrap(), own.to_string());
    }

    #[test]
    fn what_is_no_program_is_not_found() {
        let place = Place::new();
        let bin = place.directory.path().join("bin");
        fs::create_dir(bin.join("mkthing")).unwrap();
        assert_eq!(place.ask(), (None, 0));
        fs::remove_dir(bin.join("mkthing")).unwrap();
        fs::write(bin.join("mkthing"), "").unwrap();
        assert_eq!(place.ask(), (None, 0));
    }
}
