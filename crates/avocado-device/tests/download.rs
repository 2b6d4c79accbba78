//! What goes on beside a download, and how it ends early.
#![allow(missing_docs)]

mod common;
#[path = "common/world.rs"]
mod world;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use avocado_device::{
    AddPlan, AddRequest, Cancel, Device, DeviceConfig, DeviceError, FailureReason, PruneOptions,
    RuntimeEntry, RuntimeSource,
};
use avocado_events::{Event, Silent};
use avocado_manifest::{Digest, Manifest, RuntimeExtension};
use avocado_serve::{ServeOptions, TlsIdentity};
use avocado_test_server::{Fault, FaultRule, TestServer};
use avocado_tuf::writer::{Publication, PublicationTarget, RoleSigners, publish};
use common::*;
use jiff::Span;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use world::*;

fn one(extensions: Vec<RuntimeExtension>) -> Manifest {
    runtime("1", "2026-01-01T00:00:00Z", extensions)
}

fn bytes(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n % 251) as u8).collect()
}

/// Waits until so many bytes of an image have come.
fn wait_for(world: &World, image: &[u8], length: u64) -> PathBuf {
    let partial = world.base().join(".update-staging").join(raw(image));
    while fs::metadata(&partial).map_or(0, |meta| meta.len()) < length {
        std::thread::yield_now();
    }
    partial
}

#[test]
fn everything_else_works_while_a_download_runs() {
    let world = World::new();
    let device = &world.device;
    let image = bytes(500_000);
    let manifest = one(vec![extension("app", "1", &image)]);
    world.publish(&manifest, &[&image]);
    let other = runtime("2", "2026-01-02T00:00:00Z", Vec::new());
    let unused = put_image(world.base(), b"nobody's");
    let faults = world.server.faults();
    faults.add(FaultRule::new(Fault::Stall(100_000), "*.raw"));
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| device.add_from_url(&world.request(), &Silent));
        wait_for(&world, &image, 100_000);
        assert_eq!(device.list().unwrap(), []);
        let file = manifest_file(world.dir.path(), &other);
        device.add_from_manifest(&file, &Silent).unwrap();
        device.activate(other.id.as_str(), &Silent).unwrap();
        device.pin(other.id.as_str(), &Silent).unwrap();
        assert!(device.status().unwrap().runtime.is_some());
        device.refresh(&Silent).unwrap();
        assert!(device.verify(&Cancel::new(), &Silent).unwrap().is_good());
        // What the download has so far is not taken away.
        let options = PruneOptions {
            keep: Some(0),
            dry_run: false,
        };
        let pruned = device.prune(&options, &Silent).unwrap();
        assert_eq!(pruned.spared.as_deref(), Some("a download is running"));
        assert_eq!((pruned.images.len(), pruned.freed_bytes), (0, 0));
        assert!(unused.exists());
        // Another download waits for its turn, unless it is told not to.
        let cancel = Cancel::new();
        let stop = |event: Event| {
            if event.message.contains("another download") {
                cancel.cancel();
            }
        };
        let request = world.request();
        let waiting = device.add(RuntimeSource::Repository(&request), &cancel, &stop);
        assert!(waiting.unwrap_err().is_cancelled());
        assert!(!adding.is_finished());
        faults.release();
        let entry: RuntimeEntry = adding.join().unwrap().unwrap();
        assert_eq!(*entry.manifest, manifest);
    });
    assert_eq!(device.list().unwrap().len(), 2);
    let pruned = device.prune(&PruneOptions::default(), &Silent).unwrap();
    assert_eq!((pruned.spared, pruned.images.len()), (None, 1));
    assert!(!unused.exists());
}

#[test]
fn a_download_that_is_cancelled_goes_on_another_time() {
    let world = World::new();
    let image = bytes(2_000_000);
    let manifest = one(vec![extension("app", "1", &image)]);
    world.publish(&manifest, &[&image]);
    let faults = world.server.faults();
    faults.add(FaultRule::new(Fault::Stall(1_000_000), "*.raw"));
    let cancel = Cancel::new();
    let request = world.request();
    let source = RuntimeSource::Repository(&request);
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| world.device.add(source, &cancel, &Silent));
        wait_for(&world, &image, 1_000_000);
        // The server still sends nothing.
        cancel.cancel();
        let error = adding.join().unwrap().unwrap_err();
        assert!(error.is_cancelled(), "{error:?}");
        faults.release();
    });
    assert_eq!(world.device.list().unwrap(), []);
    let kept = fs::metadata(wait_for(&world, &image, 0)).unwrap().len();
    assert!((1_000_000..2_000_000).contains(&kept), "{kept}");
    faults.clear();
    let sent = || -> u64 { world.server.requests().iter().map(|r| r.sent).sum() };
    let before = sent();
    world.add().unwrap();
    let fetched = sent() - before;
    assert!(
        fetched < 2_000_000 - kept + 50_000,
        "{fetched} after {kept}"
    );
}

