//! The store through the public interface: nothing here is merged.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use avocado_device::{Cancel, Device, DeviceConfig, DeviceError, FailureReason};
use avocado_events::Silent;
use avocado_manifest::OsBundle;
use common::*;

#[test]
fn a_fresh_device_is_empty_and_well() {
    let dir = tempfile::tempdir().unwrap();
    let device = private_device(dir.path());
    assert_eq!(device.list().unwrap(), []);
    assert!(matches!(
        device.inspect(None),
        Err(DeviceError::RuntimeNotFound { .. })
    ));
    let status = device.status().unwrap();
    assert!(status.runtime.is_none() && status.extensions.is_empty());
    device.merge(&Silent).unwrap();
    device.refresh(&Silent).unwrap();
    device.unmerge(true, &Silent).unwrap();
}

#[test]
fn adding_stages_and_adding_again_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let device = private_device(dir.path());
    let base = &device.paths().base;
    put_image(base, b"image");
    let manifest = runtime(
        "1",
        "2026-01-01T00:00:00Z",
        vec![extension("app", "1.0.0", b"image")],
    );
    let file = manifest_file(dir.path(), &manifest);
    let entry = device.add_from_manifest(&file, &Silent).unwrap();
    assert_eq!((&*entry.manifest, entry.active), (&manifest, false));
    assert_eq!(device.list().unwrap(), std::slice::from_ref(&entry));
    let kept = base
        .join("runtimes")
        .join(&manifest.id)
        .join("manifest.json");
    assert_eq!(fs::read(kept).unwrap(), fs::read(&file).unwrap());

    let before = tree(base);
    assert_eq!(device.add_from_manifest(&file, &Silent).unwrap(), entry);
    assert_eq!(tree(base), before);
}

#[test]
fn the_active_one_is_listed_first_and_then_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let device = private_device(dir.path());
    // As instants, not as texts: 23:00+02:00 is before 22:00Z.
    for (version, built) in [
        ("a", "2026-01-01T22:00:00Z"),
        ("b", "2026-01-01T23:00:00+02:00"),
        ("c", "2026-03-01T00:00:00Z"),
        ("d", "who knows"),
    ] {
        let manifest = runtime(version, built, Vec::new());
        device
            .add_from_manifest(&manifest_file(dir.path(), &manifest), &Silent)
            .unwrap();
    }
    let versions = || -> String {
        let all = device.list().unwrap().into_iter();
        all.map(|e| e.manifest.runtime.version.clone()).collect()
    };
    assert_eq!(versions(), "cabd");
    let id = device.list().unwrap()[2].manifest.id.to_string();
    device.activate(&id, &Silent).unwrap();
    assert_eq!(versions(), "bcad");
    assert_eq!(device.inspect(None).unwrap().manifest.id.as_str(), id);
}

#[test]
fn what_cannot_be_staged_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let device = private_device(dir.path());
    let base = &device.paths().base;
    let good = runtime(
        "1",
        "2026-01-01T00:00:00Z",
        vec![extension("app", "1", b"image")],
    );
    put_image(base, b"image");
    device
        .add_from_manifest(&manifest_file(dir.path(), &good), &Silent)
        .unwrap();
    let before = tree(base);

    let text = String::from_utf8(good.to_json().unwrap()).unwrap();
    let id = good.id.as_str();
    for (from, to) in [
        (id, "../../../evil"),
        (id, "/etc/evil"),
        (id, ".hidden"),
        ("\"app\"", "\"../app\""),
        ("\"app\"", "\"a\\u0000b\""),
        ("\"manifest_version\": 2", "\"manifest_version\": 9"),
        // The id promises one content.
        ("2026-01-01", "2026-01-02"),
        ("{", ""),
    ] {
        let bad = text.replacen(from, to, 1);
        assert_ne!(bad, text);
        let file = dir.path().join("bad.json");
        fs::write(&file, bad).unwrap();
        let error = device.add_from_manifest(&file, &Silent).unwrap_err();
        assert!(matches!(error, DeviceError::Staging(_)), "{to}: {error}");
        assert_eq!(tree(base), before, "{to}");
    }
    let huge = dir.path().join("huge.json");
    fs::write(&huge, vec![b' '; 5 << 20]).unwrap();
    for file in [huge, dir.path().join("nowhere"), dir.path().to_owned()] {
        let error = device.add_from_manifest(&file, &Silent).unwrap_err();
        assert!(matches!(error, DeviceError::Staging(_)), "{error}");
    }
    assert_eq!(tree(base), before);
}

