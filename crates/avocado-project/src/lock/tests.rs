use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use avocado_manifest::Name;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn packages(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    let list = list.iter();
    list.map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect()
}

/// A directory with a lock file of that text.
fn directory(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("avocado.lock"), text).unwrap();
    dir
}

/// An error with its causes.
fn chain(error: &LockFileError) -> String {
    let mut said = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        said.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    said
}

fn error(text: &str) -> LockFileError {
    let dir = directory(text);
    LockFile::load(dir.path()).unwrap_err()
}

/// What is written after a document was read.
fn rewritten(document: &Value) -> Value {
    let dir = directory(&document.to_string());
    let mut lock = LockFile::load(dir.path()).unwrap();
    lock.save().unwrap();
    let bytes = fs::read(lock.path()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

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

fn headers(list: &[(&str, &str, u32)]) -> PackageHeaders {
    let header = |(name, version, epoch): &(&str, &str, u32)| {
        let header = PackageHeader {
            version: (*version).to_owned(),
            epoch: *epoch,
            digest: format!("sha256:{name}"),
        };
        ((*name).to_owned(), header)
    };
    list.iter().map(header).collect()
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

#[test]
fn an_equal_file_is_not_touched_and_nothing_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut lock = LockFile::load(dir.path()).unwrap();
    assert!(!lock.save().unwrap());
    assert_eq!(entries(dir.path()), [""; 0]);

    lock.target_mut(&name("t"))
        .set_packages(&Sysroot::Rootfs, packages(&[("a", "1")]));
    assert!(lock.save().unwrap());
    let before = fs::metadata(lock.path()).unwrap();
    assert!(!lock.save().unwrap());
    assert!(!LockFile::load(dir.path()).unwrap().save().unwrap());
    let after = fs::metadata(lock.path()).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(
        (before.ino(), before.ctime_nsec()),
        (after.ino(), after.ctime_nsec())
    );
}

/// As earlier versions of this program wrote it.
#[test]
fn the_lock_of_the_example_is_written_as_it_is() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello/avocado.lock");
    let dir = directory(&fs::read_to_string(example).unwrap());
    assert!(!LockFile::load(dir.path()).unwrap().save().unwrap());
}

#[test]
fn a_link_stays_a_link() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("shared")).unwrap();
    fs::write(
        dir.path().join("shared/lock"),
        r#"{"version": 7, "targets": {}}"#,
    )
    .unwrap();
    let link = dir.path().join("avocado.lock");
    std::os::unix::fs::symlink("shared/lock", &link).unwrap();
    let mut lock = LockFile::load(dir.path()).unwrap();
    lock.target_mut(&name("t"))
        .set_packages(&Sysroot::Rootfs, packages(&[("a", "1")]));
    assert!(lock.save().unwrap());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(
        fs::read_to_string(dir.path().join("shared/lock"))
            .unwrap()
            .contains("\"a\": \"1\"")
    );
}

#[test]
fn the_legacy_file_is_read_and_goes_with_the_next_save() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join(".avocado/lock.json");
    fs::create_dir(dir.path().join(".avocado")).unwrap();
    fs::write(
        &old,
        r#"{"version": 6, "targets": {"t": {"rootfs": {"a": "1"}}}}"#,
    )
    .unwrap();
    let mut lock = LockFile::load(dir.path()).unwrap();
    assert_eq!(
        lock.target(&name("t"))
            .unwrap()
            .packages(&Sysroot::Rootfs)
            .unwrap()["a"],
        "1"
    );
    // A version 6 file follows the head of the channel.
    assert_eq!(lock.target(&name("t")).unwrap().snapshot(), None);
    assert!(old.exists());
    assert!(lock.save().unwrap());
    assert!(!old.exists());
    let again = LockFile::load(dir.path()).unwrap();
    assert_eq!(again.target(&name("t")), lock.target(&name("t")));

    // Beside a new file it is a leftover.
    fs::write(&old, "garbage").unwrap();
    let mut lock = LockFile::load(dir.path()).unwrap();
    assert!(!lock.save().unwrap());
    assert!(!old.exists());
}

