//! The file on disk: when it is written, where, and when not.

use super::*;

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
