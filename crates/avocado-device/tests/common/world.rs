//! A repository that our writer published, over real HTTP.
#![allow(dead_code, missing_docs, unreachable_pub, unused_imports)]

use std::fs;
use std::path::Path;

use avocado_device::{AddRequest, Device, DeviceError, FailureReason, RuntimeEntry};
use avocado_events::Silent;
use avocado_manifest::Manifest;
use avocado_serve::ServeOptions;
use avocado_test_server::TestServer;
use avocado_tuf::testing::TestPublisher;
pub use avocado_tuf::testing::image_name as raw;
use jiff::Timestamp;

use crate::common::*;

/// A publisher with its server, and a device that trusts it.
pub struct World {
    pub dir: tempfile::TempDir,
    pub desk: TestPublisher,
    pub server: TestServer,
    pub device: Device,
    pub now: Timestamp,
}

pub const TOKEN: &str = "a secret";

impl World {
    pub fn new() -> Self {
        World::start(|_| {})
    }

    pub fn start(change: impl FnOnce(&mut ServeOptions)) -> Self {
        World::at(Timestamp::now(), change)
    }

    /// Another one of the same time: versions of what is published follow the clock.
    pub fn beside(&self) -> Self {
        World::at(self.now, |_| {})
    }

    fn at(now: Timestamp, change: impl FnOnce(&mut ServeOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let desk = TestPublisher::new(dir.path(), 7);
        fs::create_dir(desk.repository()).unwrap();
        let mut options = ServeOptions::new(desk.repository());
        options.token = Some(TOKEN.to_owned());
        change(&mut options);
        let server = TestServer::start(options);
        let device = private_device(dir.path());
        desk.trust(&device.paths().base, now);
        World {
            server: server.unwrap(),
            desk,
            device,
            now,
            dir,
        }
    }

    /// Publishes files under names that may lie about them.
    pub fn publish_as(&self, files: &[(String, &[u8])]) {
        self.desk.publish(files, self.now);
    }

    pub fn publish(&self, manifest: &Manifest, images: &[&[u8]]) {
        self.desk.publish_runtime(manifest, images, self.now);
    }

    pub fn request(&self) -> AddRequest {
        AddRequest {
            url: self.server.url(),
            auth_token: Some(TOKEN.to_owned()),
            artifacts_url: None,
            now: self.now,
        }
    }

    pub fn add(&self) -> Result<RuntimeEntry, DeviceError> {
        self.device.add_from_url(&self.request(), &Silent)
    }

    pub fn refused(&self) -> FailureReason {
        let before = self.visible();
        let error = self.add().unwrap_err();
        assert_eq!(self.visible(), before, "{error}");
        match error {
            DeviceError::Staging(reason) => reason,
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