#[test]
fn clearing_a_target_keeps_its_boot_and_the_other_targets() {
    let document = json!({"version": 7, "targets": {
        "t": {"rootfs": {"a": "1"}, "boot": {"active-runtime": "dev"}, "kernels": {"6.6": {"k": "1"}},
              "kernel-versions": {"rootfs": "6.6"}, "extensions": {"e": {"packages": {"b": "1"}}},
              "repo-snapshot": {"release": "r", "channel": "c", "snapshot": "s"}},
        "u": {"rootfs": {"a": "1"}}}});
    let dir = directory(&document.to_string());
    let mut lock = LockFile::load(dir.path()).unwrap();
    lock.clear_target(&name("t"));
    lock.clear_target(&name("absent"));
    lock.save().unwrap();
    let bytes = fs::read(lock.path()).unwrap();
    let expected = json!({"version": 7, "targets": {
        "t": {"boot": {"active-runtime": "dev"}}, "u": {"rootfs": {"a": "1"}}}});
    assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), expected);
    lock.clear_target(&name("u"));
    assert_eq!(lock.target(&name("u")), None);
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

#[test]
fn what_was_migrated_can_be_read_again() {
    let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
    let mut deepest = 0;
    for n in 80..140 {
        let deep = nested(n);
        let text =
            format!(r#"{{"version": 1, "targets": {{"t": {{"runtimes/r": {{"x": {deep}}}}}}}}}"#);
        let dir = directory(&text);
        match LockFile::load(dir.path()) {
            Ok(mut lock) => {
                lock.save().unwrap();
                assert!(!LockFile::load(dir.path()).unwrap().save().unwrap());
                deepest = n;
            }
            Err(error) => {
                let said = chain(&error);
                assert!(said.contains("recursion limit exceeded"), "{said}");
                assert!(deepest >= 80, "{said}");
            }
        }
    }
}

#[test]
fn migrations() {
    let current = |target: Value| json!({"version": 7, "targets": {"t": target}});
    for (old, expected) in [
        (
            json!({"version": 1, "targets": {"t": {
                "sdk": {"gcc": "1"}, "sdk/x86_64": {"gcc": "1"},
                "rootfs": {"a": "1"}, "target-sysroot": {"s": "1"},
                "extensions/app": {"b": "1"}, "runtimes/dev": {"c": "1"}}}}),
            current(json!({"rootfs": {"a": "1"}, "target-sysroot": {"s": "1"},
                "extensions": {"app": {"packages": {"b": "1"}}},
                "runtimes": {"dev": {"packages": {"c": "1"}}}})),
        ),
        (
            json!({"version": 2, "targets": {"t": {
                "sdk": {"x86_64": {"gcc": "1"}},
                "extensions": {"app": {"b": "1"}},
                "fetched-extensions": {"bsp": {"avocado-bsp": "2"}, "app": {"app": "3"}},
                "runtimes": {"dev": {"c": "1"}}}}}),
            current(json!({"sdk": {"x86_64": {"gcc": "1"}},
                "extensions": {
                    "app": {"packages": {"b": "1"},
                            "source": {"type": "package", "package": "app", "version": "3"}},
                    "bsp": {"packages": {},
                            "source": {"type": "package", "package": "avocado-bsp", "version": "2"}}},
                "runtimes": {"dev": {"packages": {"c": "1"}}}})),
        ),
        (
            json!({"version": 3, "distro_release": "2024", "targets": {"t": {
                "extensions": {"app": {"packages": {"b": "1"}}}, "runtimes": {"dev": {"c": "1"}}}}}),
            json!({"version": 7, "distro_release": "2024", "targets": {"t": {
                "extensions": {"app": {"packages": {"b": "1"}}},
                "runtimes": {"dev": {"packages": {"c": "1"}}}}}}),
        ),
        (
            json!({"version": 4, "targets": {"t": {"kernel-versions": {"rootfs": "6.6"}}}}),
            current(json!({"kernel-versions": {"rootfs": "6.6"}})),
        ),
        (
            json!({"version": 5, "targets": {"t": {"runtimes": {"dev": {"c": "1"}}}}}),
            current(json!({"runtimes": {"dev": {"packages": {"c": "1"}}}})),
        ),
        (
            json!({"version": 6, "targets": {"t": {
                "runtimes": {"dev": {"packages": {"c": "1"}, "extensions": {"app": {}}}}}}}),
            current(
                json!({"runtimes": {"dev": {"packages": {"c": "1"}, "extensions": {"app": {}}}}}),
            ),
        ),
    ] {
        assert_eq!(rewritten(&old), expected, "{old}");
        // What was migrated stays.
        assert_eq!(rewritten(&expected), expected);
    }
}

#[test]
fn damage_is_named() {
    for (text, expected) in [
        (
            "{\n \"version\": 7,\n oops\n}",
            "avocado.lock:3:2: the lock file is damaged: it is not JSON",
        ),
        (
            "",
            "avocado.lock:1:0: the lock file is damaged: it is not JSON",
        ),
        (
            "[]",
            "damaged at `the document`; … invalid type: sequence, expected a map",
        ),
        ("{}", "`version` is not a version number"),
        ("{\"version\": \"7\"}", "`version` is not a version number"),
        ("{\"version\": 0}", "`version` is not a version number"),
        (
            "{\"version\": 8}",
            "has lock version 8, and this program knows versions up to 7; use a newer avocado",
        ),
        (
            "{\"version\": 7, \"targets\": []}",
            "damaged at `targets`; … invalid type: sequence, expected a map",
        ),
        (
            "{\"version\": 7, \"targets\": {\"t\": {\"rootfs\": {\"a\": 1}}}}",
            "damaged at `targets.t.rootfs.a`; … invalid type: integer `1`, expected a string",
        ),
        (
            "{\"version\": 6, \"targets\": {\"t\": {\"runtimes\": {\"r\": {\"packages\": []}}}}}",
            "damaged at `targets.t.runtimes.r.packages`; … invalid type: sequence, expected a map",
        ),
        (
            "{\"version\": 7, \"targets\": {\"t\": {\"package-headers\": {\"rootfs\": {\"a\": \"1\"}}}}}",
            "damaged at `targets.t.package-headers.rootfs.a`; … invalid type: string",
        ),
        (
            "{\"version\": 7, \"targets\": {\"t\": {\"repo-snapshot\": {\"release\": \"r\"}}}}",
            "damaged at `targets.t.repo-snapshot`; … missing field `channel`",
        ),
    ] {
        let said = chain(&error(text));
        // What is to be done stands between the place and the cause.
        for part in expected.split(" … ") {
            assert!(said.contains(part), "{text}\n{said}");
        }
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone");
    let mut lock = LockFile::load(&gone).unwrap();
    lock.target_mut(&name("t"))
        .set_packages(&Sysroot::Rootfs, packages(&[("a", "1")]));
    let error = lock.save().unwrap_err();
    assert!(
        matches!(&error, LockFileError::Write { path, .. } if path.ends_with("gone/avocado.lock"))
    );
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
fn the_marks_of_a_merge_are_told_as_such() {
    let text = "{\n  \"version\": 7,\n<<<<<<< HEAD\n  \"targets\": {}\n=======\n  \"targets\": {\"t\": {}}\n\
                >>>>>>> other\n}\n";
    let error = error(text);
    assert!(
        matches!(&error, LockFileError::MergeConflict { line: 3, .. }),
        "{error:?}"
    );
    let said = error.to_string();
    assert!(
        said.contains("avocado.lock:3: ") && said.contains("--theirs"),
        "{said}"
    );
    // Half of a choice.
    let error = self::error("{\"version\": 7}\n>>>>>>> other\n");
    assert!(
        matches!(&error, LockFileError::MergeConflict { line: 2, .. }),
        "{error:?}"
    );
    let error = self::error("{\"version\": 7,\n \"x\": \"\n=======\"}\n");
    assert!(
        matches!(&error, LockFileError::MergeConflict { .. }),
        "{error:?}"
    );
    // Text is text.
    let dir = directory("{\"version\": 7, \"note\": \"<<<<<<< HEAD\"}");
    LockFile::load(dir.path()).unwrap();
}

#[test]
fn a_locked_file_is_not_changed_and_what_would_change_is_told() {
    let text = json!({"version": 7, "targets": {"t": {"rootfs": {"bash": "1", "gone": "1"}}}});
    let dir = directory(&text.to_string());
    let before = entries(dir.path());
    let load = || LockFile::load(dir.path()).unwrap();
    load().save().unwrap();
    let rootfs = Sysroot::rootfs(&name("default"));
    let written = fs::read(dir.path().join("avocado.lock")).unwrap();
    let mut lock = load().locked(true);
    lock.save().unwrap();
    lock.target_mut(&name("t"))
        .set_packages(&rootfs, packages(&[("bash", "2"), ("more", "1")]));
    let error = lock.save().unwrap_err();
    assert!(matches!(error, LockFileError::Locked { .. }));
    let said = error.to_string();
    let expected = "avocado.lock would have to change: `targets.t.rootfs.bash`: 1 → 2, and 2 more";
    assert!(said.ends_with(expected), "{said}");
    assert_eq!(fs::read(dir.path().join("avocado.lock")).unwrap(), written);
    assert_eq!(entries(dir.path()), before);

    // Nothing is made where there was nothing.
    let none = tempfile::tempdir().unwrap();
    let mut lock = LockFile::load(none.path()).unwrap().locked(true);
    lock.save().unwrap();
    lock.target_mut(&name("t"))
        .set_packages(&rootfs, packages(&[("bash", "2")]));
    let said = lock.save().unwrap_err().to_string();
    assert!(said.contains("(none) → "), "{said}");
    assert!(entries(none.path()).is_empty());
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

#[test]
fn one_part_is_unlocked_and_the_rest_stays() {
    use crate::edit::PackageScope;
    let directory = tempfile::tempdir().unwrap();
    let target: Name = "t".parse().unwrap();
    let name: Name = "a".parse().unwrap();
    let other: Name = "b".parse().unwrap();
    let all = [
        (Some(PackageScope::Sdk), Sysroot::Sdk("x86_64".into())),
        (Some(PackageScope::Sdk), Sysroot::TargetSysroot),
        (Some(PackageScope::Rootfs), Sysroot::Rootfs),
        (
            Some(PackageScope::Rootfs),
            Sysroot::NamedRootfs(name.clone()),
        ),
        (Some(PackageScope::Initramfs), Sysroot::Initramfs),
        (
            Some(PackageScope::Initramfs),
            Sysroot::NamedInitramfs(name.clone()),
        ),
        (
            Some(PackageScope::Extension(name.clone())),
            Sysroot::Extension(name.clone()),
        ),
        (
            Some(PackageScope::Extension(name.clone())),
            Sysroot::Include(name.clone()),
        ),
        (
            Some(PackageScope::Runtime(name.clone())),
            Sysroot::Runtime(name.clone()),
        ),
        (None, Sysroot::Extension(other.clone())),
        (None, Sysroot::Runtime(other)),
    ];
    let mut lock = LockFile::load(directory.path()).unwrap();
    let locked = lock.target_mut(&target);
    for (_, sysroot) in &all {
        locked.set_packages(sysroot, [("p".to_owned(), "1-r0.x".to_owned())].into());
        locked.set_kernel_version(sysroot, Some("6.12".to_owned()));
    }
    let scopes = all.iter().filter_map(|(scope, _)| scope.clone());
    let whole = locked.clone();
    for scope in scopes {
        let mut locked = whole.clone();
        locked.unlock(&scope);
        for (of, sysroot) in &all {
            let is_kept = of.as_ref() != Some(&scope);
            assert_eq!(
                locked.packages(sysroot).is_some(),
                is_kept,
                "{scope:?} {sysroot:?}"
            );
            assert_eq!(
                locked.kernel_version(sysroot).is_some(),
                is_kept,
                "{scope:?} {sysroot:?}"
            );
        }
    }
}
