//! Adding from a repository that our writer published, over real HTTP.
#![allow(missing_docs)]

mod common;
#[path = "common/world.rs"]
mod world;

use std::fs;
use std::sync::{Arc, OnceLock};

use avocado_device::{AddRequest, Cancel, DeviceError, FailureReason, PruneOptions};
use avocado_events::{AmountUnit, Silent, StepStatus};
use avocado_manifest::{Digest, Manifest, RuntimeExtension};
use avocado_serve::{RequestOutcome, ServeOptions};
use avocado_test_server::{Fault, FaultRule, Faults, TestServer};
use avocado_tuf::SigningKey;
use avocado_tuf::writer::root;
use common::*;
use jiff::Span;
use world::*;

fn one(extensions: Vec<RuntimeExtension>) -> Manifest {
    runtime("1", "2026-01-01T00:00:00Z", extensions)
}

#[test]
fn a_published_runtime_is_staged_and_only_once() {
    let world = World::new();
    let shared = vec![1; 300_000];
    let first = one(vec![
        extension("app", "1", b"one"),
        extension("base", "1", &shared),
    ]);
    world.publish(&first, &[b"one", &shared]);
    let events = Events::default();
    let entry = world
        .device
        .add_from_url(&world.request(), &events)
        .unwrap();
    assert_eq!((&*entry.manifest, entry.active), (&first, false));
    let events = events.take();
    let mut bytes = events
        .iter()
        .filter(|e| e.unit == AmountUnit::Bytes && e.item == raw(&shared));
    assert_eq!(bytes.next_back().unwrap().done, Some(300_000));
    assert_eq!(events.last().unwrap().status, Some(StepStatus::Success));
    assert_eq!(world.device.list().unwrap(), std::slice::from_ref(&entry));
    assert!(!world.base().join(".update-staging").exists());
    let kept = world
        .base()
        .join("runtimes")
        .join(&first.id)
        .join("manifest.json");
    assert_eq!(fs::read(kept).unwrap(), first.to_json().unwrap());

    let before = world.visible();
    assert_eq!(world.add().unwrap(), entry);
    assert_eq!(world.visible(), before);

    // The next one brings what is new, and nothing else.
    let second = runtime(
        "2",
        "2026-01-02T00:00:00Z",
        vec![
            extension("app", "2", b"two"),
            extension("base", "1", &shared),
        ],
    );
    world.publish(&second, &[b"two", &shared]);
    world.add().unwrap();
    let staged: Vec<_> = world
        .device
        .list()
        .unwrap()
        .into_iter()
        .map(|e| e.manifest)
        .collect();
    assert_eq!(staged, [second.into(), first.into()]);
    assert_eq!(world.requests_for(&raw(&shared)), 1);
    assert_eq!(world.requests_for(&raw(b"one")), 1);
    assert_eq!(world.requests_for(&raw(b"two")), 1);
}

#[test]
fn what_is_stated_of_how_it_was_made_is_not_fetched() {
    let world = World::new();
    let manifest = one(vec![extension("app", "1", b"image")]);
    let statement = "provenance.intoto.jsonl";
    world.publish_as(&[
        ("manifest.json".to_owned(), &manifest.to_json().unwrap()),
        (raw(b"image"), b"image"),
        (statement.to_owned(), b"{}"),
    ]);
    world.add().unwrap();
    assert_eq!(world.requests_for(&raw(b"image")), 1);
    assert_eq!(world.requests_for(statement), 0);
}

#[test]
fn images_may_come_from_elsewhere() {
    let world = World::new();
    let manifest = one(vec![extension("app", "1", b"image")]);
    world.publish(&manifest, &[b"image"]);
    let artifacts = world.dir.path().join("artifacts");
    fs::create_dir(&artifacts).unwrap();
    let targets = world.dir.path().join("repository/targets");
    for entry in fs::read_dir(targets).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "raw") {
            fs::rename(&path, artifacts.join(path.file_name().unwrap())).unwrap();
        }
    }
    let other = TestServer::start(ServeOptions::new(&artifacts)).unwrap();
    assert!(matches!(world.refused(), FailureReason::Repository { .. }));
    let request = AddRequest {
        artifacts_url: Some(other.url()),
        ..world.request()
    };
    world.device.add_from_url(&request, &Silent).unwrap();
    assert_eq!(other.requests().len(), 1);
}

