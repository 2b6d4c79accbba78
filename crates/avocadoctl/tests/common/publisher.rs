//! A repository that a device trusts, and its server.

use avocado_manifest::Manifest;
use avocado_serve::ServeOptions;
use avocado_test_server::TestServer;
use avocado_tuf::testing::TestPublisher;
use jiff::Timestamp;

use super::Device;

pub const TOKEN: &str = "a secret";

/// A repository that a device trusts, and its server.
pub struct Publisher {
    _directory: tempfile::TempDir,
    pub desk: TestPublisher,
    pub server: TestServer,
}

impl Publisher {
    pub fn new(device: &Device) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let desk = TestPublisher::new(directory.path(), 5);
        std::fs::create_dir(desk.repository()).unwrap();
        let options = ServeOptions {
            token: Some(TOKEN.to_owned()),
            ..ServeOptions::new(desk.repository())
        };
        desk.trust(&device.base(), Timestamp::now());
        Publisher {
            _directory: directory,
            desk,
            server: TestServer::start(options).unwrap(),
        }
    }

    pub fn publish(&self, manifest: &Manifest, images: &[&[u8]]) {
        self.desk
            .publish_runtime(manifest, images, Timestamp::now());
    }
}
