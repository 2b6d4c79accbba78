//! A project on disk, and the `avocado` program at work on it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::HarnessError;
use crate::error::file;
use crate::tools::{ToolCall, ToolOutput, static_binary};

/// How long one run of `avocado` may take: long enough for a build on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(600);

/// A project and what `avocado` needs to work on it: nothing else of this process's environment
/// reaches the program.
#[derive(Debug, Clone)]
pub struct TestProject {
    directory: PathBuf,
    /// `avocado`, or what starts it: with the first of its arguments.
    program: Vec<OsString>,
    environment: Vec<(String, OsString)>,
}

impl TestProject {
    /// The project in `directory`, with the feed at `feed` and signing keys in `keys`.
    ///
    /// # Errors
    /// The program is not built.
    pub fn new(directory: &Path, feed: &str, keys: &Path) -> Result<Self, HarnessError> {
        let variable = |name: &str| std::env::var_os(name).unwrap_or_default();
        let mut search_path = variable("PATH");
        // Where file systems are made, also for those who are not root.
        search_path.push(":/usr/sbin:/sbin");
        Ok(TestProject {
            directory: directory.to_owned(),
            program: vec![static_binary("avocado")?.into()],
            environment: vec![
                ("PATH".into(), search_path),
                ("HOME".into(), variable("HOME")),
                ("AVOCADO_REPO_URL".into(), feed.into()),
                ("AVOCADO_SIGNING_KEYS_DIR".into(), keys.into()),
            ],
        })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The state of its only target, or of the one that it is built for if nothing is said.
    pub fn state(&self) -> PathBuf {
        self.state_of("qemux86-64")
    }

    /// The state of one of its targets.
    pub fn state_of(&self, target: &str) -> PathBuf {
        self.directory.join(".avocado/state").join(target)
    }

    /// The same project with another value of one variable.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.retain(|(n, _)| n != name);
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// The same project at which another program works: a copy of `avocado`, or what starts one as
    /// another user or with another umask.
    ///
    /// # Panics
    /// `words` are none.
    #[must_use]
    pub fn with_program<W: Into<OsString>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.program = words.into_iter().map(Into::into).collect();
        assert!(!self.program.is_empty(), "a program has a name");
        self
    }

    /// A run of `avocado` whose output is caught.
    pub fn avocado(&self, arguments: &[&str]) -> ToolCall {
        let call = ToolCall::new(&self.program[0])
            .args(&self.program[1..])
            .args(arguments)
            .clear_env();
        let call = self.environment.iter().fold(call, |c, (k, v)| c.env(k, v));
        call.directory(&self.directory).limit(LIMIT)
    }

    /// A run of `avocado` on the terminal of this process.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program[0]);
        command
            .args(&self.program[1..])
            .args(arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .current_dir(&self.directory);
        for name in ["TERM", "COLUMNS", "NO_COLOR", "CI"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
    }

    /// A run of `avocado … --output json`, which has to succeed.
    ///
    /// # Errors
    /// It failed, or what it printed is not NDJSON.
    pub fn events(&self, arguments: &[&str]) -> Result<BuildEvents, HarnessError> {
        let output = self.avocado(arguments).args(["--output", "json"]).ok()?;
        BuildEvents::parse(&output)
    }

    /// Reads a file of the project.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, path: &str) -> Result<String, HarnessError> {
        let path = self.directory.join(path);
        fs::read_to_string(&path).map_err(file("read", &path))
    }

    /// The id of the runtime `dev` that was built last.
    ///
    /// # Errors
    /// None was.
    pub fn built(&self) -> Result<String, HarnessError> {
        let path = self.state().join("output/runtimes/dev/manifest.json");
        let text = fs::read_to_string(&path).map_err(file("read", &path))?;
        let manifest: Value =
            serde_json::from_str(&text).map_err(|source| HarnessError::NotJson { text, source })?;
        Ok(manifest["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Writes a file of the project, and the directories that it is in.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &str, text: &str) -> Result<(), HarnessError> {
        let path = self.directory.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(file("make", parent))?;
        }
        fs::write(&path, text).map_err(file("write", &path))
    }
}

/// What `avocado --output json` said.
#[derive(Debug, Clone)]
pub struct BuildEvents(Vec<Value>);

impl BuildEvents {
    /// Reads NDJSON from a program's stdout.
    ///
    /// # Errors
    /// A line is not JSON.
    pub fn parse(output: &ToolOutput) -> Result<Self, HarnessError> {
        let lines = output.stdout.lines().filter(|line| !line.is_empty());
        let events = lines.map(serde_json::from_str).collect::<Result<_, _>>();
        events
            .map(BuildEvents)
            .map_err(|source| HarnessError::NotJson {
                text: output.stdout.clone(),
                source,
            })
    }

    /// All events of one kind.
    pub fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |event| event["event"] == kind)
    }

    /// The closing event.
    pub fn complete(&self) -> &Value {
        self.of("complete").last().unwrap_or(&Value::Null)
    }

    /// The steps that reached `status`, sorted.
    pub fn steps(&self, status: &str) -> Vec<String> {
        let steps = self.of("step").filter(|event| event["status"] == status);
        let mut names: Vec<String> = steps
            .filter_map(|event| event["stage"].as_str().map(ToOwned::to_owned))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// The results that the closing event lists.
    pub fn artifacts(&self) -> Vec<BuildArtifact> {
        let list = self.complete()["artifacts"].as_array();
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        list.into_iter()
            .flatten()
            .map(|value| BuildArtifact {
                kind: text(value, "kind"),
                name: text(value, "name"),
                path: text(value, "path").into(),
                size: value["size"].as_u64().unwrap_or_default(),
                sha256: text(value, "sha256"),
            })
            .collect()
    }
}

/// A result of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildArtifact {
    /// `extension`, `rootfs`, …
    pub kind: String,
    /// What it belongs to.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    /// As hexadecimal digits.
    pub sha256: String,
}