#[test]
fn a_manifest_is_read_from_files_alone_and_others_keep_their_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let device = private_device(dir.path());
    let reason = |path: &std::path::Path| match device.add_from_manifest(path, &Silent) {
        Err(DeviceError::Staging(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let fifo = dir.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let link = dir.path().join("link");
    symlink(&fifo, &link).unwrap();
    let devices = ["/dev/zero", "/dev/tty", "/dev/ptmx"].map(std::path::PathBuf::from);
    let there = devices.into_iter().filter(|path| path.exists());
    for path in there.chain([fifo, link, dir.path().to_owned()]) {
        let reason = reason(&path);
        let FailureReason::File { source, .. } = &reason else {
            panic!("{reason:?}");
        };
        assert_eq!(source.to_string(), "it is not a regular file", "{path:?}");
    }
    let secret = "hunter2-hunter2";
    let file = dir.path().join("shadow");
    for text in [
        format!("root:{secret}:1::"),
        format!("\"{secret}\""),
        format!("{{\"manifest_version\":\"{secret}\"}}"),
        format!("{{\"manifest_version\":2,\"id\":\"/{secret}\"}}"),
        format!("{{\"manifest_version\":2,\"id\":\"a\",\"runtime\":\"{secret}\"}}"),
    ] {
        fs::write(&file, &text).unwrap();
        let reason = reason(&file);
        assert!(matches!(reason, FailureReason::NoManifest { .. }), "{text}");
        let told = avocado_events::chain(&reason);
        assert!(!told.contains("hunter2"), "{told}");
        assert!(told.contains("line 1, column"), "{told}");
    }
}

#[test]
fn images_are_for_root_alone() {
    let dir = tempfile::tempdir().unwrap();
    let device = private_device(dir.path());
    let base = &device.paths().base;
    let image = put_image(base, b"image");
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let set = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let tree = base.join("images/tree");
    fs::create_dir(&tree).unwrap();
    device.verify(&Cancel::new(), &Silent).unwrap();
    // As older agents left them.
    let record = base.join(".verified.json");
    for (path, open) in [
        (&image, 0o644),
        (&tree, 0o755),
        (&base.join("images"), 0o777),
    ] {
        set(path, open);
    }
    device.verify(&Cancel::new(), &Silent).unwrap();
    let before = fs::read_to_string(&record).unwrap();
    assert!(!device.finish_activation(&Silent).unwrap());
    assert_eq!(mode(&image), 0o600);
    assert_eq!(mode(&base.join("images")), 0o700);
    // A directory is merged with the modes that it has.
    assert_eq!(mode(&tree), 0o755);
    // It is known still what was hashed: of the very file that is there now.
    let after = fs::read_to_string(&record).unwrap();
    assert_ne!(after, before);
    let meta = fs::metadata(&image).unwrap();
    let changed = serde_json::json!([meta.ctime(), meta.ctime_nsec()]);
    let after: serde_json::Value = serde_json::from_str(&after).unwrap();
    let name = image.file_name().unwrap().to_str().unwrap();
    assert_eq!(after["files"][name]["changed"], changed);
}

#[test]
fn images_must_be_there_and_right() {
    let dir = tempfile::tempdir().unwrap();
    let device = private_device(dir.path());
    let base = &device.paths().base;
    let mut manifest = runtime(
        "1",
        "2026-01-01T00:00:00Z",
        vec![extension("app", "1", b"image")],
    );
    let add = |manifest: &avocado_manifest::Manifest| match device
        .add_from_manifest(&manifest_file(dir.path(), manifest), &Silent)
    {
        Err(DeviceError::Staging(reason)) => Err(reason),
        other => Ok(other.unwrap()),
    };
    assert!(matches!(
        add(&manifest),
        Err(FailureReason::ImageMissing { .. })
    ));
    let path = put_image(base, b"image");
    fs::write(&path, "imagE").unwrap();
    assert!(matches!(
        add(&manifest),
        Err(FailureReason::ImageWrong { .. })
    ));
    fs::write(&path, "image").unwrap();
    add(&manifest).unwrap();

    // The OS bundle counts as well, and an id alone is a promise about the bytes.
    let bundle = extension("x", "1", b"bundle").image_id.unwrap();
    manifest.os_bundle = Some(OsBundle {
        image_id: bundle,
        sha256: None,
        os_build_id: None,
        initramfs_build_id: None,
        chunks_sha256: None,
    });
    manifest.id = manifest.content_id().unwrap();
    assert!(matches!(
        add(&manifest),
        Err(FailureReason::ImageMissing { .. })
    ));
    let path = put_image(base, b"bundle");
    add(&manifest).unwrap();
    fs::write(&path, "bundlE").unwrap();
    manifest.runtime.version = "2".to_owned();
    manifest.id = manifest.content_id().unwrap();
    assert!(matches!(
        add(&manifest),
        Err(FailureReason::ImageWrong { .. })
    ));
    assert_eq!(device.list().unwrap().len(), 1 + 1);
}

#[test]
fn removing_spares_the_active_one_and_the_images() {
    let dir = tempfile::tempdir().unwrap();
    let device = private_device(dir.path());
    let base = &device.paths().base;
    let image = put_image(base, b"image");
    let empty = runtime("1", "2026-01-01T00:00:00Z", Vec::new());
    let full = runtime(
        "2",
        "2026-01-01T00:00:00Z",
        vec![extension("app", "1", b"image")],
    );
    for manifest in [&empty, &full] {
        device
            .add_from_manifest(&manifest_file(dir.path(), manifest), &Silent)
            .unwrap();
    }
    device.activate(empty.id.as_str(), &Silent).unwrap();
    let error = device.remove(empty.id.as_str(), &Silent).unwrap_err();
    assert!(matches!(error, DeviceError::RemoveActiveRuntime));
    assert!(matches!(
        device.remove("nope", &Silent),
        Err(DeviceError::RuntimeNotFound { .. })
    ));
    assert!(matches!(
        device.remove("", &Silent),
        Err(DeviceError::AmbiguousRuntimeId { .. })
    ));
    device.remove(&full.id.as_str()[..12], &Silent).unwrap();
    assert!(image.exists());
    let ids: Vec<_> = device
        .list()
        .unwrap()
        .into_iter()
        .map(|e| e.manifest.id.clone())
        .collect();
    assert_eq!(ids, std::slice::from_ref(&empty.id));
    assert!(!base.join("runtimes").join(&full.id).exists());
    assert!(matches!(
        device.remove(full.id.as_str(), &Silent),
        Err(DeviceError::RuntimeNotFound { .. })
    ));
}

#[test]
fn leftovers_of_interruptions_do_not_matter() {
    let dir = tempfile::tempdir().unwrap();
    let device = private_device(dir.path());
    let base = &device.paths().base;
    put_image(base, b"image");
    let one = runtime("1", "2026-01-01T00:00:00Z", Vec::new());
    let two = runtime(
        "2",
        "2026-01-01T00:00:00Z",
        vec![extension("app", "1", b"image")],
    );
    device
        .add_from_manifest(&manifest_file(dir.path(), &one), &Silent)
        .unwrap();
    device.activate(one.id.as_str(), &Silent).unwrap();

    // As if the power had failed while adding, activating and removing.
    let runtimes = base.join("runtimes");
    let half = runtimes.join(format!(".{}.new", two.id));
    fs::create_dir(&half).unwrap();
    fs::write(half.join("manifest.json"), "{").unwrap();
    fs::create_dir(runtimes.join(".x.gone")).unwrap();
    symlink(format!("runtimes/{}", two.id), base.join(".active.tmp")).unwrap();
    fs::write(base.join("..verified.json.tmp"), "{").unwrap();
    assert_eq!(device.list().unwrap().len(), 1);
    assert_eq!(*device.inspect(None).unwrap().manifest, one);

    device
        .add_from_manifest(&manifest_file(dir.path(), &two), &Silent)
        .unwrap();
    assert_eq!(device.list().unwrap().len(), 2);
    let left: Vec<_> = fs::read_dir(&runtimes)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
    device.remove(two.id.as_str(), &Silent).unwrap();
    device.activate(one.id.as_str(), &Silent).unwrap();
    assert_eq!(
        fs::read_link(base.join("active")).unwrap(),
        std::path::Path::new("runtimes").join(&one.id)
    );
}

#[test]
fn an_active_that_leads_nowhere_is_an_error_and_can_be_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let device = private_device(dir.path());
    let base = &device.paths().base;
    let one = runtime("1", "2026-01-01T00:00:00Z", Vec::new());
    device
        .add_from_manifest(&manifest_file(dir.path(), &one), &Silent)
        .unwrap();
    for target in ["runtimes/gone", "/etc", "images"] {
        let _ = fs::remove_file(base.join("active"));
        symlink(target, base.join("active")).unwrap();
        for result in [device.merge(&Silent), device.refresh(&Silent)] {
            let error = result.unwrap_err();
            assert!(
                matches!(
                    error,
                    DeviceError::Degraded {
                        source: FailureReason::Active { .. },
                        ..
                    }
                ),
                "{target}: {error}"
            );
        }
        assert!(device.status().is_err());
        assert!(device.inspect(None).is_err());
        assert!(!device.list().unwrap()[0].active);
        device.activate(one.id.as_str(), &Silent).unwrap();
        assert!(device.inspect(None).unwrap().active);
    }
}

#[test]
fn what_cannot_be_activated_leaves_the_old_one_active() {
    let dir = tempfile::tempdir().unwrap();
    let device = private_device(dir.path());
    let base = &device.paths().base;
    fs::write(
        dir.path().join("os-release"),
        "AVOCADO_OS_BUILD_ID=running\n",
    )
    .unwrap();
    let image = put_image(base, b"image");
    let bundle = put_image(base, b"bundle");
    let one = runtime("1", "2026-01-01T00:00:00Z", Vec::new());
    let two = runtime(
        "2",
        "2026-01-01T00:00:00Z",
        vec![extension("app", "1", b"image")],
    );
    let mut three = runtime("3", "2026-01-01T00:00:00Z", Vec::new());
    three.os_bundle = Some(OsBundle {
        image_id: extension("x", "1", b"bundle").image_id.unwrap(),
        sha256: None,
        os_build_id: Some("other".to_owned()),
        initramfs_build_id: None,
        chunks_sha256: None,
    });
    three.id = three.content_id().unwrap();
    for manifest in [&one, &two, &three] {
        device
            .add_from_manifest(&manifest_file(dir.path(), manifest), &Silent)
            .unwrap();
    }
    device.activate(one.id.as_str(), &Silent).unwrap();
    assert_eq!(
        device.status().unwrap().os_build_id.as_deref(),
        Some("running")
    );
    let fails = |id: &str| match device.activate(id, &Silent) {
        Err(DeviceError::Update {
            back_to, source, ..
        }) => {
            assert_eq!(back_to.as_ref(), Some(&one.id));
            assert_eq!(*device.inspect(None).unwrap().manifest, one);
            *source
        }
        other => panic!("{other:?}"),
    };
    assert!(matches!(
        fails(three.id.as_str()),
        FailureReason::OtherOs { .. }
    ));
    drop(bundle);
    // It is no image at all: the merge fails, and `active` goes back.
    assert!(matches!(fails(two.id.as_str()), FailureReason::Merge(_)));
    fs::write(&image, "imagE").unwrap();
    assert!(matches!(
        fails(two.id.as_str()),
        FailureReason::ImageWrong { .. }
    ));
    fs::remove_file(&image).unwrap();
    assert!(matches!(
        fails(two.id.as_str()),
        FailureReason::ImageMissing { .. }
    ));
}

#[test]
fn adding_activates_only_where_that_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    let config = DeviceConfig {
        activate_on_add: true,
        ..DeviceConfig::default()
    };
    let device = Device::with_paths(config, private_paths(dir.path()));
    let one = runtime("1", "2026-01-01T00:00:00Z", Vec::new());
    let entry = device
        .add_from_manifest(&manifest_file(dir.path(), &one), &Silent)
        .unwrap();
    assert!(entry.active);
    assert_eq!(device.inspect(None).unwrap(), entry);
}

#[test]
fn there_is_no_instant_without_an_active_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let device = private_device(dir.path());
    let ids = ["1", "2"].map(|version| {
        let manifest = runtime(version, "2026-01-01T00:00:00Z", Vec::new());
        let file = manifest_file(dir.path(), &manifest);
        device.add_from_manifest(&file, &Silent).unwrap();
        manifest.id.to_string()
    });
    device.activate(&ids[0], &Silent).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers = ids.each_ref().map(|id| {
            scope.spawn(|| {
                for _ in 0..50 {
                    device.activate(id, &Silent).unwrap();
                }
            })
        });
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let active = device.inspect(None).unwrap().manifest.id.to_string();
                assert!(ids.contains(&active));
                assert_eq!(
                    device.list().unwrap().iter().filter(|e| e.active).count(),
                    1
                );
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}
