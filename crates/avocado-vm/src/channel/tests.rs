use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use avocado_events::{Cancel, Event, Silent};
use avocado_manifest::Digest;
use avocado_serve::{Fault, Options, Rule, Server};
use avocado_tuf::http::Network;
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::dir::{File, StateDir};
use crate::image::{self, Image, MANIFEST};
use crate::lock::Lock;

const PLATFORM: &str = "avocado-qemux86-64";

/// A server with a channel, and a state directory.
struct Place {
    root: tempfile::TempDir,
    server: Server,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("www")).unwrap();
        let server = Server::start(Options::new(root.path().join("www"))).unwrap();
        Place { root, server }
    }

    fn www(&self) -> PathBuf {
        self.root.path().join("www")
    }

    fn dir(&self) -> StateDir {
        StateDir::new(self.root.path().join("vm"))
    }

    fn install(&self) -> PathBuf {
        self.dir().file(File::Install)
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

    fn source(&self) -> Source {
        Source::new(&self.server.url(), "stable", PLATFORM, &Network::default()).unwrap()
    }

    fn offer(&self) -> Result<Offer, crate::Error> {
        self.source().offer(&self.dir(), now())
    }

    fn download(&self, turn: &Turn, offer: &Offer) -> Result<Pending, crate::Error> {
        let files = &self.source().files;
        turn.download_with(files, Duration::ZERO, offer, &Cancel::new(), &Silent)
    }

    fn update(&self) {
        let offer = self.offer().unwrap();
        let turn = Turn::take(&self.dir()).unwrap();
        let pending = self.download(&turn, &offer).unwrap();
        let lock = Lock::take(&self.dir(), "test").unwrap();
        turn.install(&pending, &lock).unwrap();
        assert!(turn.pending().unwrap().is_none());
    }

    fn requests(&self) -> usize {
        self.server.requests().len()
    }

    /// The installed image is whole and has this version.
    fn is_installed(&self, version: &str) {
        let image = Image::load(&self.install()).unwrap();
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

fn channel_error(error: crate::Error) -> Error {
    match error {
        crate::Error::Channel(error) => error,
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

#[test]
fn an_image_is_installed_and_then_current() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    let offer = place.offer().unwrap();
    assert!(offer.update_available());
    assert_eq!(offer.installed, None);
    place.update();
    place.is_installed("1.0");
    assert_eq!(files(&place.install().join("staging")), [".lock"]);
}

#[test]
fn only_what_differs_is_fetched_and_the_seed_stays() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    place.update();
    let seed = fs::read(place.install().join("var.img")).unwrap();
    place.publish("2.0", json!({}));
    // The kernel is the same.
    fs::copy(
        place.www().join("1.0/kernel.img"),
        place.www().join("2.0/kernel.img"),
    )
    .unwrap();
    place.edit_manifest("2.0", |manifest| {
        let digest = Digest::of(b"kernel of 1.0");
        manifest["artifacts"]["kernel"]["sha256"] = json!(digest.to_string());
        manifest["artifacts"]["kernel"]["size"] = json!(13);
        // And a file of another name takes the place of one.
        manifest["artifacts"]["initramfs"]["file"] = json!("initramfs.new");
    });
    fs::rename(
        place.www().join("2.0/initramfs.img"),
        place.www().join("2.0/initramfs.new"),
    )
    .unwrap();
    let offer = place.offer().unwrap();
    assert_eq!(offer.fetch, ["initramfs", "rootfs"]);
    assert_eq!(offer.installed.as_deref(), Some("1.0"));
    assert!(
        !offer.new_seed,
        "there is no /var that could miss something"
    );
    fs::write(place.dir().file(File::Var), "").unwrap();
    assert!(place.offer().unwrap().new_seed);
    place.update();
    place.is_installed("2.0");
    assert_eq!(fs::read(place.install().join("var.img")).unwrap(), seed);
    assert_eq!(
        files(&place.install()),
        [
            "initramfs.new",
            "kernel.img",
            "manifest.json",
            "rootfs.img",
            "staging",
            "var.img"
        ]
    );
}

#[test]
fn a_new_version_of_the_same_files_is_taken_over_once() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    place.update();
    place.edit_manifest("1.0", |manifest| manifest["version"] = json!("1.0.1"));
    let offer = place.offer().unwrap();
    assert!(offer.update_available());
    assert!(offer.fetch.is_empty());
    let before = place.requests();
    place.update();
    place.is_installed("1.0.1");
    // Twice the channel and the manifest, and no file.
    assert_eq!(place.requests(), before + 4);
}

#[test]
fn cut_downloads_go_on_where_they_stopped() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(place.www().join("1.0/rootfs.img"), &bytes).unwrap();
    place.edit_manifest("1.0", |manifest| {
        let rootfs = &mut manifest["artifacts"]["rootfs"];
        rootfs["sha256"] = json!(Digest::of(&bytes).to_string());
        rootfs["size"] = json!(bytes.len());
    });
    let faults = place.server.faults();
    faults.add(Rule::new(Fault::Cut(1_000_000), "*/rootfs.img").first(3));
    place.update();
    place.is_installed("1.0");
    let requests = place.server.requests();
    let tries: Vec<_> = requests
        .iter()
        .filter(|r| r.path.ends_with("rootfs.img"))
        .collect();
    assert_eq!(tries.len(), 3, "each goes on");
    let sent: u64 = tries.iter().map(|r| r.sent).sum();
    assert_eq!(sent, bytes.len() as u64, "no byte came twice");
}