#[test]
fn what_is_finished_is_never_fetched_again() {
    let world = World::new();
    let images = [bytes(100_000), bytes(200_000), bytes(300_000)];
    let names = ["a", "b", "c"];
    let extensions = names.iter().zip(&images);
    let extensions = extensions.map(|(name, image)| extension(name, "1", image));
    let manifest = one(extensions.collect());
    world.publish(&manifest, &images.each_ref().map(Vec::as_slice));
    let plan = || {
        let request = world.request();
        let source = RuntimeSource::Repository(&request);
        let plan = world.device.plan(source, &Cancel::new(), &Silent);
        plan.unwrap().fetch_bytes
    };
    let faults = world.server.faults();
    // The link gets one image further with each attempt.
    for (missing, left) in [(1, 500_000), (2, 300_000)] {
        for image in &images[missing..] {
            let path = format!("*{}", raw(image));
            faults.add(FaultRule::new(Fault::Status(404), path));
        }
        world.add().unwrap_err();
        assert_eq!(world.device.list().unwrap(), []);
        assert_eq!(plan(), left);
        faults.clear();
    }
    // A crash came after the last bytes of an image, before the pool had it.
    let staging = world.base().join(".update-staging");
    let last = staging.join(raw(&images[2]));
    fs::write(&last, &images[2]).unwrap();
    assert_eq!(plan(), 0);
    world.add().unwrap();
    let fetched = |image: &Vec<u8>| {
        let all = world.server.requests();
        let of_image = all.iter().filter(|r| r.path.ends_with(&raw(image)));
        of_image.filter(|r| r.sent as usize >= image.len()).count()
    };
    assert_eq!(images.each_ref().map(fetched), [1, 1, 0]);
    // Bytes that are none of an image are not believed because there are as many of them.
    world.device.remove(manifest.id.as_str(), &Silent).unwrap();
    world
        .device
        .prune(&PruneOptions::default(), &Silent)
        .unwrap();
    fs::create_dir_all(&staging).unwrap();
    fs::write(&last, vec![0; images[2].len()]).unwrap();
    world.add().unwrap();
    assert_eq!(images.each_ref().map(fetched), [2, 2, 1]);
    assert!(
        world
            .device
            .verify(&Cancel::new(), &Silent)
            .unwrap()
            .is_good()
    );
}

#[test]
fn pruning_spares_what_a_running_download_has_finished() {
    let world = World::new();
    let (small, large) = (bytes(1000), bytes(500_000));
    let manifest = one(vec![
        extension("small", "1", &small),
        extension("large", "1", &large),
    ]);
    world.publish(&manifest, &[&small, &large]);
    let faults = world.server.faults();
    let stall = Fault::Stall(100_000);
    faults.add(FaultRule::new(stall, format!("*{}", raw(&large))));
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| world.add());
        wait_for(&world, &large, 100_000);
        let finished = world.base().join("images").join(raw(&small));
        assert_eq!(fs::read(&finished).unwrap(), small);
        let pruned = world.device.prune(&PruneOptions::default(), &Silent);
        assert_eq!(pruned.unwrap().images, []);
        assert!(finished.exists());
        faults.release();
        adding.join().unwrap().unwrap();
    });
    assert_eq!(world.requests_for(&raw(&small)), 1);
}

#[test]
fn two_downloads_take_turns() {
    let world = World::new();
    let desk = World::new();
    let image = bytes(300_000);
    let first = one(vec![extension("app", "1", &image)]);
    world.publish(&first, &[&image]);
    let second = runtime(
        "2",
        "2026-01-02T00:00:00Z",
        vec![
            extension("app", "1", &image),
            extension("more", "1", b"more"),
        ],
    );
    desk.publish(&second, &[&image, b"more"]);
    let requests = [world.request(), desk.request()];
    std::thread::scope(|scope| {
        let both = requests.each_ref().map(|request| {
            scope.spawn(|| {
                world
                    .device
                    .add_from_url(request, &Silent)
                    .map(|e| e.manifest)
            })
        });
        let added = both.map(|thread| thread.join().unwrap().unwrap());
        assert_eq!(added, [first.into(), second.into()]);
    });
    assert_eq!(world.device.list().unwrap().len(), 2);
    let fetched = world.requests_for(&raw(&image)) + desk.requests_for(&raw(&image));
    assert_eq!(fetched, 1, "the second found what the first had brought");
}

