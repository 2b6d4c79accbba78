//! What a lock holds, and how it is written.

use super::*;

#[test]
fn the_file_as_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"{"version": 7, "distro_release": "2024"}"#;
    fs::write(dir.path().join("avocado.lock"), text).unwrap();
    let mut lock = LockFile::load(dir.path()).unwrap();
    let target = lock.target_mut(&name("qemux86-64"));
    target.set_packages(
        &Sysroot::Sdk("x86_64".to_owned()),
        packages(&[("gcc", "13-r0.x86_64")]),
    );
    target.set_packages(
        &Sysroot::Rootfs,
        packages(&[("b", "2-r0.x"), ("a", "1-r0.x")]),
    );
    target.set_packages(&Sysroot::Initramfs, packages(&[("i", "1-r0.x")]));
    target.set_packages(
        &Sysroot::rootfs(&name("small")),
        packages(&[("s", "1-r0.x")]),
    );
    target.set_packages(
        &Sysroot::initramfs(&name("default")),
        packages(&[("j", "1-r0.x")]),
    );
    target.set_packages(
        &Sysroot::Extension(name("app")),
        packages(&[("app", "1-r0.x")]),
    );
    target.set_packages(&Sysroot::Extension(name("none")), packages(&[]));
    target.set_packages(&Sysroot::Runtime(name("dev")), packages(&[("r", "1-r0.x")]));
    target.set_kernel_version(&Sysroot::Rootfs, Some("6.6.1".to_owned()));
    target.set_kernel_version(&Sysroot::Runtime(name("dev")), Some("6.6.1".to_owned()));
    target.set_snapshot(Some(Snapshot {
        release: "2024".to_owned(),
        channel: "edge".to_owned(),
        snapshot: "20260101".to_owned(),
        repo_url: None,
        created: Some("2026-01-01T00:00:00Z".to_owned()),
    }));
    assert!(lock.save().unwrap());
    insta::assert_snapshot!(fs::read_to_string(lock.path()).unwrap(), @r#"
    {
      "distro_release": "2024",
      "targets": {
        "qemux86-64": {
          "extensions": {
            "app": {
              "packages": {
                "app": "1-r0.x"
              }
            }
          },
          "initramfs": {
            "j": "1-r0.x"
          },
          "kernel-versions": {
            "rootfs": "6.6.1",
            "runtimes/dev": "6.6.1"
          },
          "repo-snapshot": {
            "channel": "edge",
            "created": "2026-01-01T00:00:00Z",
            "release": "2024",
            "snapshot": "20260101"
          },
          "rootfs": {
            "a": "1-r0.x",
            "b": "2-r0.x"
          },
          "rootfs-named": {
            "small": {
              "s": "1-r0.x"
            }
          },
          "runtimes": {
            "dev": {
              "packages": {
                "r": "1-r0.x"
              }
            }
          },
          "sdk": {
            "x86_64": {
              "gcc": "13-r0.x86_64"
            }
          }
        }
      },
      "version": 7
    }
    "#);
    assert!(fs::read_to_string(lock.path()).unwrap().ends_with("}\n"));
    assert_eq!(entries(dir.path()), ["avocado.lock"]);

    let again = LockFile::load(dir.path()).unwrap();
    let target = again.target(&name("qemux86-64")).unwrap();
    assert_eq!(Some(target), lock.target(&name("qemux86-64")));
    assert_eq!(target.packages(&Sysroot::Rootfs).unwrap()["a"], "1-r0.x");
    assert_eq!(target.packages(&Sysroot::Extension(name("none"))), None);
    assert_eq!(target.packages(&Sysroot::NamedInitramfs(name("x"))), None);
    assert_eq!(target.kernel_version(&Sysroot::Rootfs), Some("6.6.1"));
    assert_eq!(target.snapshot().unwrap().snapshot, "20260101");
    assert_eq!(again.target(&name("other")), None);
}

