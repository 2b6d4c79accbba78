//! The sample project, and what a build makes of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use avocado_manifest::Digest;
use avocado_project::LoadOptions;
use serde_json::{Value, json};

use super::changes::{Change, FileChange};
use crate::goal::Goal;
use crate::tests::fake_backend::FakeBackend;
use crate::tests::test_project::TestProject;

const DOCUMENT: &str = include_str!("project.json");

/// Files of the project; what they hold is made of their names.
const FILES: [&str; 27] = [
    "trust/ca.pem",
    "trust/feed.asc",
    "trust/vendor.asc",
    "scripts/kernel-compile",
    "scripts/kernel-install",
    "scripts/tool-compile",
    "scripts/tool-clean",
    "scripts/tool-package",
    "scripts/tool-install",
    "scripts/post-install",
    "scripts/post-build",
    "scripts/runtime-post-build",
    "scripts/other",
    "sources/tool.c",
    "overlays/rootfs/etc/rootfs.conf",
    "overlays/initramfs/etc/initramfs.conf",
    "overlays/app/usr/lib/systemd/system/app.service",
    "overlays/app/var/lib/app/seed",
    "overlays/app/etc/app.conf",
    "overlays/net/usr/lib/net",
    "overlays/net/etc/net",
    "overlays/other/etc/other",
    "seeds/authorized_keys",
    "seeds/deep/er",
    "stone/loader.conf",
    "near/files/usr/lib/near",
    "near/build.sh",
];

const NEAR: &str = "extensions: {near: {version: 3.0.0, overlay: files, post_build: build.sh}}\n\
                    sdk: {packages: {for-near: '*'}}\n";

/// Which project it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SampleKind {
    Whole,
    /// Nothing in it reads every file there is, as a script may do.
    WithoutScripts,
}

pub(super) struct SampleProject {
    kind: SampleKind,
    project: TestProject,
    environment: BTreeMap<String, String>,
    /// The lock as the first build left it.
    lock: String,
    /// What was changed, for a return to what was there.
    before: Option<Before>,
}

enum Before {
    Project,
    Lock,
    Variables(BTreeMap<String, String>),
    /// The files with their modes; and the places that were not there.
    Files(PathBuf, Vec<u8>, u32),
}

impl SampleProject {
    /// The avocado.yaml of the whole one.
    pub(super) fn whole() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    pub(super) fn document(&self) -> Value {
        let mut document = SampleProject::whole();
        if self.kind == SampleKind::WithoutScripts {
            document["sdk"]["compile"] = json!({});
            document["runtimes"]["prod"]["kernel"] = json!("feed");
            document["kernel"]["own"] = json!({"version": "6.*"});
            remove_scripts(&mut document);
        }
        document
    }