#[test]
fn what_is_taken_away_meanwhile_is_fetched_as_well() {
    let world = World::new();
    let (large, small) = (bytes(300_000), b"small");
    let manifest = one(vec![
        extension("small", "1", small),
        extension("large", "1", &large),
    ]);
    world.publish(&manifest, &[small, &large]);
    let there = put_image(world.base(), small);
    let faults = world.server.faults();
    faults.add(FaultRule::new(
        Fault::Stall(1000),
        format!("*{}", raw(&large)),
    ));
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| world.device.add_from_url(&world.request(), &Silent));
        wait_for(&world, &large, 1000);
        fs::remove_file(&there).unwrap();
        faults.release();
        adding.join().unwrap().unwrap();
    });
    assert_eq!(fs::read(there).unwrap(), small);
    assert_eq!(world.requests_for(&raw(&large)), 1);
}

#[test]
fn a_plan_says_what_adding_will_do_and_does_nothing() {
    let world = World::new();
    fs::write(
        world.dir.path().join("os-release"),
        "AVOCADO_OS_BUILD_ID=now\n",
    )
    .unwrap();
    let (new, shared) = (bytes(300_000), bytes(1000));
    let mut manifest = one(vec![
        extension("app", "1", &new),
        extension("base", "1", &shared),
    ]);
    world.publish(&manifest, &[&new, &shared]);
    put_image(world.base(), &shared);
    let plan = |world: &World| -> AddPlan {
        let request = world.request();
        let source = RuntimeSource::Repository(&request);
        let plan = world.device.plan(source, &Cancel::new(), &Silent);
        plan.unwrap()
    };
    let before = world.visible();
    let planned = plan(&world);
    assert_eq!(world.visible(), before);
    assert_eq!(planned.manifest, manifest);
    assert!(!planned.staged && !planned.active && !planned.reboot && !planned.relaxed);
    assert_eq!(
        (planned.fetch_bytes, planned.disk_bytes),
        (300_000, 300_000)
    );
    assert_eq!(planned.shared_bytes, 1000);
    assert!(planned.free_bytes > 0);
    let images: Vec<_> = planned
        .images
        .iter()
        .map(|i| (i.label.as_str(), i.shared))
        .collect();
    assert_eq!(images, [("app 1", false), ("base 1", true)]);
    assert_eq!(world.requests_for(&raw(&new)), 0);

    // Downloading is not staging, but leaves nothing to fetch.
    let downloaded = world
        .device
        .download(&world.request(), &Cancel::new(), &Silent);
    assert_eq!(downloaded.unwrap().fetch_bytes, 300_000);
    assert_eq!(world.device.list().unwrap(), []);
    assert_eq!(plan(&world).fetch_bytes, 0);
    world.add().unwrap();
    assert_eq!(world.requests_for(&raw(&new)), 1);
    world
        .device
        .activate(manifest.id.as_str(), &Silent)
        .unwrap_err();
    assert!(plan(&world).staged);

    // Another build of the OS means a reboot.
    manifest.os_bundle = Some(avocado_manifest::OsBundle {
        image_id: avocado_manifest::ImageId::from_digest(Digest::of(b"bundle")),
        sha256: None,
        os_build_id: Some("next".to_owned()),
        initramfs_build_id: None,
        chunks_sha256: None,
    });
    manifest.id = manifest.content_id().unwrap();
    world.publish(&manifest, &[&new, &shared, b"bundle"]);
    let planned = plan(&world);
    assert!(planned.reboot && !planned.staged);
    assert_eq!(planned.fetch_bytes, 6);

    // The same for a manifest file, whose images have to be there.
    let file = manifest_file(world.dir.path(), &manifest);
    let local = || {
        let source = RuntimeSource::Manifest(&file);
        world.device.plan(source, &Cancel::new(), &Silent)
    };
    assert!(matches!(
        local().unwrap_err(),
        DeviceError::Staging(FailureReason::ImageMissing { .. })
    ));
    put_image(world.base(), b"bundle");
    assert_eq!(local().unwrap().shared_bytes, 301_006);
}

#[test]
fn what_does_not_fit_is_not_begun() {
    let world = World::new();
    let image = b"image";
    let manifest = one(vec![extension("app", "1", image)]);
    let source = world.dir.path().join("image");
    // Nothing of it is on the disk.
    let length = 1 << 42;
    fs::File::create(&source).unwrap().set_len(length).unwrap();
    let described = world.dir.path().join("manifest");
    fs::write(&described, manifest.to_json().unwrap()).unwrap();
    let target = |name: String, source, digest, length| PublicationTarget {
        name,
        source,
        digest,
        length,
    };
    let json = manifest.to_json().unwrap();
    publish(&Publication {
        directory: &world.dir.path().join("repository"),
        signers: RoleSigners::one(&world.desk.key),
        role: "runtime-dev",
        targets: &[
            target(
                "manifest.json".to_owned(),
                &described,
                Digest::of(&json),
                json.len() as u64,
            ),
            target(raw(image), &source, Digest::of(image), length),
        ],
        now: world.now,
    })
    .unwrap();
    let error = world.refused();
    assert!(
        matches!(error, FailureReason::NoSpace { needed, .. } if needed == length),
        "{error}"
    );
    assert_eq!(world.requests_for(&raw(image)), 0);
}

