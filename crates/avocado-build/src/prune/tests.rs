use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Mutex;

use avocado_events::Event;

use super::*;
use crate::tests::graphs::HELLO;
use crate::tests::test_project::TestProject;

const STATE: &str = ".avocado/state/qemux86-64";

fn made(project: &TestProject, path: &str) {
    let path = project.path(&format!("{STATE}/{path}"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "some text").unwrap();
}

fn pruned(project: &TestProject, dry_run: bool) -> Pruned {
    let sink = |_: Event| ();
    prune(&project.options.project, dry_run, &Cancel::new(), &sink).unwrap()
}

/// The paths in the state, each with its reason.
fn shown(project: &TestProject, pruned: &Pruned) -> String {
    let state = project.path(STATE);
    let line = |l: &Leftover| {
        let path = l.path.strip_prefix(&state).unwrap();
        format!("{}: {}\n", path.display(), l.why)
    };
    pruned.leftovers.iter().map(line).collect()
}

#[test]
fn what_was_just_built_is_needed() {
    let project = TestProject::new(HELLO);
    assert_eq!(pruned(&project, false), Pruned::default());
    project.build();
    assert_eq!(shown(&project, &pruned(&project, false)), "");
    assert!(project.build().is_empty());
}

#[test]
fn what_nothing_names_any_more_goes_and_the_rest_stays() {
    let mut project = TestProject::new(HELLO);
    project.build();
    for path in [
        "extensions/gone/usr/bin/gone",
        ".work/extensions/gone/usr/bin/gone",
        ".stamps/ext/gone/build.stamp",
        ".stamps/compile/gone/compile.stamp",
        "output/extensions/gone-1.0.0.raw",
        "output/extensions/hello-0.9.0.raw",
        "output/extensions/gone-1.0.0-r0.noarch.rpm",
        "output/extensions/hello-0.9.0-r0.noarch.rpm",
        "output/packages/gone-1.0.0-1.x86_64.rpm",
        "output/extensions/notes",
        "runtimes/gone/avocado-image-var-qemux86-64.btrfs",
        ".stamps/runtime/gone/build.stamp",
        "output/runtimes/gone/repository/metadata/root.json",
        "output/runtimes/gone/manifest.json",
        "output/runtimes/gone/vm/Image",
        "rootfs-gone/etc/os-release",
        "initramfs-gone/init",
        ".stamps/rootfs/gone/install.stamp",
        "kernel/5.0/Image",
        ".rootfs.new/etc/os-release",
        "extensions/.hello.old/usr",
        ".rootfs.rpm/rpmdb.sqlite",
        "runtimes/dev/.var-staging.new/lib/x",
        "output/runtimes/dev/.vm.new/Image",
        ".work/dnf-cache/feed-0160d31236136e00/repodata/repomd.xml",
        ".work/dnf-cache/feed.solv",
        ".work/cache/7/0",
        ".work/inventories/0123456789abcdef.json",
        ".work/inventories/output/extensions/gone-1.0.0.raw.json",
        ".work/inventories/output/extensions/hello-0.9.0.raw.json",
        ".work/inventories/output/extensions/hello-1.0.0.raw.json",
        ".work/inventories/runtimes/gone/avocado-image-rootfs-qemux86-64.erofs.json",
        "somebody/elses",
    ] {
        made(&project, path);
    }
    let now = fs::File::open(project.path(STATE))
        .unwrap()
        .metadata()
        .unwrap();
    made(
        &project,
        ".work/dnf-cache/feed-e0dc071e3c59f7b3/repodata/repomd.xml",
    );
    for name in ["", "/repodata"] {
        let old = format!("{STATE}/.work/dnf-cache/feed-0160d31236136e00{name}");
        let old = fs::File::open(project.path(&old)).unwrap();
        let time = now.modified().unwrap() - std::time::Duration::from_secs(60);
        old.set_modified(time).unwrap();
    }
    let would = pruned(&project, true);
    insta::assert_snapshot!(shown(&project, &would));
    assert!(
        would
            .leftovers
            .iter()
            .all(|l| l.path.exists() && l.bytes > 0)
    );
    assert_eq!(
        would.bytes,
        would.leftovers.iter().map(|l| l.bytes).sum::<u64>()
    );

    assert_eq!(pruned(&project, false), would);
    assert!(would.leftovers.iter().all(|l| !l.path.exists()));
    assert_eq!(pruned(&project, false), Pruned::default());
    assert!(project.build().is_empty());

    // What the project loses is gone the next time, but for its signed repository.
    project.edit("extensions: [hello, hello-config]", "extensions: [hello]");
    project.edit("  hello-config:\n", "  renamed:\n");
    let lost = shown(&project, &pruned(&project, false));
    assert!(lost.contains("extensions/hello-config: extension `hello-config` is gone\n"));
}

/// The files of an image have a name in the repository and on the var partition, too.
#[test]
fn what_has_another_name_frees_nothing() {
    let project = TestProject::new(HELLO);
    project.build();
    made(&project, "output/extensions/gone-1.raw");
    let state = project.path(STATE);
    let linked = |name: &str| state.join("output/extensions").join(name);
    fs::hard_link(linked("gone-1.raw"), linked("gone-2.raw")).unwrap();
    let two = pruned(&project, true);
    assert!(two.leftovers.iter().all(|l| l.bytes == 0), "{two:?}");
    assert!(two.bytes > 0);
    fs::hard_link(linked("gone-1.raw"), project.path("kept")).unwrap();
    assert_eq!(pruned(&project, false).bytes, 0);
    assert!(project.path("kept").exists());
}

#[test]
fn links_are_not_followed() {
    let project = TestProject::new(HELLO);
    project.build();
    let state = project.path(STATE);
    let outside = project.path("outside");
    fs::create_dir_all(outside.join("dir")).unwrap();
    symlink(&outside, state.join("extensions/gone")).unwrap();
    symlink(&outside, state.join(".work/runtimes.link")).unwrap();
    let work = state.join(".work/extensions");
    fs::remove_dir_all(&work).unwrap();
    symlink(&outside, &work).unwrap();
    let found = shown(&project, &pruned(&project, false));
    assert_eq!(found, "extensions/gone: extension `gone` is gone\n");
    assert!(!Path::new(&state.join("extensions/gone")).is_symlink());
    assert!(outside.join("dir").is_dir());
    // A directory of the build's own is no link in any state that is used.
    fs::rename(state.join("kernel"), state.join("moved")).unwrap();
    symlink(&outside, state.join("kernel")).unwrap();
    let refused = prune(
        &project.options.project,
        false,
        &Cancel::new(),
        &|_: Event| (),
    );
    assert!(refused.is_err());
    assert!(outside.join("dir").is_dir());
}

#[test]
fn another_run_is_waited_for() {
    let project = TestProject::new(HELLO);
    project.build();
    let layout = Layout::new(
        &project.path(".avocado/state"),
        &"qemux86-64".parse().unwrap(),
    );
    let cancel = Cancel::new();
    let _held = lock_project(&layout, &cancel, &|_: Event| ()).unwrap();
    let said = Mutex::new(String::new());
    let sink = |event: Event| {
        said.lock().unwrap().push_str(&event.message);
        cancel.cancel();
    };
    let stopped = prune(&project.options.project, false, &cancel, &sink);
    assert!(matches!(stopped, Err(BuildError::Cancelled)));
    assert!(
        said.lock()
            .unwrap()
            .starts_with("waiting for another avocado")
    );
}

#[test]
fn what_killed_runs_left_beside_the_targets_goes() {
    let project = TestProject::new(HELLO);
    project.build();
    let state = project.path(".avocado/state");
    for name in [".nfs", ".moving", ".qemux86-64.old", ".other.old"] {
        fs::create_dir_all(state.join(name)).unwrap();
        fs::write(state.join(name).join("x"), "some text").unwrap();
    }
    let found = pruned(&project, false);
    let mut names: Vec<_> = found
        .leftovers
        .iter()
        .map(|l| l.path.strip_prefix(&state).unwrap().to_owned())
        .collect();
    names.sort();
    let expected = [".moving", ".nfs", ".qemux86-64.old"].map(Path::new);
    assert_eq!(names, expected);
    // The only one that there is of a target goes back, and not away.
    assert!(state.join(".other.old/x").exists());
    assert!(!state.join(".nfs").exists());
}
