mod downloads;
mod index;
mod installation;
mod publishing;
mod signing;
mod versions;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use avocado_events::{Cancel, Event, Silent};
use avocado_http::NetworkSettings;
use avocado_manifest::Digest;
use avocado_serve::ServeOptions;
use avocado_test_server::{Fault, FaultRule, TestServer};
use avocado_tuf::{Publication, PublicationTarget, RoleSigners, SigningKey, writer};
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::dir::{StateDir, StateFile};
use crate::image::{self, ImageDir, MANIFEST};
use crate::lock::VmLock;

const PLATFORM: &str = "avocado-qemux86-64";

/// A server with a channel, and a state directory.
struct Place {
    root: tempfile::TempDir,
    server: TestServer,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("www")).unwrap();
        let server = TestServer::start(ServeOptions::new(root.path().join("www"))).unwrap();
        Place { root, server }
    }

    fn www(&self) -> PathBuf {
        self.root.path().join("www")
    }

    fn dir(&self) -> StateDir {
        StateDir::new(self.root.path().join("vm"))
    }

    fn install(&self) -> PathBuf {
        self.dir().file(StateFile::Install)
    }

    /// Publishes an image, with `more` in the index.
    fn publish(&self, version: &str, more: serde_json::Value) {
        let place = self.www().join(version);
        image::tests::make(&place, version);
        let mut index = json!({
            "channel": "stable",
            "version": version,
            "released_at": "2026-06-01T00:00:00Z",
            "platforms": {PLATFORM: {
                "manifest_url": format!("{version}/manifest.json"),
                "base_url": version,
            }},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            index[key] = value.clone();
        }
        fs::write(self.www().join("stable.json"), index.to_string()).unwrap();
    }

    /// Signs the manifest of a version as what the channel has now.
    fn sign(&self, version: &str, key: &SigningKey) {
        let source = self.www().join(version).join(MANIFEST);
        let bytes = fs::read(&source).unwrap();
        writer::publish(&Publication {
            directory: &self.repository(),
            signers: RoleSigners::one(key),
            role: "vm",
            targets: &[PublicationTarget {
                name: MANIFEST.into(),
                source: &source,
                digest: Digest::of(&bytes),
                length: bytes.len() as u64,
            }],
            now: now(),
        })
        .unwrap();
    }

    fn repository(&self) -> PathBuf {
        self.www().join("stable").join(PLATFORM)
    }

    fn source(&self) -> ChannelClient {
        ChannelClient::new(
            &self.server.url(),
            "stable",
            PLATFORM,
            &NetworkSettings::default(),
        )
        .unwrap()
    }

    fn offer(&self) -> Result<ChannelOffer, crate::VmError> {
        self.source().offer(&self.dir(), now())
    }

    fn download(
        &self,
        turn: &UpdateLock,
        offer: &ChannelOffer,
    ) -> Result<PendingImage, crate::VmError> {
        let files = &self.source().files;
        turn.download_with(files, Duration::ZERO, offer, &Cancel::new(), &Silent)
    }

    fn update(&self) {
        let offer = self.offer().unwrap();
        let turn = UpdateLock::take(&self.dir()).unwrap();
        let pending = self.download(&turn, &offer).unwrap();
        let lock = VmLock::take(&self.dir(), "test").unwrap();
        turn.install(&pending, &lock).unwrap();
        assert!(turn.pending().unwrap().is_none());
    }

    fn requests(&self) -> usize {
        self.server.requests().len()
    }

    /// The installed image is whole and has this version.
    fn is_installed(&self, version: &str) {
        let image = ImageDir::load(&self.install()).unwrap();
        assert_eq!(image.manifest().version.as_deref(), Some(version));
        image.verify(&Silent).unwrap();
        assert!(!self.offer().unwrap().update_available());
    }

    fn edit_manifest(&self, version: &str, edit: impl FnOnce(&mut serde_json::Value)) {
        let path = self.www().join(version).join(MANIFEST);
        let mut manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut manifest);
        fs::write(path, manifest.to_string()).unwrap();
    }
}

fn now() -> Timestamp {
    "2026-06-02T12:00:00Z".parse().unwrap()
}

fn channel_error(error: crate::VmError) -> ChannelError {
    match error {
        crate::VmError::Channel(error) => error,
        other => panic!("{other:?}"),
    }
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).unwrap()
}
