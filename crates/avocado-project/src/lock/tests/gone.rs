//! What is locked of parts that the project does not have any more.

use super::*;
use crate::lock::gone::is_of_kind;
use crate::model::Project;
use crate::phases::{LoadOptions, ReadProject, SourceKind};

const COMPLETE: &str = "default_target: t
supported_targets: [t, u]
distro: {release: '2024', channel: edge}
extensions: {app: {version: 1.0.0, packages: {a: '*'}}}
runtimes: {dev: {extensions: [app]}}
";

fn options<'a>(config: &'a Path, yaml: &'a str) -> LoadOptions<'a> {
    LoadOptions {
        config,
        text: Some(yaml),
        target: None,
        env: &|_| None,
        cli_version: "1.0.0",
    }
}

fn project(yaml: &str) -> Project {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("avocado.yaml");
    crate::load(&options(&config, yaml)).unwrap().project
}

fn locked() -> Value {
    let target = json!({
        "sdk": {"x86_64": {"s": "1-r0.x"}, "other-host": {"s": "1-r0.x"}},
        "rootfs": {"r": "1-r0.x"},
        "rootfs-named": {"old": {"r": "1-r0.x"}},
        "initramfs": {"i": "1-r0.x"},
        "initramfs-named": {"old": {"i": "1-r0.x"}},
        "target-sysroot": {"c": "1-r0.x"},
        "extensions": {
            "app": {
                "packages": {"a": "1-r0.x"},
                "source": {"type": "git", "url": "u", "commit": "c"},
            },
            "old": {"packages": {"a": "1-r0.x"}, "more": 1},
        },
        "runtimes": {
            "dev": {"packages": {"a": "1-r0.x"}},
            "old": {"packages": {"a": "1-r0.x"}},
        },
        "includes": {"app": {"app": "1-r0.x"}, "old": {"old": "1-r0.x"}},
        "kernel-versions": {"rootfs": "6.6", "rootfs/old": "6.6"},
        "package-headers": {
            "extensions/app": {"a": {"version": "1-r0.x", "epoch": 1, "digest": "sha256:a"}},
            "extensions/old": {"a": {"version": "1-r0.x", "epoch": 1, "digest": "sha256:a"}},
        },
        "boot": {"b": 1},
        "of-others": {"o": 1},
    });
    json!({"version": 7, "targets": {"t": target, "u": target}})
}

#[test]
fn what_the_project_has_not_any_more_is_dropped_for_its_target_alone() {
    let dir = directory(&locked().to_string());
    let mut lock = LockFile::load(dir.path()).unwrap();
    let gone = lock.drop_gone(&project(COMPLETE));
    assert_eq!(
        gone,
        [
            "extensions/old",
            "includes/app",
            "includes/old",
            "initramfs/old",
            "rootfs/old",
            "runtimes/old",
            "target-sysroot",
            "the source of extensions/app",
        ]
    );
    let before = LockFile::load(dir.path()).unwrap();
    let told = before.changes_to(&lock);
    assert!(
        told.iter()
            .all(|change| change.target == "t" && change.new.is_none())
    );
    assert!(told.iter().any(|change| change.tree == "runtimes/old"));
    assert!(lock.save().unwrap());
    let now: Value = serde_json::from_slice(&fs::read(lock.path()).unwrap()).unwrap();
    let mut expected = locked();
    let target = expected["targets"]["t"].as_object_mut().unwrap();
    for key in [
        "rootfs-named",
        "initramfs-named",
        "target-sysroot",
        "includes",
    ] {
        target.remove(key);
    }
    for (key, name) in [
        ("extensions", "old"),
        ("runtimes", "old"),
        ("kernel-versions", "rootfs/old"),
        ("package-headers", "extensions/old"),
    ] {
        target[key].as_object_mut().unwrap().remove(name);
    }
    target["extensions"]["app"]
        .as_object_mut()
        .unwrap()
        .remove("source");
    assert_eq!(now, expected);
    assert_eq!(lock.drop_gone(&project(COMPLETE)), [""; 0]);
}

#[test]
fn what_the_project_has_stays() {
    let yaml = "default_target: t
distro: {release: '2024', channel: edge}
sdk: {compile: {c: {compile: c.sh}}}
rootfs: {old: {}, default: {}}
initramfs: {old: {}, default: {}}
extensions: {app: {version: 1.0.0}, old: {version: 1.0.0}}
runtimes: {dev: {extensions: [app]}, old: {}}
";
    let dir = directory(&locked().to_string());
    let mut lock = LockFile::load(dir.path()).unwrap();
    let gone = lock.drop_gone(&project(yaml));
    assert_eq!(
        gone,
        [
            "includes/app",
            "includes/old",
            "the source of extensions/app"
        ]
    );
}

