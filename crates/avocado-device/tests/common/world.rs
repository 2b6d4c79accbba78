//! A repository that our writer published, over real HTTP.
#![allow(dead_code, missing_docs, unreachable_pub)]

use std::fs;
use std::path::{Path, PathBuf};

use avocado_device::{AddRequest, Device, Error, Reason, RuntimeEntry};
use avocado_events::Silent;
use avocado_manifest::{Digest, ImageId, Manifest};
use avocado_serve::{Options, Server};
use avocado_tuf::SigningKey;
use avocado_tuf::writer::{Publication, Target, publish, root};
use jiff::Timestamp;

use crate::common::*;

/// A publisher with its server, and a device that trusts it.
pub struct World {
    pub dir: tempfile::TempDir,
    pub key: SigningKey,
    pub server: Server,
    pub device: Device,
    pub now: Timestamp,
}

pub const TOKEN: &str = "a secret";

impl World {
    pub fn new() -> Self {
        World::start(|_| {})
    }

    pub fn start(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("repository")).unwrap();
        let mut options = Options::new(dir.path().join("repository"));
        options.token = Some(TOKEN.to_owned());
        change(&mut options);
        let server = Server::start(options);
        let key = SigningKey::from_seed(&[7; 32]).unwrap();
        let now = Timestamp::now();
        let device = private_device(dir.path());
        let metadata = device.paths().base.join("metadata");
        fs::create_dir_all(&metadata).unwrap();
        fs::write(metadata.join("root.json"), root(&key, now).unwrap()).unwrap();
        World {
            server: server.unwrap(),
            key,
            device,
            now,
            dir,
        }
    }

    /// Publishes files under names that may lie about them.
    pub fn publish_as(&self, files: &[(String, &[u8])]) {
        let sources = self.dir.path().join("sources");
        fs::create_dir_all(&sources).unwrap();
        let paths: Vec<PathBuf> = files
            .iter()
            .map(|(_, bytes)| {
                let path = sources.join(Digest::of(bytes).to_string());
                let _ = fs::remove_file(&path);
                fs::write(&path, bytes).unwrap();
                path
            })
            .collect();
        let targets: Vec<_> = files
            .iter()
            .zip(&paths)
            .map(|((name, bytes), source)| Target {
                name: name.clone(),
                source,
                digest: Digest::of(bytes),
                length: bytes.len() as u64,
            })
            .collect();
        publish(&Publication {
            directory: &self.dir.path().join("repository"),
            key: &self.key,
            role: "runtime-dev",
            targets: &targets,
            now: self.now,
        })
        .unwrap();
    }

    pub fn publish(&self, manifest: &Manifest, images: &[&[u8]]) {
        let mut files = vec![("manifest.json".to_owned(), manifest.to_json())];
        for image in images {
            files.push((raw(image), image.to_vec()));
        }
        let files: Vec<_> = files
            .iter()
            .map(|(n, b)| (n.clone(), b.as_slice()))
            .collect();
        self.publish_as(&files);
    }

    pub fn request(&self) -> AddRequest {
        AddRequest {
            url: self.server.url(),
            auth_token: Some(TOKEN.to_owned()),
            artifacts_url: None,
            now: self.now,
        }
    }

    pub fn add(&self) -> Result<RuntimeEntry, Error> {
        self.device.add_from_url(&self.request(), &Silent)
    }

    pub fn refused(&self) -> Reason {
        let before = self.visible();
        let error = self.add().unwrap_err();
        assert_eq!(self.visible(), before, "{error}");
        match error {
            Error::Staging(reason) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// What of the store runtimes are made of.
    pub fn visible(&self) -> Vec<String> {
        let base = self.base();
        let mut all = Vec::new();
        for part in ["runtimes", "images"] {
            if base.join(part).exists() {
                all.extend(tree(&base.join(part)));
            }
        }
        all
    }

    pub fn base(&self) -> &Path {
        &self.device.paths().base
    }

    pub fn requests_for(&self, file: &str) -> usize {
        let all = self.server.requests();
        all.iter().filter(|r| r.path.ends_with(file)).count()
    }
}

pub fn raw(bytes: &[u8]) -> String {
    ImageId::from_digest(Digest::of(bytes)).file_name()
}
