//! For tests: small repositories and the runtimes in them. Everything here panics when something
//! goes wrong.

use std::fs;
use std::path::{Path, PathBuf};

use avocado_manifest::{
    Digest, ImageId, MANIFEST_VERSION, Manifest, RuntimeExtension, RuntimeLabel, canonical_json,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::digests::hex;
use crate::{Publication, PublicationTarget, PublishedVersions, RoleSigners, SigningKey, writer};

/// A publisher: a directory with a repository and with the files that were published in it.
#[derive(Debug)]
pub struct TestPublisher {
    directory: PathBuf,
    /// Signs for every role.
    pub key: SigningKey,
}

/// The delegated role that [`TestPublisher::publish`] publishes.
pub const ROLE: &str = "runtime-dev";

impl TestPublisher {
    /// A publisher in `directory`. The same `seed` gives the same key.
    pub fn new(directory: impl Into<PathBuf>, seed: u8) -> Self {
        TestPublisher {
            directory: directory.into(),
            key: SigningKey::from_seed(&[seed; 32]).unwrap(),
        }
    }

    /// What is to be served. It is not there before the first publication.
    pub fn repository(&self) -> PathBuf {
        self.directory.join("repository")
    }

    /// Writes the root that devices trust into the store at `base`, as provisioning does.
    pub fn trust(&self, base: &Path, now: Timestamp) {
        let metadata = base.join("metadata");
        fs::create_dir_all(&metadata).unwrap();
        let anchor = writer::root(&self.key, now).unwrap();
        fs::write(metadata.join("root.json"), anchor).unwrap();
    }

    /// The file that bytes are published from.
    pub fn source(&self, bytes: &[u8]) -> PathBuf {
        let sources = self.directory.join("sources");
        sources.join(Digest::of(bytes).to_string())
    }

    /// Hands files, by name and content, to `f` as a publication. The names may lie about them.
    pub fn with<N: AsRef<str>, B: AsRef<[u8]>, T>(
        &self,
        role: &str,
        files: &[(N, B)],
        now: Timestamp,
        f: impl FnOnce(&Publication<'_>) -> T,
    ) -> T {
        fs::create_dir_all(self.directory.join("sources")).unwrap();
        let paths = files.iter().map(|(_, bytes)| {
            // A new file, as a build step makes one.
            let path = self.source(bytes.as_ref());
            let _ = fs::remove_file(&path);
            fs::write(&path, bytes).unwrap();
            path
        });
        let paths: Vec<_> = paths.collect();
        let targets = files
            .iter()
            .zip(&paths)
            .map(|((name, bytes), source)| PublicationTarget {
                name: name.as_ref().to_owned(),
                source,
                digest: Digest::of(bytes.as_ref()),
                length: bytes.as_ref().len() as u64,
            });
        let targets: Vec<_> = targets.collect();
        f(&Publication {
            directory: &self.repository(),
            signers: RoleSigners::one(&self.key),
            role,
            targets: &targets,
            now,
        })
    }

    /// Publishes files, by name and content.
    pub fn publish<N: AsRef<str>, B: AsRef<[u8]>>(
        &self,
        files: &[(N, B)],
        now: Timestamp,
    ) -> PublishedVersions {
        self.with(ROLE, files, now, writer::publish).unwrap()
    }

    /// Publishes a runtime with these images.
    pub fn publish_runtime(&self, manifest: &Manifest, images: &[&[u8]], now: Timestamp) {
        let mut files = vec![("manifest.json".to_owned(), manifest.to_json().unwrap())];
        files.extend(
            images
                .iter()
                .map(|image| (image_name(image), image.to_vec())),
        );
        self.publish(&files, now);
    }

    /// Replaces the key that signs for every role by that of `seed`: the next root is signed by both
    /// keys, and what had been published is gone.
    pub fn rotate(&mut self, seed: u8, now: Timestamp) {
        let metadata = self.repository().join("metadata");
        let roots: Vec<_> = (1..)
            .map(|version| metadata.join(format!("{version}.root.json")))
            .take_while(|path| path.exists())
            .map(|path| (fs::read(&path).unwrap(), path))
            .collect();
        let new = SigningKey::from_seed(&[seed; 32]).unwrap();
        let root = writer::root(&new, now).unwrap();
        let mut root: Value = serde_json::from_slice(&root).unwrap();
        let version = roots.len() + 1;
        root["signed"]["version"] = version.into();
        let message = canonical_json(&root["signed"]).unwrap();
        let signatures = [&self.key, &new].map(|key| {
            let signature = key.sign(&message);
            json!({"keyid": key.id(), "sig": hex(&signature)})
        });
        root["signatures"] = json!(signatures);
        self.begin_anew();
        fs::create_dir_all(&metadata).unwrap();
        for (bytes, path) in roots {
            fs::write(path, bytes).unwrap();
        }
        let root = serde_json::to_vec(&root).unwrap();
        for name in [format!("{version}.root.json"), "root.json".to_owned()] {
            fs::write(metadata.join(name), &root).unwrap();
        }
        self.key = new;
    }

    /// Begins again with an empty repository at the same place.
    pub fn begin_anew(&self) {
        for entry in fs::read_dir(self.repository()).unwrap() {
            fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
    }
}

/// The name that an image has in a repository and in a pool.
pub fn image_name(image: &[u8]) -> String {
    ImageId::from_digest(Digest::of(image)).file_name()
}

/// An extension with this image.
pub fn extension(name: &str, version: &str, image: &[u8]) -> RuntimeExtension {
    let digest = Digest::of(image);
    RuntimeExtension {
        name: name.parse().unwrap(),
        version: version.parse().unwrap(),
        image_id: Some(ImageId::from_digest(digest)),
        sha256: Some(digest),
        image_type: None,
        enabled: true,
    }
}

/// A runtime with these extensions, under the id that follows from them.
pub fn runtime(
    name: &str,
    version: &str,
    built_at: &str,
    extensions: Vec<RuntimeExtension>,
) -> Manifest {
    let mut manifest = Manifest {
        manifest_version: MANIFEST_VERSION,
        id: "none".parse().unwrap(),
        built_at: built_at.to_owned(),
        runtime: RuntimeLabel {
            name: name.to_owned(),
            version: version.to_owned(),
        },
        rootfs: None,
        initramfs: None,
        kernel: None,
        extensions,
        os_bundle: None,
    };
    manifest.id = manifest.content_id().unwrap();
    manifest
}