    /// The project, built.
    pub(super) fn new(kind: SampleKind) -> Self {
        let mut project = TestProject::new("default_target: board\n");
        // Of two steps that fail it is always the same one that is told.
        project.options.jobs = 1;
        for file in FILES {
            let path = project.path(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut text = format!("the content of {file}\n");
            if file.ends_with(".conf") {
                text += "{{ env.GREETING }} {{ config.distro.channel }}\n";
            }
            if file.starts_with("trust/") {
                text = format!("-----BEGIN PGP PUBLIC KEY BLOCK-----\n{text}");
            }
            fs::write(path, text).unwrap();
        }
        project.write("stone.json", include_str!("stone.json"));
        project.write("app-version.toml", "[package]\nversion = \"1.0.0\"\n");
        let near = match kind {
            SampleKind::Whole => NEAR,
            SampleKind::WithoutScripts => &NEAR.replace(", post_build: build.sh", ""),
        };
        project.write("near/avocado.yaml", near);
        let mut sample = SampleProject {
            kind,
            project,
            environment: [
                ("FEED_PASSWORD", "secret"),
                ("VENDOR_PASSWORD", "secret"),
                ("GREETING", "hello"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            lock: String::new(),
            before: None,
        };
        sample.write_document(&sample.document());
        sample.outcome().expect("the sample can be built");
        sample.lock = fs::read_to_string(sample.project.path("avocado.lock")).unwrap();
        sample
    }

    /// The lock as the first build left it.
    pub(super) fn lock(&self) -> Value {
        serde_json::from_str(&self.lock).unwrap()
    }

    pub(super) fn variables(&self) -> Vec<String> {
        let others = [
            "AVOCADO_RUNTIME",
            "AVOCADO_TARGET_BOARD",
            "AVOCADO_REPO_URL",
            "AVOCADO_REPO_INSECURE",
            "AVOCADO_DISTRO_RELEASE",
            "AVOCADO_DISTRO_CHANNEL",
            "AVOCADO_RELEASEVER",
        ];
        let others = others.into_iter().map(ToOwned::to_owned);
        self.environment.keys().cloned().chain(others).collect()
    }

    /// The files of the project, but for avocado.yaml and the lock.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let more = ["app-version.toml", "near/avocado.yaml"];
        FILES.into_iter().chain(more).map(PathBuf::from).collect()
    }

    pub(super) fn size(&self, path: &Path) -> usize {
        fs::read(self.path(path)).unwrap().len()
    }

    fn path(&self, path: &Path) -> PathBuf {
        self.project.path(path.to_str().unwrap())
    }

    fn write_document(&self, document: &Value) {
        let text = serde_json::to_string_pretty(document).unwrap();
        self.project.write("avocado.yaml", &text);
    }

    pub(super) fn make(&mut self, change: &Change) {
        self.before = Some(match change {
            Change::Project { document, .. } => {
                self.write_document(document);
                Before::Project
            }
            Change::Lock { document, .. } => {
                let text = serde_json::to_string_pretty(document).unwrap() + "\n";
                self.project.write("avocado.lock", &text);
                Before::Lock
            }
            Change::Variable { name, value } => {
                let before = self.environment.clone();
                self.environment.remove(name);
                let value = value.clone().map(|value| (name.clone(), value));
                self.environment.extend(value);
                Before::Variables(before)
            }
            Change::File { path, change } => {
                let full = self.path(path);
                let mode = fs::metadata(&full).unwrap().permissions().mode();
                let before = Before::Files(path.clone(), fs::read(&full).unwrap(), mode);
                change_file(&full, change);
                before
            }
        });
    }

    /// Takes the change back; the state is as the changed project left it.
    pub(super) fn restore(&mut self) {
        match self.before.take() {
            None => {}
            Some(Before::Project) => self.write_document(&self.document()),
            Some(Before::Lock) => {}
            Some(Before::Variables(before)) => self.environment = before,
            Some(Before::Files(path, bytes, mode)) => {
                let full = self.path(&path);
                for left in [full.clone(), beside(&full)] {
                    let _ = fs::remove_file(left);
                }
                fs::write(&full, bytes).unwrap();
                fs::set_permissions(&full, fs::Permissions::from_mode(mode)).unwrap();
            }
        }
        self.project.write("avocado.lock", &self.lock);
    }

    pub(super) fn forget_what_was_built(&self) {
        let made = self.project.path(".avocado");
        // A project that cannot be read has made nothing.
        if made.exists() {
            fs::remove_dir_all(made).unwrap();
        }
    }

    /// What a build makes: every result with its digest, as it is on disk. The lock that it finds
    /// it leaves as it was.
    pub(super) fn outcome(&mut self) -> Result<Vec<String>, String> {
        let lock = fs::read(self.project.path("avocado.lock")).ok();
        let made = self.build();
        if let Some(lock) = lock {
            fs::write(self.project.path("avocado.lock"), lock).unwrap();
        }
        made
    }

    fn build(&mut self) -> Result<Vec<String>, String> {
        let variables = self.environment.clone();
        let env = |name: &str| variables.get(name).cloned();
        let config = self.project.path("avocado.yaml");
        let options = LoadOptions {
            text: None,
            config: &config,
            target: None,
            env: &env,
            cli_version: "0.41.0",
        };
        let loaded = avocado_project::load(&options).map_err(|error| told(&error))?;
        self.project.options.project = loaded.project;
        self.project.options.variables.clone_from(&self.environment);
        let mut backend = FakeBackend::new(&self.project.options.project);
        backend.reads = Some(self.project.path(""));
        backend.scriptlets = Some("made");
        let goal = Goal::Build {
            runtime: None,
            var: true,
        };
        let report = self.project.run_on(backend, &goal);
        let report = report.map_err(|error| told(&error))?;
        let made = report.artifacts.iter().map(|made| {
            if made.path.is_file() {
                let (digest, _) = Digest::of_reader(File::open(&made.path).unwrap()).unwrap();
                assert_eq!(digest, made.sha256, "{}", made.path.display());
            }
            format!("{} {} {}", made.kind, made.name, made.sha256)
        });
        let mut made: Vec<String> = made.collect();
        made.push(fs::read_to_string(self.project.path("avocado.lock")).unwrap());
        Ok(made)
    }
}

/// Removes the hooks, and the packages that scripts install.
fn remove_scripts(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            entries.retain(|key, value| {
                let is_hook = key == "post_build" || key == "post_install";
                !is_hook && value["install"].is_null()
            });
            entries.values_mut().for_each(remove_scripts);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_scripts),
        _ => {}
    }
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

fn beside(path: &Path) -> PathBuf {
    path.with_file_name("beside")
}

fn change_file(path: &Path, change: &FileChange) {
    match change {
        FileChange::Byte(at) => {
            let modified = fs::metadata(path).unwrap().modified().unwrap();
            let mut bytes = fs::read(path).unwrap();
            bytes[*at] ^= 1;
            fs::write(path, bytes).unwrap();
            File::open(path).unwrap().set_modified(modified).unwrap();
        }
        FileChange::Longer => {
            let mut bytes = fs::read(path).unwrap();
            bytes.push(b'\n');
            fs::write(path, bytes).unwrap();
        }
        FileChange::Executable => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        FileChange::Gone => fs::remove_file(path).unwrap(),
        FileChange::Renamed => fs::rename(path, beside(path)).unwrap(),
        FileChange::Neighbour => fs::write(beside(path), "new\n").unwrap(),
        FileChange::Link => {
            fs::rename(path, beside(path)).unwrap();
            symlink("beside", path).unwrap();
        }
    }
}