#[test]
fn nothing_is_dropped_for_a_part_of_a_project_or_where_the_lock_is_not_to_change() {
    let dir = directory(&locked().to_string());
    let load = || LockFile::load(dir.path()).unwrap();
    let unfetched = format!("{COMPLETE}rootfs: {{source: {{type: git, url: 'https://host/x'}}}}\n");
    assert_eq!(load().drop_gone(&project(&unfetched)), [""; 0]);

    let config = dir.path().join("avocado.yaml");
    let options = options(&config, COMPLETE);
    let read = ReadProject::read(&options).unwrap();
    let for_fetching = read.find_sources(&options).unwrap();
    let for_fetching = for_fetching.for_fetching(&options).unwrap().project;
    assert_eq!(load().drop_gone(&for_fetching), [""; 0]);

    let complete = project(COMPLETE);
    assert_eq!(load().locked(true).drop_gone(&complete), [""; 0]);
    assert_eq!(load().unsaved(true).drop_gone(&complete), [""; 0]);
    assert_ne!(load().drop_gone(&complete), [""; 0]);
}

#[test]
fn what_is_gone_is_dropped_from_a_lock_of_an_older_version() {
    for document in [
        json!({"version": 1, "targets": {"t": {
            "extensions/old": {"a": "1"}, "extensions/app": {"a": "1"}, "runtimes/old": {"a": "1"},
        }}}),
        json!({"version": 5, "targets": {"t": {
            "extensions": {"old": {"packages": {"a": "1"}}, "app": {"packages": {"a": "1"}}},
            "runtimes": {"old": {"a": "1"}},
        }}}),
    ] {
        let dir = directory(&document.to_string());
        let mut lock = LockFile::load(dir.path()).unwrap();
        let gone = lock.drop_gone(&project(COMPLETE));
        assert_eq!(gone, ["extensions/old", "runtimes/old"]);
        let extensions = json!({"app": {"packages": {"a": "1"}}});
        lock.save().unwrap();
        let now: Value = serde_json::from_slice(&fs::read(lock.path()).unwrap()).unwrap();
        assert_eq!(now["targets"], json!({"t": {"extensions": extensions}}));
    }
}

#[test]
fn a_target_of_which_nothing_is_left_goes() {
    let document = json!({"version": 7, "targets": {"t": {
        "runtimes": {"old": {"packages": {"a": "1"}}},
    }}});
    let dir = directory(&document.to_string());
    let mut lock = LockFile::load(dir.path()).unwrap();
    lock.drop_gone(&project(COMPLETE));
    assert!(lock.target(&name("t")).is_none());
}

#[test]
fn a_source_of_another_kind_goes_once() {
    let locked = |source: Value| {
        let app = json!({"packages": {"a": "1-r0.x"}, "source": source});
        json!({"version": 7, "targets": {"t": {"extensions": {"app": app}}}})
    };
    let package = json!({"type": "package", "package": "app", "version": "1-r0.x"});
    let git = json!({"type": "git", "url": "u", "commit": "c"});
    let other = json!({"type": "path", "path": "p"});
    let place = tempfile::tempdir().unwrap();
    let at = place.path().join("app");
    fs::create_dir(&at).unwrap();
    fs::write(
        at.join("avocado.yaml"),
        "extensions: {app: {version: 1.0.0}}\n",
    )
    .unwrap();
    let config = place.path().join("avocado.yaml");
    let project_of = |source: &str| {
        let yaml = format!(
            "default_target: t\ndistro: {{release: '2024', channel: edge}}\n\
             extensions: {{app: {{source: {source}}}}}\n"
        );
        crate::load(&options(&config, &yaml)).unwrap().project
    };
    let source = "the source of extensions/app";
    let project = project_of("{type: path, path: app}");
    assert!(project.is_complete);
    let dir = directory(&locked(other.clone()).to_string());
    assert_eq!(
        LockFile::load(dir.path()).unwrap().drop_gone(&project),
        [""; 0]
    );
    for was in [&package, &git] {
        let dir = directory(&locked(was.clone()).to_string());
        let mut lock = LockFile::load(dir.path()).unwrap();
        let gone = lock.drop_gone(&project);
        assert!(gone.contains(&source.to_owned()), "{was}: {gone:?}");
        assert!(lock.save().unwrap());
        // The next run finds nothing of it.
        let mut lock = LockFile::load(dir.path()).unwrap();
        assert_eq!(lock.drop_gone(&project), [""; 0], "{was}");
        assert!(!lock.save().unwrap());
        let now: Value = serde_json::from_slice(&fs::read(lock.path()).unwrap()).unwrap();
        let app = json!({"app": {"packages": {"a": "1-r0.x"}}});
        assert_eq!(now["targets"]["t"]["extensions"], app);
    }
    for (kind, stays, goes) in [
        (SourceKind::Path { path: at }, &other, [&package, &git]),
        (
            SourceKind::Git {
                url: "u".into(),
                reference: None,
                sparse_checkout: Vec::new(),
            },
            &git,
            [&package, &other],
        ),
        (
            SourceKind::Package {
                package: "app".into(),
                version: "*".into(),
                repository: None,
            },
            &package,
            [&git, &other],
        ),
    ] {
        let is = |source: &Value| is_of_kind(&kind, source["type"].as_str().unwrap());
        assert!(is(stays), "{kind:?}");
        assert!(!goes.into_iter().any(is), "{kind:?}");
    }
}