#[test]
fn a_server_that_dies_leaves_what_it_sent_for_the_next_run() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    let faults = place.server.faults();
    // Five bytes, and then never one more.
    faults.add(Rule::new(Fault::Cut(0), "*/rootfs.img"));
    faults.add(Rule::new(Fault::Cut(5), "*/rootfs.img").first(1));
    let offer = place.offer().unwrap();
    let turn = Turn::take(&place.dir()).unwrap();
    let error = place.download(&turn, &offer).unwrap_err();
    let error = channel_error(error);
    assert!(matches!(error, Error::Cut { done: 5, .. }), "{error:?}");
    assert!(error.hint().is_some());
    assert!(turn.pending().unwrap().is_none());
    assert!(!place.install().join(MANIFEST).exists());
    drop(turn);
    let partial = place.install().join("staging/1.0/.part-rootfs.img");
    assert_eq!(fs::read(&partial).unwrap(), b"rootf");
    faults.clear();
    place.update();
    place.is_installed("1.0");
}

#[test]
fn wrong_bytes_never_get_a_name() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    let faults = place.server.faults();
    faults.add(Rule::new(Fault::Corrupt(3), "*/kernel.img"));
    let offer = place.offer().unwrap();
    let turn = Turn::take(&place.dir()).unwrap();
    let error = channel_error(place.download(&turn, &offer).unwrap_err());
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    let staging = place.install().join("staging/1.0");
    assert!(!staging.join("kernel.img").exists());
    assert!(turn.pending().unwrap().is_none());
    // Rubbish that an earlier run left is fetched anew, without Range as well.
    faults.clear();
    faults.add(Rule::new(Fault::IgnoreRange, "*"));
    fs::write(staging.join(".part-kernel.img"), "kernel rub").unwrap();
    fs::write(
        staging.join(".part-rootfs.img"),
        "longer than the whole file can be",
    )
    .unwrap();
    drop(turn);
    place.update();
    place.is_installed("1.0");
}

#[test]
fn a_file_that_is_longer_than_promised_is_not_stored() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    fs::write(place.www().join("1.0/kernel.img"), vec![1; 1 << 20]).unwrap();
    let offer = place.offer().unwrap();
    let turn = Turn::take(&place.dir()).unwrap();
    let error = channel_error(place.download(&turn, &offer).unwrap_err());
    assert!(matches!(error, Error::TooLarge { .. }), "{error:?}");
}

#[test]
fn an_interrupted_installation_is_finished() {
    // After each rename.
    for moved in 0..=4 {
        let place = Place::new();
        place.publish("1.0", json!({}));
        place.update();
        place.publish("2.0", json!({}));
        let offer = place.offer().unwrap();
        let turn = Turn::take(&place.dir()).unwrap();
        let pending = place.download(&turn, &offer).unwrap();
        turn.remember_running().unwrap();
        drop((pending, turn));
        let staging = place.install().join("staging/2.0");
        for name in ["initramfs.img", "kernel.img", "rootfs.img", MANIFEST]
            .iter()
            .take(moved)
        {
            fs::rename(staging.join(name), place.install().join(name)).unwrap();
        }
        let turn = Turn::take(&place.dir()).unwrap();
        assert!(turn.was_running());
        match turn.pending().unwrap() {
            Some(pending) => {
                assert_eq!(pending.version(), Some("2.0"));
                let lock = Lock::take(&place.dir(), "test").unwrap();
                turn.install(&pending, &lock).unwrap();
            }
            None => assert_eq!(moved, 4),
        }
        place.is_installed("2.0");
        assert_eq!(
            files(&place.install().join("staging")),
            [".lock", ".was-running"]
        );
        forget_running(&place.dir()).unwrap();
        assert!(!turn.was_running());
    }
}

#[test]
fn what_another_version_left_is_dropped() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    let old = place.install().join("staging/0.9");
    fs::create_dir_all(&old).unwrap();
    fs::write(old.join(".part-rootfs.img"), "half").unwrap();
    place.update();
    assert!(!old.exists());
}

#[test]
fn there_is_one_update_at_a_time() {
    let place = Place::new();
    let turn = Turn::take(&place.dir()).unwrap();
    let error = channel_error(Turn::take(&place.dir()).unwrap_err());
    assert!(matches!(error, Error::Busy), "{error:?}");
    drop(turn);
    Turn::take(&place.dir()).unwrap();
}

