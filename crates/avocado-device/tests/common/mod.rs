//! What the behaviour tests share: a store in a private directory, and runtimes for it.
#![allow(dead_code, missing_docs, unreachable_pub, unused_imports)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use avocado_device::{
    AddRequest, Cancel, Device, DeviceConfig, DeviceError, DevicePaths, RuntimeEntry, RuntimeSource,
};
use avocado_events::{Event, EventKind, Sink};
use avocado_manifest::{Digest, Manifest, RuntimeExtension};
use avocado_tuf::testing;
pub use avocado_tuf::testing::extension;

/// Keeps every event.
#[derive(Default)]
pub struct Events(Mutex<Vec<Event>>);

impl Sink for Events {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Events {
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// The warnings since the last time, each with what it is about.
    pub fn warnings(&self) -> Vec<String> {
        let all = self.take().into_iter();
        let warnings = all.filter(|e| e.kind == EventKind::Warning);
        warnings
            .map(|e| format!("{}: {}", e.item, e.message))
            .collect()
    }
}

/// The paths of a device that has no systemd and nothing outside `dir`.
pub fn private_paths(dir: &Path) -> DevicePaths {
    let mut paths = DevicePaths::new(dir.join("base"));
    paths.run = dir.join("run");
    paths.extensions = dir.join("run-extensions");
    paths.confexts = dir.join("run-confexts");
    paths.systemd = dir.join("no-systemd");
    paths.initrd_release = dir.join("no-initrd");
    paths.os_release = vec![dir.join("os-release")];
    paths
}

pub fn private_device(dir: &Path) -> Device {
    // What is added stays, unless a test is about that.
    let config = DeviceConfig {
        auto_gc: false,
        ..DeviceConfig::default()
    };
    Device::with_paths(config, private_paths(dir))
}

/// Adding in one word. A device of these tests activates nothing by itself, unless a test says so.
pub trait AddShortly {
    fn add_from_url(
        &self,
        request: &AddRequest,
        sink: &dyn Sink,
    ) -> Result<RuntimeEntry, DeviceError>;
    fn add_from_manifest(&self, file: &Path, sink: &dyn Sink) -> Result<RuntimeEntry, DeviceError>;
}

impl AddShortly for Device {
    fn add_from_url(
        &self,
        request: &AddRequest,
        sink: &dyn Sink,
    ) -> Result<RuntimeEntry, DeviceError> {
        let added = self.add(RuntimeSource::Repository(request), &Cancel::new(), sink)?;
        Ok(added.runtime().clone())
    }

    fn add_from_manifest(&self, file: &Path, sink: &dyn Sink) -> Result<RuntimeEntry, DeviceError> {
        let added = self.add(RuntimeSource::Manifest(file), &Cancel::new(), sink)?;
        Ok(added.runtime().clone())
    }
}

/// A runtime called `dev`.
pub fn runtime(version: &str, built_at: &str, extensions: Vec<RuntimeExtension>) -> Manifest {
    testing::runtime("dev", version, built_at, extensions)
}

/// Puts an image where a provisioned device has it.
pub fn put_image(base: &Path, bytes: &[u8]) -> PathBuf {
    let images = base.join("images");
    fs::create_dir_all(&images).unwrap();
    let path = images.join(testing::image_name(bytes));
    fs::write(&path, bytes).unwrap();
    path
}

/// Writes a manifest to a file outside of the store.
pub fn manifest_file(dir: &Path, manifest: &Manifest) -> PathBuf {
    let path = dir.join(format!("{}.json", manifest.id));
    fs::write(&path, manifest.to_json().unwrap()).unwrap();
    path
}

/// All files, directories and links below `dir` with their content, to see that nothing changed.
/// Locks are not content.
pub fn tree(dir: &Path) -> Vec<String> {
    fn walk(dir: &Path, all: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.as_os_str().as_encoded_bytes().ends_with(b".lock") {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let what = if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if meta.is_dir() {
                walk(&path, all);
                "/".to_owned()
            } else {
                Digest::of(&fs::read(&path).unwrap()).to_string()
            };
            all.push(format!("{} {what}", path.display()));
        }
    }
    let mut all = Vec::new();
    walk(dir, &mut all);
    all.sort();
    all
}
