//! How an image gets into a channel.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use avocado_events::{EventKind, StepStatus};
use avocado_manifest::{VmArtifact, VmImage};
use avocado_tuf::writer::WriterError;

use super::*;
use crate::VmError;

impl Place {
    /// Makes an image beside the server.
    fn image(&self, version: &str) -> PathBuf {
        let dir = self.root.path().join("images").join(version);
        image::tests::make(&dir, version);
        dir
    }

    fn put(&self, image: &Path, now: Timestamp) -> (Result<PublishedImage, VmError>, Vec<Event>) {
        self.put_signed(image, now, 1)
    }

    fn put_signed(
        &self,
        image: &Path,
        now: Timestamp,
        seed: u8,
    ) -> (Result<PublishedImage, VmError>, Vec<Event>) {
        let said = Mutex::new(Vec::new());
        let sink = |event: Event| said.lock().unwrap().push(event);
        let key = key(seed);
        let publication = ChannelPublication {
            directory: &self.www(),
            channel: "stable",
            image: &ImageDir::load(image).unwrap(),
            signers: RoleSigners::one(&key),
            now,
        };
        let published = publish(&publication, &sink);
        (published, said.into_inner().unwrap())
    }

    /// Publishes one, without a warning.
    fn put_well(&self, version: &str) -> PublishedImage {
        let (published, said) = self.put(&self.image(version), now());
        assert!(said.iter().all(|event| event.kind != EventKind::Warning));
        published.unwrap()
    }

    fn published(&self, version: &str) -> PathBuf {
        self.repository().join(version)
    }
}

fn artifacts(dir: &Path) -> Vec<(PathBuf, VmArtifact)> {
    let image = ImageDir::load(dir).unwrap();
    let artifacts = image.manifest().artifacts.values();
    let artifacts = artifacts.map(|artifact| (dir.join(&artifact.file), artifact.clone()));
    artifacts.collect()
}

fn inodes(dir: &Path) -> Vec<u64> {
    let files = artifacts(dir).into_iter();
    let inodes = files.map(|(path, _)| fs::metadata(path).unwrap().ino());
    inodes.collect()
}

