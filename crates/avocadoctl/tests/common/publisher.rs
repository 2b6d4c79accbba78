//! A repository that a device trusts, and its server.

use avocado_manifest::Manifest;
use avocado_serve::{Options, Server};
use avocado_tuf::testing::Desk;
use jiff::Timestamp;

use super::Device;

pub const TOKEN: &str = "a secret";

/// A repository that a device trusts, and its server.
pub struct Publisher {
    _directory: tempfile::TempDir,
    pub desk: Desk,
    pub server: Server,
}

impl Publisher {
    pub fn new(device: &Device) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let desk = Desk::new(directory.path(), 5);
        std::fs::create_dir(desk.repository()).unwrap();
        let options = Options {
            token: Some(TOKEN.to_owned()),
            ..Options::new(desk.repository())
        };
        desk.trust(&device.base(), Timestamp::now());
        Publisher {
            _directory: directory,
            desk,
            server: Server::start(options).unwrap(),
        }
    }

    pub fn publish(&self, manifest: &Manifest, images: &[&[u8]]) {
        self.desk
            .publish_runtime(manifest, images, Timestamp::now());
    }
}