#[test]
fn headers_stand_beside_the_packages() {
    let dir = tempfile::tempdir().unwrap();
    let mut lock = LockFile::load(dir.path()).unwrap();
    let target = lock.target_mut(&name("t"));
    let app = Sysroot::Extension(name("app"));
    target.set_packages(&app, packages(&[("a", "1-r0.x"), ("b", "2-r0.x")]));
    assert_eq!(target.headers(&app), headers(&[]));
    let both = headers(&[("a", "1-r0.x", 0), ("b", "2-r0.x", 1)]);
    target.set_headers(&app, both.clone());
    lock.save().unwrap();
    let written: Value = serde_json::from_slice(&fs::read(lock.path()).unwrap()).unwrap();
    assert_eq!(
        written["targets"]["t"],
        // Other readers of version 7 find the packages as they know them.
        json!({"extensions": {"app": {"packages": {"a": "1-r0.x", "b": "2-r0.x"}}},
               "package-headers": {"extensions/app": {
                   "a": {"version": "1-r0.x", "digest": "sha256:a"},
                   "b": {"version": "2-r0.x", "epoch": 1, "digest": "sha256:b"}}}})
    );
    let mut again = LockFile::load(dir.path()).unwrap();
    let target = again.target_mut(&name("t"));
    assert_eq!(target.headers(&app), both);
    assert_eq!(target.headers(&Sysroot::Rootfs), headers(&[]));

    target.set_packages(&app, packages(&[("a", "1-r0.x"), ("b", "3-r0.x")]));
    assert_eq!(target.headers(&app), headers(&[("a", "1-r0.x", 0)]));
    target.set_packages(&app, packages(&[]));
    again.save().unwrap();
    let text = fs::read_to_string(again.path()).unwrap();
    assert!(!text.contains("package-headers"), "{text}");

    lock.clear_target(&name("t"));
    assert_eq!(lock.target(&name("t")), None);
}

/// A program that knows versions alone moves a package and keeps what it does not know.
#[test]
fn a_header_of_another_version_does_not_count() {
    let document = json!({"version": 7, "targets": {"t": {
        "rootfs": {"a": "2-r0.x"},
        "package-headers": {"rootfs": {
            "a": {"version": "1-r0.x", "digest": "sha256:a"},
            "gone": {"version": "1-r0.x", "digest": "sha256:b"}}}}}});
    let dir = directory(&document.to_string());
    let lock = LockFile::load(dir.path()).unwrap();
    let target = lock.target(&name("t")).unwrap();
    assert_eq!(target.headers(&Sysroot::Rootfs), headers(&[]));
}

/// As earlier versions of this program wrote it.
#[test]
fn the_lock_of_the_example_is_written_as_it_is() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello/avocado.lock");
    let dir = directory(&fs::read_to_string(example).unwrap());
    assert!(!LockFile::load(dir.path()).unwrap().save().unwrap());
}

#[test]
fn what_is_not_known_is_kept_and_sorted() {
    let document = json!({"version": 7, "later": {"z": [{"b": 1, "a": 2}], "a": 1}, "targets": {"t": {
        "later": true,
        "target-sysroot": {"c": "1"},
        "kernels": {"6.6": {"k": "1"}},
        "extensions": {"e": {"source": {"type": "package", "version": "*"}, "packages": {}}},
        "runtimes": {"r": {"packages": {"p": "1"}, "extensions": {"e": {}}, "later": 1}}}}});
    assert_eq!(rewritten(&document), document);
    let dir = directory(&document.to_string());
    let mut lock = LockFile::load(dir.path()).unwrap();
    lock.save().unwrap();
    let text = fs::read_to_string(lock.path()).unwrap();
    assert!(text.find("\"a\": 2") < text.find("\"b\": 1"), "{text}");
}

/// A number that nothing here reads stays the same number; after one save it is written in one way.
#[test]
fn numbers_of_unknown_keys_stay_the_same_numbers() {
    let document = json!({"version": 7, "targets": {"t": {
        "later": [0, -1, 1.5, 18446744073709551615_u64], "rootfs": {"a": "1"}}}});
    assert_eq!(rewritten(&document), document);
    let dir =
        directory(r#"{"version": 7, "later": [1.50, 1e3, 0.1, 123456789012345678901234567890]}"#);
    let mut lock = LockFile::load(dir.path()).unwrap();
    assert!(lock.save().unwrap());
    assert!(!LockFile::load(dir.path()).unwrap().save().unwrap());
}

fn any_packages() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[a-z\\PC]{1,6}", "[0-9.\"\\\\-]{0,6}", 1..4)
}

fn any_sysroot() -> impl Strategy<Value = Sysroot> {
    let name = || "[a-z]{1,3}".prop_map(|text| text.parse::<Name>().unwrap());
    prop_oneof![
        "[a-z0-9_]{1,8}".prop_map(Sysroot::Sdk),
        Just(Sysroot::Rootfs),
        Just(Sysroot::Initramfs),
        name().prop_map(Sysroot::NamedRootfs),
        name().prop_map(Sysroot::NamedInitramfs),
        name().prop_map(Sysroot::Extension),
        name().prop_map(Sysroot::Runtime),
    ]
}