#[test]
fn the_files_of_a_channel_are_its_own_and_for_everybody() {
    let place = Place::new();
    let source = place.image("1.0");
    for (path, _) in artifacts(&source) {
        // As `avocado vm update` leaves them.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    // One is somewhere else.
    fs::rename(source.join("var.img"), place.root.path().join("var.img")).unwrap();
    std::os::unix::fs::symlink(place.root.path().join("var.img"), source.join("var.img")).unwrap();
    let (published, said) = place.put(&source, now());
    let published = published.unwrap();
    assert_eq!(
        published.root,
        place.repository().join("metadata/1.root.json")
    );
    for (path, _) in artifacts(&source) {
        fs::write(path, "changed in its place").unwrap();
    }
    for (path, artifact) in artifacts(&place.published("1.0")) {
        let found = fs::symlink_metadata(&path).unwrap();
        assert!(found.is_file(), "{}", path.display());
        assert_eq!(found.mode() & 0o777, 0o644);
        assert_eq!(image::digest(&path, |_, _| {}).unwrap(), artifact.sha256);
        let file = artifact.file.as_str();
        let told = said.iter().rev().find(|e| e.item == file);
        let told = told.unwrap();
        assert_eq!((told.done, told.total), (artifact.size, artifact.size));
    }
    assert_eq!(said.last().unwrap().status, Some(StepStatus::Success));
    place.update();
    place.is_installed("1.0");
}

#[test]
fn signing_anew_copies_nothing_and_mends_what_was_damaged() {
    let place = Place::new();
    place.put_well("1.0");
    let before = inodes(&place.published("1.0"));
    let week = now() + jiff::SignedDuration::from_hours(24 * 8);
    let stale = place.source().offer(&place.dir(), week).unwrap_err();
    assert!(matches!(
        channel_error(stale),
        ChannelError::Untrusted { .. }
    ));
    let source = place.image("1.0");
    place.put(&source, week).0.unwrap();
    place.source().offer(&place.dir(), week).unwrap();
    assert_eq!(inodes(&place.published("1.0")), before);

    let kernel = place.published("1.0").join("kernel.img");
    fs::write(&kernel, "kernel of 0.1").unwrap();
    place.put(&source, week).0.unwrap();
    assert_eq!(fs::read(kernel).unwrap(), b"kernel of 1.0");
}

#[test]
fn what_is_damaged_gets_no_name_and_no_signature() {
    let place = Place::new();
    place.put_well("1.0");
    let index = fs::read(place.www().join("stable.json")).unwrap();
    let source = place.image("2.0");
    fs::write(source.join("kernel.img"), "kernel of 9.0").unwrap();
    let (refused, said) = place.put(&source, now());
    let damaged = matches!(refused, Err(VmError::Damaged { path, .. }) if path.ends_with("images/2.0/kernel.img"));
    assert!(damaged);
    assert_eq!(said.last().unwrap().status, Some(StepStatus::Failed));
    assert_eq!(files(&place.published("2.0")), ["initramfs.img"]);
    assert_eq!(fs::read(place.www().join("stable.json")).unwrap(), index);
    place.update();
    place.is_installed("1.0");
}

#[test]
fn a_publication_that_was_cut_off_misleads_nobody_and_is_finished() {
    let place = Place::new();
    place.put_well("1.0");
    let index = fs::read(place.www().join("stable.json")).unwrap();
    place.put_well("2.0");
    // As after the signature.
    fs::write(place.www().join("stable.json"), index).unwrap();
    let refused = channel_error(place.offer().unwrap_err());
    assert!(matches!(refused, ChannelError::NotSigned { .. }));
    assert!(refused.hint().unwrap().contains("try again"));
    place.put_well("2.0");
    place.update();
    place.is_installed("2.0");
}

#[test]
fn going_back_is_warned_of_and_each_platform_has_its_version() {
    let place = Place::new();
    place.put_well("2.0");
    let other = place.image("3.0");
    let manifest = fs::read(other.join(MANIFEST)).unwrap();
    let mut manifest = VmImage::parse(&manifest).unwrap();
    manifest.platform = "avocado-qemuarm64".into();
    fs::write(other.join(MANIFEST), manifest.to_json().unwrap()).unwrap();
    place.put(&other, now()).0.unwrap();
    assert_eq!(place.offer().unwrap().version(), "2.0");

    let (published, said) = place.put(&place.image("1.10"), now());
    let warned = said.iter().find(|event| event.kind == EventKind::Warning);
    let warned = &warned.unwrap().message;
    assert!(
        warned.starts_with("version 1.10 is older than 2.0,"),
        "{warned}"
    );
    let index = published.unwrap().index;
    assert_eq!(index.version, "3.0");
    assert_eq!(index.version_for(PLATFORM), Some("1.10"));
    assert_eq!(index.version_for("avocado-qemuarm64"), Some("3.0"));
    assert_eq!(index.version_for("other"), None);
}

#[test]
fn another_key_does_not_sign_what_was_signed() {
    let place = Place::new();
    place.put_well("1.0");
    let (refused, _) = place.put_signed(&place.image("2.0"), now(), 2);
    let refused = channel_error(refused.unwrap_err());
    assert!(
        matches!(&refused, ChannelError::Signing { source, .. } if matches!(**source, WriterError::OtherKey { .. }))
    );
    assert!(refused.hint().unwrap().contains("--key"));
    assert_eq!(place.offer().unwrap().version(), "1.0");
}

#[test]
fn the_root_to_pin_stays_the_first_when_it_is_renewed() {
    let place = Place::new();
    let root = fs::read(place.put_well("1.0").root).unwrap();
    let later = now() + jiff::SignedDuration::from_hours(24 * 365 * 30);
    let (published, _) = place.put(&place.image("2.0"), later);
    let published = published.unwrap();
    assert!(place.repository().join("metadata/2.root.json").is_file());
    assert_eq!(fs::read(published.root).unwrap(), root);
    let source = place.source().signed_under(root);
    assert_eq!(source.offer(&place.dir(), later).unwrap().version(), "2.0");
}