#[test]
fn an_interrupted_download_goes_on_where_it_ended() {
    let started = Arc::new(OnceLock::<Faults>::new());
    let world = World::start(|options| {
        let faults = started.clone();
        options.on_request = Some(Arc::new(move |request| {
            if request.outcome == RequestOutcome::Broken {
                let gone = FaultRule::new(Fault::Status(404), "*.raw");
                faults.get().unwrap().add(gone);
            }
        }));
    });
    started.set(world.server.faults().clone()).unwrap();
    let image: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 251) as u8).collect();
    world.publish(&one(vec![extension("app", "1", &image)]), &[&image]);
    // The connection breaks, and from then on the image is gone.
    world
        .server
        .faults()
        .add(FaultRule::new(Fault::Cut(100_000), "*.raw"));
    assert!(matches!(world.refused(), FailureReason::Repository { .. }));
    let partial = world.base().join(".update-staging").join(raw(&image));
    let there = fs::metadata(&partial).unwrap().len();
    assert!((100_000..2_000_000).contains(&there), "{there}");
    // Something else that was left there is not kept.
    fs::write(world.base().join(".update-staging/old.raw"), "old").unwrap();

    world.server.faults().clear();
    let sent = |world: &World| -> u64 { world.server.requests().iter().map(|r| r.sent).sum() };
    let before = sent(&world);
    world.add().unwrap();
    let fetched = sent(&world) - before;
    assert!(
        fetched < image.len() as u64 - there + 50_000,
        "{fetched} after {there}"
    );
    assert!(!world.base().join(".update-staging").exists());
}

#[test]
fn a_corrupt_image_in_the_pool_is_fetched_again() {
    let world = World::new();
    let manifest = one(vec![extension("app", "1", b"image")]);
    world.publish(&manifest, &[b"image"]);
    let path = put_image(world.base(), b"image");
    fs::write(&path, "imagE").unwrap();
    world.add().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"image");
    // Also when the runtime is there already.
    fs::write(&path, "").unwrap();
    world.add().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"image");
}

#[test]
fn what_the_repository_offers_must_fit_together() {
    let world = World::new();
    let app = || extension("app", "1", b"image");
    let json = |manifest: &Manifest| manifest.to_json().unwrap();

    world.publish_as(&[(raw(b"image"), b"image")]);
    assert!(
        matches!(world.refused(), FailureReason::NotOffered { .. }),
        "no manifest"
    );

    world.publish(&one(vec![app()]), &[]);
    assert!(
        matches!(world.refused(), FailureReason::NotOffered { .. }),
        "no image"
    );

    // An image under the name of another one, and one whose digest is not the manifest's.
    let manifest = json(&one(vec![app()]));
    world.publish_as(&[
        ("manifest.json".to_owned(), &manifest),
        (raw(b"image"), b"imagE"),
    ]);
    assert!(
        matches!(world.refused(), FailureReason::Contradiction { .. }),
        "the id"
    );
    let mut lying = app();
    lying.sha256 = Some(Digest::of(b"other"));
    world.publish(&one(vec![lying]), &[b"image"]);
    assert!(
        matches!(world.refused(), FailureReason::Contradiction { .. }),
        "the digest"
    );

    // A manifest that an unsigned file in the staging directory would be preferred to.
    let staging = world.base().join(".update-staging");
    fs::create_dir_all(&staging).unwrap();
    fs::write(staging.join("manifest.json"), json(&one(Vec::new()))).unwrap();
    world.publish_as(&[("manifest.json".to_owned(), b"{}")]);
    assert!(matches!(world.refused(), FailureReason::Manifest { .. }));
    let hostile = String::from_utf8(json(&one(vec![app()]))).unwrap();
    for to in ["../../../evil", "/etc/evil", ".hidden"] {
        let id = one(vec![app()]).id;
        let hostile = hostile.replace(id.as_str(), to);
        world.publish_as(&[("manifest.json".to_owned(), hostile.as_bytes())]);
        assert!(
            matches!(world.refused(), FailureReason::Manifest { .. }),
            "{to}"
        );
    }
    let huge = vec![b' '; 5 << 20];
    world.publish_as(&[("manifest.json".to_owned(), &huge)]);
    let asked = world.requests_for(".manifest.json");
    assert!(matches!(world.refused(), FailureReason::TooLarge { .. }));
    let again = world.requests_for(".manifest.json");
    assert_eq!(again, asked, "it was not even asked for");

    let good = one(vec![app()]);
    world.publish(&good, &[b"image"]);
    assert_eq!(*world.add().unwrap().manifest, good);
    let tree = tree(world.dir.path());
    assert!(!tree.iter().any(|line| line.contains("evil")));
}

#[test]
fn only_what_the_trust_anchor_vouches_for_is_taken() {
    let world = World::new();
    let manifest = one(vec![extension("app", "1", b"image")]);
    world.publish(&manifest, &[b"image"]);

    let wrong_token = AddRequest {
        auth_token: Some("another".to_owned()),
        ..world.request()
    };
    let error = world
        .device
        .add_from_url(&wrong_token, &Silent)
        .unwrap_err();
    assert!(matches!(
        error,
        DeviceError::Staging(FailureReason::Repository { .. })
    ));
    assert!(!format!("{wrong_token:?}").contains("another"));

    let late = AddRequest {
        now: world
            .now
            .checked_add(Span::new().hours(24 * 365 * 30))
            .unwrap(),
        ..world.request()
    };
    let error = world.device.add_from_url(&late, &Silent).unwrap_err();
    assert!(
        matches!(
            error,
            DeviceError::Staging(FailureReason::Repository { .. })
        ),
        "expired"
    );

    world
        .server
        .faults()
        .add(FaultRule::new(Fault::Corrupt(2), "*.raw"));
    assert!(matches!(world.refused(), FailureReason::Repository { .. }));
    world.server.faults().clear();

    let anchor = world.base().join("metadata/root.json");
    let stranger = SigningKey::from_seed(&[8; 32]).unwrap();
    let good = fs::read(&anchor).unwrap();
    fs::write(&anchor, root(&stranger, world.now).unwrap()).unwrap();
    assert!(matches!(world.refused(), FailureReason::Repository { .. }));
    fs::remove_file(&anchor).unwrap();
    assert!(matches!(
        world.add(),
        Err(DeviceError::NoTrustAnchor { .. })
    ));
    fs::write(&anchor, good).unwrap();
    world.add().unwrap();
}

