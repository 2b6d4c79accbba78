//! A repository that a device trusts, and its server.

use std::fs;

use avocado_manifest::{Digest, Manifest};
use avocado_serve::{Options, Server};
use avocado_tuf::SigningKey;
use avocado_tuf::writer::{Publication, Target, publish, root};
use jiff::Timestamp;

use super::Device;

pub const TOKEN: &str = "a secret";

/// A repository that a device trusts, and its server.
pub struct Publisher {
    directory: tempfile::TempDir,
    key: SigningKey,
    pub server: Server,
}

impl Publisher {
    pub fn new(device: &Device) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let repository = directory.path().join("repository");
        fs::create_dir(&repository).unwrap();
        let options = Options {
            token: Some(TOKEN.to_owned()),
            ..Options::new(&repository)
        };
        let key = SigningKey::from_seed(&[5; 32]).unwrap();
        let metadata = device.base().join("metadata");
        fs::create_dir_all(&metadata).unwrap();
        fs::write(
            metadata.join("root.json"),
            root(&key, Timestamp::now()).unwrap(),
        )
        .unwrap();
        Publisher {
            directory,
            key,
            server: Server::start(options).unwrap(),
        }
    }

    pub fn publish(&self, manifest: &Manifest, images: &[&[u8]]) {
        let sources = self.directory.path().join("sources");
        fs::create_dir_all(&sources).unwrap();
        let json = manifest.to_json();
        let mut files = vec![("manifest.json".to_owned(), json.as_slice())];
        for (extension, image) in manifest.extensions.iter().zip(images) {
            files.push((extension.image_id.as_ref().unwrap().file_name(), image));
        }
        let paths: Vec<_> = files.iter().map(|(name, _)| sources.join(name)).collect();
        let targets: Vec<_> = files
            .iter()
            .zip(&paths)
            .map(|((name, bytes), source)| {
                fs::write(source, bytes).unwrap();
                Target {
                    name: name.clone(),
                    source,
                    digest: Digest::of(bytes),
                    length: bytes.len() as u64,
                }
            })
            .collect();
        publish(&Publication {
            directory: &self.directory.path().join("repository"),
            key: &self.key,
            role: "runtime-dev",
            targets: &targets,
            now: Timestamp::now(),
        })
        .unwrap();
    }
}
