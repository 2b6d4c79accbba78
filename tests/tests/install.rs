//! Installing packages: what is asked of a feed, and what is not.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use avocado_serve::ServeOptions;
use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::TestProject;
use common::{Sandbox, cannot_build, feed};

/// A project with one package for an extension, and a feed of its own that it is installed from.
fn with_own_feed(sandbox: &Sandbox) -> (TestProject, SampleFeed) {
    let feed = SampleFeed::serve(ServeOptions::new(feed().directory())).unwrap();
    let project = sandbox
        .project
        .clone()
        .with_env("AVOCADO_REPO_URL", feed.url());
    let yaml = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
rootfs: {packages: {libgreeting: '*'}}
initramfs: {packages: {libgreeting: '*'}}
extensions:
  app: {version: 1.0.0, packages: {hello: '*'}}
runtimes:
  dev: {extensions: [app]}
";
    project.write("avocado.yaml", yaml).unwrap();
    fs::remove_file(project.directory().join("avocado.lock")).unwrap();
    (project, feed)
}

/// Removes what was installed, and that it was; not what was fetched for that.
fn forget_installs(project: &TestProject) {
    for entry in fs::read_dir(project.state()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with(".work") {
            fs::remove_dir_all(&path).unwrap();
        }
    }
}

/// The files of dnf's cache whose names have this in them.
fn cached(project: &TestProject, what: &str) -> Vec<PathBuf> {
    let cache = project.state().join(".work/dnf-cache");
    let files = walkdir::WalkDir::new(cache).into_iter();
    let files = files.map(|entry| entry.unwrap().into_path());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    files.filter(|path| name(path).contains(what)).collect()
}

#[test]
fn a_frozen_install_asks_nobody() {
    if cannot_build("a_frozen_install_asks_nobody") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let (project, feed) = with_own_feed(&sandbox);
    let refused = |arguments: &[&str], words: &[&str]| {
        let output = project.avocado(arguments).run().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output}");
        for words in words {
            assert!(output.stderr.contains(words), "{words}: {output}");
        }
    };
    // Nothing was fetched yet. A lock that would have to change is not what it fails of.
    let hint = "hint: --frozen makes no request: run the same once without it";
    let index = "not in the cache of earlier runs: the index of repository avocado-sdk";
    refused(&["install", "--frozen"], &[index, hint]);
    assert_eq!(feed.server().requests().len(), 0);

    project.avocado(&["install"]).ok().unwrap();
    let lock = project.read("avocado.lock").unwrap();
    forget_installs(&project);
    let before = feed.server().requests().len();
    let again = project.events(&["install", "--frozen"]).unwrap();
    assert!(again.complete()["ran"].as_u64().unwrap() >= 3);
    assert_eq!(feed.server().requests().len(), before);

    // And now there is nobody to ask.
    drop(feed);
    forget_installs(&project);
    project.avocado(&["install", "--frozen"]).ok().unwrap();
    assert_eq!(project.read("avocado.lock").unwrap(), lock);
    let hello = walkdir::WalkDir::new(project.state()).into_iter();
    let mut hello = hello.filter_map(|entry| Some(entry.ok()?.into_path()));
    assert!(hello.any(|path| path.ends_with("usr/bin/hello-server")));

    // A package that was never fetched, and one that was.
    let yaml = project.read("avocado.yaml").unwrap();
    let more = yaml.replace("hello: '*'", "hello: '*', hello-tools: '*'");
    project.write("avocado.yaml", &more).unwrap();
    let package = "not in the cache of earlier runs: package hello-tools-1.1.0";
    refused(&["install", "--frozen"], &[package, hint]);
    project.write("avocado.yaml", &yaml).unwrap();
    let packages = cached(&project, "libgreeting-1.1.0");
    assert_eq!(packages.len(), 1, "{packages:?}");
    fs::remove_file(&packages[0]).unwrap();
    forget_installs(&project);
    let package = "not in the cache of earlier runs: package libgreeting-1.1.0";
    refused(&["install", "--frozen"], &[package, hint]);
    assert_eq!(project.read("avocado.lock").unwrap(), lock);
}

#[test]
fn packages_are_added_to_avocado_yaml_and_removed_from_it() {
    if cannot_build("packages_are_added_to_avocado_yaml_and_removed_from_it") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let (project, _feed) = with_own_feed(&sandbox);
    let before = project.read("avocado.yaml").unwrap();
    project.avocado(&["install"]).ok().unwrap();
    let lock = project.read("avocado.lock").unwrap();
    let installed = |file: &str| {
        let tree = project.state().join(".work/extensions/app");
        tree.join(file).exists()
    };
    assert!(installed("usr/bin/hello-server") && !installed("usr/bin/hello"));

    // This once: what is kept in version control says nothing of it.
    let once = ["install", "hello-tools", "-e", "app", "--no-save"];
    project.avocado(&once).ok().unwrap();
    assert!(installed("usr/bin/hello"));
    assert_eq!(project.read("avocado.yaml").unwrap(), before);
    assert_eq!(project.read("avocado.lock").unwrap(), lock);
    project.avocado(&["install"]).ok().unwrap();
    assert!(!installed("usr/bin/hello"));

    // What the feed does not have changes nothing.
    let missing = ["install", "no-such-package", "-e", "app"];
    let output = project.avocado(&missing).run().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(output.stderr.contains("no-such-package"), "{output}");
    assert_eq!(project.read("avocado.yaml").unwrap(), before);
    assert_eq!(project.read("avocado.lock").unwrap(), lock);

    let output = project.avocado(&["install", "hello-tools", "-e", "app"]);
    let output = output.ok().unwrap();
    let said = "hello-tools added to the list of extension app";
    assert!(output.stderr.contains(said), "{output}");
    let after = before.replace("{hello: '*'}", "{hello: '*', hello-tools: '*'}");
    assert_eq!(project.read("avocado.yaml").unwrap(), after);
    assert!(installed("usr/bin/hello"));
    assert!(
        project
            .read("avocado.lock")
            .unwrap()
            .contains("hello-tools")
    );
    // All that it needs is in the list and in the lock now.
    let events = project.events(&["install", "--locked"]).unwrap();
    assert_eq!(events.complete()["ran"], 0);

    let removed = project.events(&["uninstall", "hello-tools", "-e", "app"]);
    let removed = removed.unwrap();
    assert_eq!(removed.steps("success"), ["ext install app"]);
    assert_eq!(project.read("avocado.yaml").unwrap(), before);
    assert_eq!(project.read("avocado.lock").unwrap(), lock);
    assert!(!installed("usr/bin/hello"));

    // One part alone forgets what it has locked, and gets the same from the same snapshot.
    project.avocado(&["unlock", "-e", "app"]).ok().unwrap();
    let unlocked = project.read("avocado.lock").unwrap();
    assert!(unlocked.contains("libgreeting") && !unlocked.contains("\"hello\""));
    let events = project.events(&["ext", "install", "app"]).unwrap();
    assert_eq!(events.steps("success"), ["ext install app"]);
    assert_eq!(project.read("avocado.lock").unwrap(), lock);

    // With the last package goes all that there is of them.
    let last = ["uninstall", "hello", "-e", "app"];
    project.avocado(&last).ok().unwrap();
    assert_eq!(project.read("avocado.lock").unwrap(), unlocked);
    assert!(!project.state().join(".work/extensions/app").exists());
    let listed = project.avocado(&["ext", "deps", "app"]).ok().unwrap();
    assert!(!listed.stdout.contains("hello"), "{listed}");
    let events = project.events(&["install", "--locked"]).unwrap();
    assert_eq!(events.complete()["ran"], 0);
}