#[test]
fn each_repository_has_its_own_history() {
    // The same key publishes in two places, and one of them is far ahead.
    let world = World::new();
    for version in ["1", "2", "3"] {
        world.publish(&runtime(version, "2026-01-01T00:00:00Z", Vec::new()), &[]);
    }
    world.add().unwrap();
    let desk = world.beside();
    let manifest = runtime("desk", "2026-01-01T00:00:00Z", Vec::new());
    desk.publish(&manifest, &[]);
    let request = desk.request();
    let entry = world.device.add_from_url(&request, &Silent).unwrap();
    assert_eq!(*entry.manifest, manifest);

    // Going back in one place is noticed: the very first publication is put there again.
    let other = world.beside();
    other.publish(&runtime("1", "2026-01-01T00:00:00Z", Vec::new()), &[]);
    let (from, to) = (
        other.dir.path().join("repository"),
        world.dir.path().join("repository"),
    );
    fs::rename(&to, world.dir.path().join("newer")).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .arg(&from)
        .arg(&to)
        .status();
    assert!(copied.unwrap().success());
    assert!(matches!(world.refused(), FailureReason::Repository { .. }));
}

fn staging(error: DeviceError) -> FailureReason {
    match error {
        DeviceError::Staging(reason) => reason,
        other => panic!("{other:?}"),
    }
}

/// A runtime of the oldest kind: its image is named by name and version alone.
fn of_the_oldest_kind(version: &str, image: &[u8]) -> Manifest {
    let app = RuntimeExtension {
        image_id: None,
        sha256: None,
        enabled: false,
        ..extension("app", "1.0", image)
    };
    let built = format!("2026-01-0{version}T00:00:00Z");
    let mut manifest = runtime(version, &built, vec![app]);
    manifest.manifest_version = 1;
    manifest.id = manifest.content_id().unwrap();
    manifest
}

#[test]
fn runtimes_of_the_oldest_kind_keep_their_own_images() {
    let world = World::new();
    let publish = |manifest: &Manifest, image: &[u8]| {
        let json = manifest.to_json().unwrap();
        world.publish_as(&[
            ("manifest.json".to_owned(), &json),
            ("app-1.0.raw".to_owned(), image),
        ]);
    };
    let device = &world.device;
    let good = || device.verify(&Cancel::new(), &Silent).unwrap().problems;
    let [one, two] = [("1", &b"first"[..]), ("2", b"second")].map(|(version, image)| {
        let manifest = of_the_oldest_kind(version, image);
        publish(&manifest, image);
        let entry = world.add().unwrap();
        // What was signed is known from then on.
        assert_eq!(entry.manifest.extensions[0].sha256, Some(Digest::of(image)));
        device.activate(manifest.id.as_str(), &Silent).unwrap();
        manifest
    });
    let images = world.base().join("images");
    for image in [&b"first"[..], b"second"] {
        assert_eq!(fs::read(images.join(raw(image))).unwrap(), image);
    }
    assert_eq!(good(), []);
    device.rollback(&Silent).unwrap();
    assert_eq!(device.inspect(None).unwrap().manifest.id, one.id);
    // The bytes of what it has do not change under its id.
    publish(&two, b"third");
    assert!(matches!(
        staging(world.add().unwrap_err()),
        FailureReason::Contradiction { id, .. } if id == two.id
    ));

    // As an older agent left it: by name, and with nothing that says which bytes it means.
    fs::rename(images.join(raw(b"first")), images.join("app-1.0.raw")).unwrap();
    let kept = world.base().join("runtimes").join(&one.id);
    fs::remove_file(kept.join("targets.json")).unwrap();
    publish(&two, b"second");
    world.add().unwrap();
    assert_eq!(fs::read(images.join("app-1.0.raw")).unwrap(), b"first");
    // Added again it is kept by its bytes, which need not come again.
    publish(&one, b"first");
    let before = world.requests_for("app-1.0.raw");
    world.add().unwrap();
    assert_eq!(world.requests_for("app-1.0.raw"), before);
    assert_eq!(fs::read(images.join(raw(b"first"))).unwrap(), b"first");
    device.activate(two.id.as_str(), &Silent).unwrap();
    device.activate(one.id.as_str(), &Silent).unwrap();
    device.prune(&PruneOptions::default(), &Silent).unwrap();
    assert!(!images.join("app-1.0.raw").exists());
    assert_eq!(good(), []);
}
