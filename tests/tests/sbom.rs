//! What is in the images of the sample runtime, read from them with the real tools.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use common::{Sandbox, cannot_build};
use serde_json::Value;

/// Every component of a bill, and how deep it is.
fn components<'a>(list: &'a Value, all: &mut Vec<&'a Value>) {
    for component in list.as_array().into_iter().flatten() {
        all.push(component);
        components(&component["components"], all);
    }
}

fn property<'a>(component: &'a Value, name: &str) -> Option<&'a str> {
    let mut properties = component["properties"].as_array().into_iter().flatten();
    let found = properties.find(|property| property["name"] == name);
    found.and_then(|property| property["value"].as_str())
}

/// Each file, and what says whether it was written again: a new one takes its place then.
fn files_below(place: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(place).unwrap() {
        let path = entry.unwrap().path();
        let is = path.symlink_metadata().unwrap();
        if is.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.insert(path, (is.ino(), is.mtime(), is.mtime_nsec()));
        }
    }
    found
}

#[test]
fn every_file_of_the_images_has_an_origin() {
    if cannot_build("every_file_of_the_images_has_an_origin") {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let text = project.avocado(&["sbom"]).ok().unwrap().stdout;
    let bill: Value = serde_json::from_str(&text).unwrap();
    let mut all = Vec::new();
    components(&bill["components"], &mut all);
    let files: Vec<&Value> = all
        .iter()
        .copied()
        .filter(|c| c["type"] == "file")
        .collect();
    assert!(files.len() > 1000, "{}", files.len());
    let mut origins: BTreeMap<&str, usize> = BTreeMap::new();
    for file in &files {
        let origin = property(file, "avocado:origin").unwrap();
        *origins.entry(origin).or_default() += 1;
        assert_eq!(file["hashes"][0]["alg"], "SHA-512", "{file}");
    }
    let unknown = origins.get("unknown").copied().unwrap_or_default();
    assert!(unknown * 100 <= files.len(), "{origins:?}");
    let named = |name: &str| all.iter().find(|c| c["name"] == name).unwrap();
    let origin = |name: &str| property(named(name), "avocado:origin");
    assert_eq!(origin("/etc/hello/greeting"), Some("overlay"));
    assert_eq!(origin("/etc/ld.so.cache"), Some("build"));
    assert_eq!(origin("/usr/bin/hello"), Some("package"));
    // The packages of the rootfs are not those of an extension that is installed over it.
    let hello = named("hello");
    let of_hello = hello["components"].as_array().unwrap().iter();
    let packages: Vec<&str> = of_hello
        .filter(|c| c["type"] == "library")
        .filter_map(|c| c["name"].as_str())
        .collect();
    assert_eq!(packages, ["hello", "hello-tools", "libgreeting"]);

    // What is known of an image is not read again, and says the same.
    let inventories = project.state().join(".work/inventories");
    let before = files_below(&inventories);
    // Rootfs, initramfs and two extensions.
    assert_eq!(before.len(), 4, "{before:?}");
    assert_eq!(project.avocado(&["sbom"]).ok().unwrap().stdout, text);
    assert_eq!(files_below(&inventories), before);
    // Both formats list the same.
    for (format, file) in [("cyclonedx", "a.json"), ("spdx", "b.json")] {
        project
            .avocado(&["sbom", "--format", format, "--out", file])
            .ok()
            .unwrap();
    }
    let same = project.avocado(&["diff", "a.json", "b.json"]).ok().unwrap();
    assert!(same.stderr.contains("The same"), "{}", same.stderr);
    let same = project.avocado(&["diff", "a.json", "dev"]).ok().unwrap();
    assert!(same.stderr.contains("The same"), "{}", same.stderr);
}

#[test]
fn what_changed_between_two_builds_is_told() {
    if cannot_build("what_changed_between_two_builds_is_told") {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let repository = project.state().join("output/runtimes/dev/repository");
    let before = sandbox.directory.path().join("before");
    common::cp(&repository, &before);
    project.avocado(&["sbom", "-o", "old.json"]).ok().unwrap();
    project
        .write("overlay/hello-config/etc/hello/greeting", "Good morning\n")
        .unwrap();
    // The image is another one, and the manifest is still the old one.
    project
        .avocado(&["ext", "image", "hello-config"])
        .ok()
        .unwrap();
    let refused = project.avocado(&["sbom"]).run().unwrap();
    assert!(
        refused.stderr.contains("run `avocado build`"),
        "{}",
        refused.stderr
    );
    project.avocado(&["build", "--no-var"]).ok().unwrap();
    let difference = project.events(&["diff", "old.json", "dev"]).unwrap();
    let complete = difference.complete();
    assert_eq!(complete["packages"].as_array().unwrap().len(), 0);
    let files = complete["files"].as_array().unwrap().iter();
    let files: Vec<&str> = files.filter_map(|file| file["path"].as_str()).collect();
    assert_eq!(files, ["", "etc/hello/greeting"]);
    let image = project
        .state()
        .join("output/extensions/hello-config-1.0.0.raw");
    let size = fs::metadata(image).unwrap().len();
    assert_eq!(complete["fetch_bytes"], size);
    // The repositories tell the same of the images.
    let before = before.to_str().unwrap();
    let repositories = project.events(&["diff", before, repository.to_str().unwrap()]);
    assert_eq!(repositories.unwrap().complete()["fetch_bytes"], size);
}
