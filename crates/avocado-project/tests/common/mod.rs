//! A project directory, and its avocado.yaml loaded.
#![allow(dead_code)] // Not every test file uses everything.

use std::collections::HashMap;
use std::path::PathBuf;

use avocado_project::{Diagnostic, LoadOptions, Loaded, ProjectError, load};

/// A directory with `overlay/`, `overlay.txt`, `hook.sh` and `ca.pem`.
pub(crate) struct Site {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) env: HashMap<String, String>,
    pub(crate) target: Option<String>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("overlay")).unwrap();
        for file in ["overlay.txt", "hook.sh", "ca.pem"] {
            std::fs::write(dir.path().join(file), "x").unwrap();
        }
        Site {
            dir,
            env: HashMap::new(),
            target: Some("qemux86-64".to_owned()),
        }
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(crate) fn target(mut self, target: Option<&str>) -> Self {
        self.target = target.map(str::to_owned);
        self
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("avocado.yaml")
    }

    pub(crate) fn load(&self, yaml: impl AsRef<[u8]>) -> Result<Loaded, ProjectError> {
        std::fs::write(self.config(), yaml).unwrap();
        load(&LoadOptions {
            text: None,
            config: &self.config(),
            target: self.target.as_deref(),
            env: &|name| self.env.get(name).cloned(),
            cli_version: "0.41.0",
        })
    }

    /// What is said about a project, without the path of the directory.
    pub(crate) fn said(&self, yaml: impl AsRef<[u8]>) -> String {
        match self.load(yaml) {
            Ok(loaded) => self.render(&loaded.warnings),
            Err(error) => match error.diagnostics() {
                [] => self.hide(&error.to_string()),
                found => self.render(found),
            },
        }
    }

    fn render(&self, found: &[Diagnostic]) -> String {
        let all: Vec<String> = found.iter().map(Diagnostic::render).collect();
        self.hide(&all.join("\n"))
    }

    fn hide(&self, text: &str) -> String {
        let dir = self.dir.path().display().to_string();
        text.replace(&format!("{dir}/avocado.yaml"), "avocado.yaml")
            .replace(&dir, "[dir]")
    }
}

/// One text for a table of named projects and what is said about each.
pub(crate) fn table(site: &Site, cases: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (name, yaml) in cases {
        let said = site.said(yaml);
        let said = if said.is_empty() { "(nothing)" } else { &said };
        out.push_str(&format!("== {name}\n{said}\n\n"));
    }
    out
}
