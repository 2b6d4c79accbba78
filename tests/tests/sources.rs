//! A project whose extensions come from everywhere: a directory beside it, a git repository, and
//! packages of the feed in both of their layouts.

mod common;

use std::fs;
use std::path::Path;

use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{TestNeed, ToolCall, skip_without};
use common::{Sandbox, cannot_build};

const EXTENSIONS: [&str; 4] = ["near", "far", "avocado-ext-motd", "avocado-ext-clock"];

fn project(sandbox: &Sandbox) -> TestProject {
    let project = &sandbox.project;
    let place = sandbox.directory.path();
    let write = |path: &str, text: &str| {
        let path = place.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for (name, text) in [("near", "1"), ("far", "1")] {
        let overlay = "overlay: files, post_build: hook";
        write(
            &format!("{name}/avocado.yaml"),
            &format!("extensions: {{{name}: {{version: 1.0.0, types: [sysext], {overlay}}}}}\n"),
        );
        write(&format!("{name}/files/usr/share/{name}"), text);
        write(
            &format!("{name}/hook"),
            "pwd >\"$AVOCADO_BUILD_EXT_SYSROOT/usr/share/$AVOCADO_EXT_NAME.pwd\"\n",
        );
    }
    git(place, &["init", "--quiet", "--initial-branch=main"]);
    commit(place);
    let packages = "type: package, version: '*'";
    let yaml = format!(
        "default_target: qemux86-64
distro: {{release: '2024', channel: edge}}
extensions:
  near: {{source: {{type: path, path: ../near}}}}
  far: {{source: {{type: git, url: 'file://{}/far', ref: main}}}}
  avocado-ext-motd: {{source: {{{packages}}}}}
  avocado-ext-clock: {{source: {{{packages}}}}}
runtimes:
  dev: {{extensions: [{}]}}
",
        place.display(),
        EXTENSIONS.join(", ")
    );
    project.write("avocado.yaml", &yaml).unwrap();
    // That of the example holds it to the feed's older snapshot.
    fs::remove_file(project.directory().join("avocado.lock")).unwrap();
    project.clone()
}

fn git(place: &Path, args: &[&str]) {
    let call = ToolCall::new("git").arg("-C").arg(place.join("far"));
    let call = call.args(["-c", "user.name=t", "-c", "user.email=t@t"]);
    call.args(args).ok().unwrap();
}

fn commit(place: &Path) {
    git(place, &["add", "--all"]);
    git(place, &["commit", "--quiet", "--message", "x"]);
}

fn content(project: &TestProject, image: &str, path: &str) -> String {
    let image = project.state().join("output/extensions").join(image);
    let output = ToolCall::new("unsquashfs")
        .arg("-cat")
        .arg(image)
        .arg(path)
        .ok();
    output.unwrap().stdout
}

#[test]
fn an_extension_of_each_kind_of_source_is_fetched_and_built() {
    const NAME: &str = "an_extension_of_each_kind_of_source_is_fetched_and_built";
    if cannot_build(NAME) || skip_without(NAME, &[TestNeed::Tool("git")]) {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = project(&sandbox);
    let listed = project.avocado(&["ext", "list"]).ok().unwrap().stdout;
    assert_eq!(listed.matches("(not fetched)").count(), 3, "{listed}");

    // One go, from nothing.
    let built = project.events(&["build"]).unwrap();
    let images = built.artifacts();
    let images = images.iter().filter(|a| a.kind == "extension");
    assert_eq!(images.count(), 4);
    for (image, path, text) in [
        ("near-1.0.0.raw", "usr/share/near", "1"),
        (
            "near-1.0.0.raw",
            "usr/share/near.pwd",
            "/opt/includes/near\n",
        ),
        ("far-1.0.0.raw", "usr/share/far", "1"),
        (
            "far-1.0.0.raw",
            "usr/share/far.pwd",
            "/opt/_avocado/qemux86-64/includes/far\n",
        ),
        (
            "avocado-ext-motd-1.1.0.raw",
            "etc/motd",
            "This device has the greeting of version 1.1.0.\n",
        ),
        (
            "avocado-ext-motd-1.1.0.raw",
            "etc/motd.from",
            "avocado-ext-motd\n",
        ),
        (
            "avocado-ext-clock-1.0.0.raw",
            "usr/lib/avocado-clock/zone",
            "UTC\n",
        ),
    ] {
        assert_eq!(content(&project, image, path), text, "{image} {path}");
    }
    // Its own packages are of the feed.
    let tool = content(&project, "avocado-ext-clock-1.0.0.raw", "usr/bin/hello");
    assert!(tool.starts_with("#!"), "{tool}");

    let again = project.events(&["build"]).unwrap();
    let complete = again.complete();
    assert_eq!(
        (&complete["ran"], &complete["processes"]),
        (&0.into(), &0.into())
    );

    // What a branch or the feed has now counts when it is asked for.
    let place = sandbox.directory.path();
    fs::write(place.join("far/files/usr/share/far"), "2").unwrap();
    commit(place);
    let lock = project.read("avocado.lock").unwrap();
    for locked in [
        "\"avocado-ext-motd\": \"1.1.0-r0.noarch\"",
        "\"includes/avocado-ext-clock\"",
        "\"commit\"",
    ] {
        assert!(lock.contains(locked), "{locked}: {lock}");
    }
    project.avocado(&["clean"]).ok().unwrap();
    project.avocado(&["fetch"]).ok().unwrap();
    project.avocado(&["build"]).ok().unwrap();
    assert_eq!(content(&project, "far-1.0.0.raw", "usr/share/far"), "1");
    assert_eq!(project.read("avocado.lock").unwrap(), lock);
    project.avocado(&["update"]).ok().unwrap();
    project.avocado(&["ext", "image", "far"]).ok().unwrap();
    assert_eq!(content(&project, "far-1.0.0.raw", "usr/share/far"), "2");
}

#[test]
fn what_cannot_be_fetched_is_told_where_it_is_stated() {
    if cannot_build("what_cannot_be_fetched_is_told_where_it_is_stated") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = &sandbox.project;
    let yaml = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
extensions:
  app: {version: 1.0.0, types: [sysext]}
  none: {source: {type: package, version: '*'}}
";
    project.write("avocado.yaml", yaml).unwrap();
    // It stops what needs it and nothing else.
    project.avocado(&["ext", "image", "app"]).ok().unwrap();
    let said = project.avocado(&["ext", "image"]).run().unwrap();
    assert!(!said.status.success());
    assert!(said.stderr.contains("avocado.yaml:5:18"), "{}", said.stderr);
    assert!(said.stderr.contains("the package none"), "{}", said.stderr);
}

/// A root file system that another project states, with files and a script of its own.
#[test]
fn a_root_file_system_comes_from_another_project() {
    const NAME: &str = "a_root_file_system_comes_from_another_project";
    if cannot_build(NAME)
        || skip_without(NAME, &[TestNeed::Tool("git"), TestNeed::Tool("fsck.erofs")])
    {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = project(&sandbox);
    let place = sandbox.directory.path();
    let far = "rootfs:
  packages: {avocado-pkg-rootfs: '*', kernel-image: '*'}
  overlay: files
  post_install: prepare
";
    fs::write(place.join("far/avocado.yaml"), far).unwrap();
    fs::write(
        place.join("far/prepare"),
        "pwd >\"$AVOCADO_ROOTFS_SYSROOT/usr/share/prepared\"\ntouch \"$AVOCADO_ROOTFS_SYSROOT/etc/machine-id\"\n",
    )
    .unwrap();
    commit(place);
    let yaml = format!(
        "default_target: qemux86-64
distro: {{release: '2024', channel: edge}}
rootfs: {{source: {{type: git, url: 'file://{}/far', ref: main}}, filesystem: erofs}}
runtimes: {{dev: {{}}}}
",
        place.display(),
    );
    project.write("avocado.yaml", &yaml).unwrap();
    project.avocado(&["rootfs", "image"]).ok().unwrap();
    let image = project
        .state()
        .join("runtimes/dev/avocado-image-rootfs-qemux86-64.erofs");
    let extracted = place.join("extracted");
    let out = format!("--extract={}", extracted.display());
    let extract = ToolCall::new("fsck.erofs").arg(out).arg(image);
    extract.ok().unwrap();
    let read = |path: &str| fs::read_to_string(extracted.join(path)).unwrap();
    assert_eq!(read("usr/share/far"), "1");
    let own = "/opt/_avocado/qemux86-64/includes/rootfs~default\n";
    assert_eq!(read("usr/share/prepared"), own);
    let again = project.events(&["rootfs", "image"]).unwrap();
    assert_eq!(again.complete()["ran"], 0);
    let lock = project.read("avocado.lock").unwrap();
    assert!(
        lock.contains("\"rootfs~default\"") && lock.contains("\"commit\""),
        "{lock}"
    );
    // An edit of the other project counts when it is asked for.
    fs::write(place.join("far/files/usr/share/far"), "2").unwrap();
    commit(place);
    project.avocado(&["rootfs", "image"]).ok().unwrap();
    assert_eq!(project.read("avocado.lock").unwrap(), lock);
    project.avocado(&["update"]).ok().unwrap();
    let events = project.events(&["rootfs", "image"]).unwrap();
    assert_ne!(events.complete()["ran"], 0);
}

/// What an extension needs is fetched, built and carried with it, beneath it: one of the project,
/// one that came along from a repository, one of the feed.
#[test]
fn a_runtime_carries_what_its_extensions_need() {
    const NAME: &str = "a_runtime_carries_what_its_extensions_need";
    if cannot_build(NAME) || skip_without(NAME, &[TestNeed::Tool("git")]) {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = project(&sandbox);
    let place = sandbox.directory.path();
    let far = "extensions:
  far: {version: 1.0.0, types: [sysext], overlay: files, depends_on: {far-lib: '>=2'}}
  far-lib: {version: 2.1.0, types: [sysext], overlay: files, depends_on: [avocado-ext-clock]}
";
    fs::write(place.join("far/avocado.yaml"), far).unwrap();
    commit(place);
    let yaml = |wanted: &str| {
        format!(
            "default_target: qemux86-64
distro: {{release: '2024', channel: edge}}
extensions:
  app: {{version: 1.0.0, types: [sysext], depends_on: {{far: '*', avocado-ext-clock: '{wanted}'}}}}
  far: {{source: {{type: git, url: 'file://{}/far', ref: main}}}}
  avocado-ext-clock: {{source: {{type: package, version: '*'}}}}
runtimes:
  dev: {{extensions: [app]}}
",
            place.display(),
        )
    };
    project.write("avocado.yaml", &yaml("1.0.*")).unwrap();
    project.avocado(&["build"]).ok().unwrap();
    let manifest = project.state().join("output/runtimes/dev/manifest.json");
    let manifest: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(manifest).unwrap()).unwrap();
    let members = manifest["extensions"].as_array().unwrap().iter();
    let members: Vec<String> = members
        .map(|e| {
            format!(
                "{}-{}",
                e["name"].as_str().unwrap(),
                e["version"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        members,
        [
            "app-1.0.0",
            "far-1.0.0",
            "far-lib-2.1.0",
            "avocado-ext-clock-1.0.0"
        ]
    );
    let text = content(&project, "far-lib-2.1.0.raw", "usr/share/far");
    assert_eq!(text, "1");
    let again = project.events(&["build"]).unwrap();
    assert_eq!(again.complete()["ran"], 0);
    let told = project.avocado(&["ext", "deps", "far-lib"]).ok().unwrap();
    assert!(
        told.stdout.contains("extension avocado-ext-clock"),
        "{}",
        told.stdout
    );

    project.write("avocado.yaml", &yaml(">=1.5")).unwrap();
    let failed = project.avocado(&["build"]).run().unwrap();
    assert!(!failed.status.success());
    for part in [
        "the extension `avocado-ext-clock` has the version 1.0.0, and `app` needs `>=1.5`",
        "avocado.yaml:4:84",
    ] {
        assert!(failed.stderr.contains(part), "{}", failed.stderr);
    }
}
