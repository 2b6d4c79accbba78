//! A project in a directory of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use avocado_events::{Cancel, Event, Silent};
use avocado_http::NetworkSettings;
use avocado_project::{LoadOptions, Project};

use super::fake_backend::FakeBackend;
use crate::error::BuildError;
use crate::goal::Goal;
use crate::options::Options;
use crate::run::{Report, run_with};

pub(crate) struct TestProject {
    directory: tempfile::TempDir,
    pub(crate) options: Options,
}

impl TestProject {
    /// The project of this avocado.yaml, with the files that the examples here name.
    pub(crate) fn new(yaml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("overlay/app/etc")).unwrap();
        fs::write(at("overlay/app/etc/app.conf"), "a = 1\n").unwrap();
        fs::write(at("hook.sh"), "true\n").unwrap();
        fs::write(at("seed.txt"), "seed\n").unwrap();
        fs::write(at("avocado.yaml"), yaml).unwrap();
        let options = Options {
            project: load(&at("avocado.yaml")),
            exe: "/not/started".into(),
            containers: None,
            remote: None,
            cache: None,
            sdk_processor: avocado_backend::Processor::HOST,
            search_path: "/no/tools".into(),
            proxy_environment: BTreeMap::new(),
            variables: BTreeMap::new(),
            fetch_environment: std::env::var_os("PATH")
                .map(|path| ("PATH".to_owned(), path))
                .into_iter()
                .collect(),
            network: NetworkSettings::default(),
            jobs: 2,
            stamps: true,
            explain: false,
            locked: false,
            frozen: false,
            scriptlets: true,
            unsaved: false,
            strict: false,
            dnf_args: Vec::new(),
            keyring: Some(at("keys")),
            owner_keyring: None,
            home: None,
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            cli_version: "1".into(),
        };
        TestProject { directory, options }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Puts `new` in the place of `old` in avocado.yaml.
    pub(crate) fn edit(&mut self, old: &str, new: &str) {
        let path = self.path("avocado.yaml");
        let before = fs::read_to_string(&path).unwrap();
        let after = before.replacen(old, new, 1);
        assert_ne!(before, after, "`{old}` is not in avocado.yaml");
        fs::write(&path, after).unwrap();
        self.options.project = load(&path);
    }

    /// From now on it is the project of this file.
    pub(crate) fn load(&mut self, config: &str) {
        self.options.project = load(&self.path(config));
    }

    pub(crate) fn run(&self, goal: &Goal) -> Result<Report, BuildError> {
        self.run_on(FakeBackend::new(&self.options.project), goal)
    }

    pub(in crate::tests) fn run_on(
        &self,
        backend: FakeBackend,
        goal: &Goal,
    ) -> Result<Report, BuildError> {
        run_with(
            &self.options,
            Box::new(backend),
            goal,
            &Cancel::new(),
            &Silent,
        )
    }

    /// What is said of the lock while a build of everything runs, from a feed where each package
    /// needs `dependencies`.
    pub(crate) fn said_of_lock(&self, dependencies: &'static [&'static str]) -> Vec<String> {
        let mut backend = FakeBackend::new(&self.options.project);
        backend.dependencies = dependencies;
        self.said_by(backend, "avocado.lock")
    }

    /// What is said of `subject` while a build of everything runs.
    pub(crate) fn said(&self, subject: &str) -> Vec<String> {
        self.said_by(FakeBackend::new(&self.options.project), subject)
    }

    pub(in crate::tests) fn said_by(&self, backend: FakeBackend, subject: &str) -> Vec<String> {
        let said = Mutex::new(Vec::new());
        let sink = |event: Event| said.lock().unwrap().push(event.message);
        let goal = Goal::Build {
            runtime: None,
            var: true,
        };
        run_with(
            &self.options,
            Box::new(backend),
            &goal,
            &Cancel::new(),
            &sink,
        )
        .unwrap();
        let mut said = said.into_inner().unwrap();
        said.retain(|text| text.contains(subject));
        said
    }

    /// The steps that a build of everything runs.
    pub(crate) fn build(&self) -> Vec<String> {
        self.run(&Goal::Build {
            runtime: None,
            var: true,
        })
        .unwrap()
        .ran
    }
}

fn load(config: &Path) -> Project {
    // With a releasever there are no snapshots, and nothing is asked of a feed.
    let env = |name: &str| (name == "AVOCADO_RELEASEVER").then(|| "2024/edge".to_owned());
    let options = LoadOptions {
        text: None,
        config,
        target: None,
        env: &env,
        cli_version: "0.41.0",
    };
    avocado_project::load(&options).unwrap().project
}