#[test]
fn what_is_wrong_with_a_channel_is_an_error() {
    let place = Place::new();
    assert!(matches!(
        channel_error(place.offer().unwrap_err()),
        Error::Fetch { .. }
    ));
    fs::write(place.www().join("stable.json"), "<html>").unwrap();
    assert!(matches!(
        channel_error(place.offer().unwrap_err()),
        Error::Index { .. }
    ));
    place.publish("1.0", json!({"platforms": {}}));
    let error = channel_error(place.offer().unwrap_err());
    assert_eq!(
        error.to_string(),
        "channel stable has no image for avocado-qemux86-64"
    );
    place.publish("1.0", json!({"min_cli_version": "99.0.0"}));
    let error = channel_error(place.offer().unwrap_err());
    assert_eq!(
        error.to_string(),
        format!(
            "version 1.0 of the image needs avocado 99.0.0 or later; this is {}",
            env!("CARGO_PKG_VERSION")
        )
    );
    place.publish("1.0", json!({"min_cli_version": "soon"}));
    assert!(matches!(
        channel_error(place.offer().unwrap_err()),
        Error::Index { .. }
    ));
    place.publish("1.0", json!({"min_cli_version": "0.1.0"}));
    place.offer().unwrap();
    fs::write(place.www().join("1.0/manifest.json"), "{}").unwrap();
    assert!(matches!(
        place.offer().unwrap_err(),
        crate::Error::Manifest { .. }
    ));
    for name in ["", "..", "a/b", ".x"] {
        let error = Source::new("http://x", name, PLATFORM, &Network::default()).unwrap_err();
        assert!(matches!(channel_error(error), Error::Name(_)), "{name}");
    }
}

#[test]
fn a_version_that_is_a_path_stays_inside() {
    let place = Place::new();
    place.publish("1.0", json!({"version": "../../../out"}));
    place.update();
    assert_eq!(files(place.root.path()), ["vm", "www"]);
    assert_eq!(files(&place.install().join("staging")), [".lock"]);
}

#[test]
fn a_channel_is_remembered_for_a_day() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    let (source, dir) = (place.source(), place.dir());
    let version = |now| source.remembered(&dir, now).unwrap().version;
    assert_eq!(version(now()), "1.0");
    place.publish("2.0", json!({}));
    let hours = |hours| now() + jiff::SignedDuration::from_hours(hours);
    assert_eq!(version(hours(23)), "1.0");
    assert_eq!(place.requests(), 1);
    // A clock that was set back proves nothing.
    assert_eq!(version(hours(-1)), "2.0");
    place.publish("3.0", json!({}));
    assert_eq!(version(hours(24)), "3.0");
    assert_eq!(version(hours(25)), "3.0");
    place.publish("4.0", json!({}));
    let asked = source.index(&dir, hours(25)).unwrap().version;
    assert_eq!(asked, "4.0", "who asks aloud is told the latest");
}

#[test]
fn secure_channels_name_nothing_insecure() {
    let source = Source::new("https://x/y/", "stable", PLATFORM, &Network::default()).unwrap();
    assert_eq!(source.url(), "https://x/y/stable.json");
    let resolve = |url| source.resolve(url).map_err(|e| e.to_string());
    assert_eq!(resolve("1.0/"), Ok("https://x/y/1.0".to_owned()));
    assert_eq!(resolve("https://z/1.0/"), Ok("https://z/1.0".to_owned()));
    assert!(resolve("http://x/y/1.0").is_err());
    assert!(resolve("file:///etc").is_err());
}

#[test]
fn progress_counts_all_files_and_ends_at_the_total() {
    let place = Place::new();
    place.publish("1.0", json!({}));
    let offer = place.offer().unwrap();
    let turn = Turn::take(&place.dir()).unwrap();
    let said = Mutex::new(Vec::new());
    let sink = |event: Event| said.lock().unwrap().push(event);
    let cancel = Cancel::new();
    turn.download(&place.source(), &offer, &cancel, &sink)
        .unwrap();
    let said = said.into_inner().unwrap();
    let last = said.iter().rev().find(|e| e.done.is_some()).unwrap();
    assert_eq!(last.done, last.total);
    let size: usize = ["kernel", "initramfs", "rootfs", "var"]
        .iter()
        .map(|r| r.len() + " of 1.0".len())
        .sum();
    assert_eq!(last.total, Some(size as u64));
    cancel.cancel();
    drop(turn);
    let place = Place::new();
    place.publish("1.0", json!({}));
    let offer = place.offer().unwrap();
    let turn = Turn::take(&place.dir()).unwrap();
    let error = turn
        .download(&place.source(), &offer, &cancel, &Silent)
        .unwrap_err();
    assert!(matches!(channel_error(error), Error::Cancelled));
}