#[test]
fn what_fails_leaves_the_active_runtime_as_it_is() {
    let world = World::new();
    let manifest = one(vec![RuntimeExtension {
        enabled: false,
        ..extension("app", "1", b"image")
    }]);
    world.publish(&manifest, &[b"image"]);
    world.add().unwrap();
    world
        .device
        .activate(manifest.id.as_str(), &Silent)
        .unwrap();
    // The image is damaged and cannot be had again.
    let path = put_image(world.base(), b"imagE");
    fs::rename(path, world.base().join("images").join(raw(b"image"))).unwrap();
    world
        .server
        .faults()
        .add(FaultRule::new(Fault::Status(404), "*.raw"));
    assert!(matches!(world.refused(), FailureReason::Repository { .. }));
    let active = world.device.inspect(None).unwrap();
    assert_eq!((&*active.manifest, active.active), (&manifest, true));
}

#[test]
fn a_clock_that_went_back_does_not_bring_old_metadata_back() {
    let world = World::new();
    world.publish(&one(Vec::new()), &[]);
    world.add().unwrap();
    let events = Events::default();
    let request = AddRequest {
        now: world.now.checked_sub(Span::new().hours(24 * 300)).unwrap(),
        ..world.request()
    };
    world.device.add_from_url(&request, &events).unwrap();
    let warnings = events.warnings();
    assert!(
        warnings[0].contains("the system clock says"),
        "{warnings:?}"
    );
}

/// A CA as PEM and a server identity for 127.0.0.1 that it signed.
fn identity() -> (String, TlsIdentity) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let names = [Ipv4Addr::LOCALHOST.to_string()];
    let certificate = CertificateParams::new(names).unwrap();
    let certificate = certificate.signed_by(&key, &issuer).unwrap();
    let tls = TlsIdentity {
        cert_pem: certificate.pem().into_bytes(),
        key_pem: key.serialize_pem().into_bytes(),
    };
    (pem, tls)
}

#[test]
fn a_private_ca_counts_where_it_is_configured() {
    let (ca, tls) = identity();
    let world = World::new();
    world.publish(&one(Vec::new()), &[]);
    let mut options = ServeOptions::new(world.dir.path().join("repository"));
    options.tls = Some(tls);
    let server = TestServer::start(options).unwrap();
    let request = AddRequest {
        url: server.url(),
        ..world.request()
    };
    let with = |ca_file: Option<&str>| {
        let config = DeviceConfig {
            ca_file: ca_file.map(|name| world.dir.path().join(name)),
            ..DeviceConfig::default()
        };
        let device = Device::with_paths(config, world.device.paths().clone());
        device.add_from_url(&request, &Silent).map(drop)
    };
    fs::write(world.dir.path().join("ca.pem"), ca).unwrap();
    fs::write(world.dir.path().join("other.pem"), identity().0).unwrap();
    for wrong in [None, Some("other.pem"), Some("none.pem")] {
        assert!(
            matches!(with(wrong), Err(DeviceError::Staging(_))),
            "{wrong:?}"
        );
    }
    assert_eq!(server.requests().len(), 0);
    with(Some("ca.pem")).unwrap();
}

#[test]
fn a_proxy_is_asked_where_it_is_configured() {
    let world = World::new();
    world.publish(&one(Vec::new()), &[]);
    let proxy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = proxy.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let cancel = Cancel::new();
    let stop = cancel.clone();
    std::thread::spawn(move || {
        for stream in proxy.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head = lines
                .map(Result::unwrap)
                .take_while(|line| !line.is_empty());
            seen.lock().unwrap().extend(head);
            // Asking once is enough.
            stop.cancel();
            stream.write_all(b"HTTP/1.1 403 No\r\n\r\n").unwrap();
        }
    });
    let with = |no_proxy: &[&str]| {
        let config = DeviceConfig {
            proxy: Some(format!("http://{address}")),
            no_proxy: no_proxy.iter().map(|host| (*host).to_owned()).collect(),
            ..DeviceConfig::default()
        };
        let device = Device::with_paths(config, world.device.paths().clone());
        let request = world.request();
        let source = RuntimeSource::Repository(&request);
        device.add(source, &cancel, &Silent).map(drop)
    };
    with(&["127.0.0.1"]).unwrap();
    assert_eq!(*asked.lock().unwrap(), [""; 0]);
    assert!(with(&[]).is_err());
    let asked = asked.lock().unwrap();
    assert!(asked[0].starts_with("GET http://127.0.0.1:"), "{asked:?}");
}