proptest! {
    #[test]
    fn what_is_saved_is_what_is_loaded(
        locked in prop::collection::btree_map(any_sysroot(), any_packages(), 1..8),
        kernel in prop::option::of("[0-9.]{1,5}"),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut lock = LockFile::load(dir.path()).unwrap();
        let target = lock.target_mut(&name("t"));
        for (sysroot, packages) in &locked {
            target.set_packages(sysroot, packages.clone());
            target.set_kernel_version(sysroot, kernel.clone());
        }
        lock.save().unwrap();
        let again = LockFile::load(dir.path()).unwrap();
        let target = again.target(&name("t")).unwrap();
        prop_assert_eq!(Some(target), lock.target(&name("t")));
        for (sysroot, packages) in &locked {
            prop_assert_eq!(target.packages(sysroot), Some(packages));
            prop_assert_eq!(target.kernel_version(sysroot), kernel.as_deref());
        }
    }
}

#[test]
fn a_commit_counts_for_what_it_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let (target, app): (Name, Name) = ("t".parse().unwrap(), "app".parse().unwrap());
    let asked = |url: &str, reference: Option<&str>| GitSource {
        url: url.to_owned(),
        reference: reference.map(str::to_owned),
    };
    let main = asked("https://example.org/a", Some("main"));
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let mut lock = LockFile::load(directory.path()).unwrap();
    assert_eq!(lock.target_mut(&target).commit(&app, &main), None);
    lock.target_mut(&target).set_commit(&app, &main, commit);
    lock.save().unwrap();

    let mut lock = LockFile::load(directory.path()).unwrap();
    let found = |lock: &LockFile, source: &GitSource| {
        let commit = lock.target(&target).unwrap().commit(&app, source);
        commit.map(str::to_owned)
    };
    assert_eq!(found(&lock, &main).as_deref(), Some(commit));
    for other in [
        asked("https://example.org/a", None),
        asked("https://example.org/a", Some("stable")),
        asked("https://example.org/b", Some("main")),
    ] {
        assert_eq!(found(&lock, &other), None);
    }
    // It stays beside the packages, and goes with everything else that is locked.
    let packages = [("x".to_owned(), "1-r0.noarch".to_owned())];
    let sysroot = Sysroot::Extension(app.clone());
    let locked = lock.target_mut(&target);
    locked.set_packages(&sysroot, packages.into_iter().collect());
    locked.set_packages(&sysroot, BTreeMap::new());
    assert_eq!(found(&lock, &main).as_deref(), Some(commit));
    lock.clear_target(&target);
    assert!(lock.target(&target).is_none());

    // What is no commit would be an option of git.
    let text = r#"{"version": 7, "targets": {"t": {"extensions": {"app": {"packages": {},
        "source": {"type": "git", "url": "u", "commit": "--upload-pack=x"}}}}}}"#;
    std::fs::write(directory.path().join("avocado.lock"), text).unwrap();
    let lock = LockFile::load(directory.path()).unwrap();
    assert_eq!(found(&lock, &asked("u", None)), None);
}

#[test]
fn the_package_of_an_extension_is_locked_for_others_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("avocado.lock");
    let app: Name = name("app");
    let sysroot = Sysroot::Include(app.clone());
    let write = |source: Value| {
        let lock = json!({"version": 7, "targets": {"t": {"extensions": {"app": {
            "packages": {}, "source": source}}}}});
        std::fs::write(&file, lock.to_string()).unwrap();
    };
    let locked = || {
        let lock = LockFile::load(directory.path()).unwrap();
        let target = lock.target(&name("t")).unwrap();
        target.packages(&sysroot).cloned()
    };
    // As another program wrote it.
    write(json!({"type": "package", "version": "1-r0.noarch"}));
    assert_eq!(locked(), Some(packages(&[("app", "1-r0.noarch")])));
    write(json!({"type": "repo", "package": "ext-app", "version": "2-r0.noarch"}));
    assert_eq!(locked(), Some(packages(&[("ext-app", "2-r0.noarch")])));
    for other in [
        json!({"type": "package", "version": "*"}),
        json!({"type": "git", "version": "1"}),
        json!({"type": "package"}),
        json!("package"),
    ] {
        write(other);
        assert_eq!(locked(), None);
    }
    // As this one writes it, with what the package needs.
    let mut lock = LockFile::load(directory.path()).unwrap();
    let target = lock.target_mut(&name("t"));
    let both = packages(&[("ext-app", "3-r0.noarch"), ("more", "1-r0.noarch")]);
    target.set_source_package(&app, "ext-app", "3-r0.noarch");
    target.set_packages(&sysroot, both.clone());
    lock.save().unwrap();
    assert_eq!(locked(), Some(both));
    // Another one moved it since, and does not know the rest.
    let text = std::fs::read_to_string(&file).unwrap();
    let source = "\"version\": \"3-r0.noarch\"";
    assert!(text.contains(source), "{text}");
    let moved = text.replace(source, "\"version\": \"4-r0.noarch\"");
    std::fs::write(&file, moved).unwrap();
    assert_eq!(locked(), Some(packages(&[("ext-app", "4-r0.noarch")])));
}
