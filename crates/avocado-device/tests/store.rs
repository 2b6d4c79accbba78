//! The store through the public interface: nothing here is merged.
#![allow(missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use avocado_device::{Config, Device, Error, Reason};
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
        Err(Error::RuntimeNotFound { .. })
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

    let text = String::from_utf8(good.to_json()).unwrap();
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
        assert!(matches!(error, Error::Staging(_)), "{to}: {error}");
        assert_eq!(tree(base), before, "{to}");
    }
    let huge = dir.path().join("huge.json");
    fs::write(&huge, vec![b' '; 5 << 20]).unwrap();
    for file in [huge, dir.path().join("nowhere"), dir.path().to_owned()] {
        let error = device.add_from_manifest(&file, &Silent).unwrap_err();
        assert!(matches!(error, Error::Staging(_)), "{error}");
    }
    assert_eq!(tree(base), before);
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
        Err(Error::Staging(reason)) => Err(reason),
        other => Ok(other.unwrap()),
    };
    assert!(matches!(add(&manifest), Err(Reason::ImageMissing { .. })));
    let path = put_image(base, b"image");
    fs::write(&path, "imagE").unwrap();
    assert!(matches!(add(&manifest), Err(Reason::ImageWrong { .. })));
    fs::write(&path, "image").unwrap();
    add(&manifest).unwrap();

    // The OS bundle counts as well, and an id alone is a promise about the bytes.
    let bundle = extension("x", "1", b"bundle").image_id.unwrap();
    manifest.os_bundle = Some(OsBundle {
        image_id: bundle,
        sha256: None,
        os_build_id: None,
        initramfs_build_id: None,
    });
    manifest.id = manifest.content_id();
    assert!(matches!(add(&manifest), Err(Reason::ImageMissing { .. })));
    let path = put_image(base, b"bundle");
    add(&manifest).unwrap();
    fs::write(&path, "bundlE").unwrap();
    manifest.runtime.version = "2".to_owned();
    manifest.id = manifest.content_id();
    assert!(matches!(add(&manifest), Err(Reason::ImageWrong { .. })));
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
    assert!(matches!(error, Error::RemoveActiveRuntime));
    assert!(matches!(
        device.remove("nope", &Silent),
        Err(Error::RuntimeNotFound { .. })
    ));
    assert!(matches!(
        device.remove("", &Silent),
        Err(Error::AmbiguousRuntimeId { .. })
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
        Err(Error::RuntimeNotFound { .. })
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
                    Error::Merge {
                        restored: true,
                        source: Reason::Active { .. }
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
    });
    three.id = three.content_id();
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
        Err(Error::Update {
            back_to, source, ..
        }) => {
            assert_eq!(back_to.as_ref(), Some(&one.id));
            assert_eq!(*device.inspect(None).unwrap().manifest, one);
            *source
        }
        other => panic!("{other:?}"),
    };
    assert!(matches!(fails(three.id.as_str()), Reason::OtherOs { .. }));
    drop(bundle);
    // It is no image at all: the merge fails, and `active` goes back.
    assert!(matches!(fails(two.id.as_str()), Reason::Merge(_)));
    fs::write(&image, "imagE").unwrap();
    assert!(matches!(fails(two.id.as_str()), Reason::ImageWrong { .. }));
    fs::remove_file(&image).unwrap();
    assert!(matches!(
        fails(two.id.as_str()),
        Reason::ImageMissing { .. }
    ));
}

#[test]
fn adding_activates_only_where_that_is_configured() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        activate_on_add: true,
        ..Config::default()
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
