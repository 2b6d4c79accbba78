//! What goes with a part that is cleaned, and what stays.

use std::collections::BTreeSet;
use std::fs;

use avocado_events::{Cancel, Silent};
use avocado_project::PackageScope;

use super::fake_backend::FakeBackend;
use super::test_project::TestProject;
use crate::clean_part::{CleanedPart, work};
use crate::error::BuildError;
use crate::run::in_context;

const PROJECT: &str = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
sdk: {compile: {tool: {compile: hook.sh, clean: hook.sh}, more: {compile: hook.sh}}}
rootfs: {packages: {avocado-pkg-rootfs: '*'}}
extensions:
  app: {version: 1.0.0, packages: {hello: '*'}}
  app-x: {version: 1.0.0, packages: {hello: '*', tool: {compile: tool, install: hook.sh}}}
runtimes:
  dev: {extensions: [app, app-x], packages: {deploy: '*', more: {compile: more, install: hook.sh}}}
";

fn clean(project: &TestProject, part: &CleanedPart) -> Result<usize, BuildError> {
    let backend = Box::new(FakeBackend::new(&project.options.project));
    let removed = in_context(
        &project.options,
        || Ok(backend),
        &Cancel::new(),
        &Silent,
        |context| work(context, part, &Silent),
    );
    removed.map(|removed| removed.len())
}

fn name(name: &str) -> avocado_manifest::Name {
    name.parse().unwrap()
}

/// The steps of these that a build runs again.
fn again(project: &TestProject, steps: &[&str]) -> BTreeSet<String> {
    let ran = project.build();
    let asked = |step: &String| steps.contains(&step.as_str());
    ran.into_iter().filter(asked).collect()
}

#[test]
fn a_part_is_made_again_and_the_others_stay() {
    let project = TestProject::new(PROJECT);
    project.build();
    let all = [
        "sdk install",
        "sdk compile tool",
        "sdk compile more",
        "rootfs install",
        "rootfs image dev",
        "initramfs install",
        "initramfs image dev",
        "ext install app",
        "ext build app",
        "ext image app",
        "ext install app-x",
        "ext build app-x",
        "ext image app-x",
        "runtime install dev",
        "runtime compile dev",
    ];
    for (part, expected) in [
        (
            CleanedPart::Whole(PackageScope::Extension(name("app"))),
            &["ext install app", "ext build app", "ext image app"][..],
        ),
        (
            CleanedPart::Whole(PackageScope::Rootfs),
            &["rootfs install", "rootfs image dev"],
        ),
        (
            CleanedPart::Whole(PackageScope::Initramfs),
            &["initramfs install", "initramfs image dev"],
        ),
        (
            CleanedPart::Sections(vec!["tool".to_owned()]),
            &["sdk compile tool"],
        ),
        (
            CleanedPart::Whole(PackageScope::Sdk),
            &["sdk install", "sdk compile tool", "sdk compile more"],
        ),
        (
            CleanedPart::Whole(PackageScope::Runtime(name("dev"))),
            &[
                "rootfs image dev",
                "initramfs image dev",
                "runtime install dev",
                "runtime compile dev",
            ],
        ),
    ] {
        assert!(clean(&project, &part).unwrap() > 0, "{part:?}");
        let expected = expected.iter().map(|step| (*step).to_owned());
        assert_eq!(again(&project, &all), expected.collect(), "{part:?}");
        assert_eq!(project.build(), [""; 0], "{part:?}");
    }
    assert!(clean(&project, &CleanedPart::Sections(vec!["none".to_owned()])).is_err());
}

#[test]
fn what_is_known_of_an_image_goes_with_it() {
    let formats = "initramfs: {filesystem: cpio}\nrootfs: {filesystem: erofs, ";
    let project = TestProject::new(&PROJECT.replace("rootfs: {", formats));
    project.build();
    let state = project.path(".avocado/state/qemux86-64");
    let known = state.join(".work/inventories");
    let images = [
        "output/extensions/app-1.0.0.raw",
        "output/extensions/app-x-1.0.0.raw",
        "runtimes/dev/avocado-image-rootfs-qemux86-64.erofs",
        "runtimes/dev/avocado-image-initramfs-qemux86-64.cpio",
    ];
    for image in images {
        assert!(state.join(image).exists(), "{image}");
    }
    for (part, expected) in [
        (PackageScope::Extension(name("app")), &images[..1]),
        (PackageScope::Rootfs, &images[2..3]),
        (PackageScope::Initramfs, &images[3..]),
        (PackageScope::Runtime(name("dev")), &images[2..]),
    ] {
        let place = |image: &&str| known.join(format!("{image}.json"));
        for place in images.iter().map(place) {
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, "").unwrap();
        }
        clean(&project, &CleanedPart::Whole(part.clone())).unwrap();
        let gone = images.iter().filter(|image| !place(image).exists());
        let gone: Vec<_> = gone.copied().collect();
        assert_eq!(gone, expected, "{part:?}");
        project.build();
    }
}

/// Of which one it is cannot be told while the variable is not set.
#[test]
fn an_extension_whose_version_is_not_known_is_cleaned_too() {
    let unknown = PROJECT.replace("app: {version: 1.0.0", "app: {version: '{{ env.NOPE }}'");
    let project = TestProject::new(&unknown);
    let images = project.path(".avocado/state/qemux86-64/output/extensions");
    fs::create_dir_all(&images).unwrap();
    for image in [
        "app-1.0.0.raw",
        "app-0.9.0.raw",
        "app-x-1.0.0.raw",
        "other-1.raw",
    ] {
        fs::write(images.join(image), "").unwrap();
    }
    let part = CleanedPart::Whole(PackageScope::Extension(name("app")));
    assert_eq!(clean(&project, &part).unwrap(), 2);
    let left = fs::read_dir(&images).unwrap();
    let left: BTreeSet<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(
        left,
        ["app-x-1.0.0.raw", "other-1.raw"].map(Into::into).into()
    );
}

#[test]
fn a_section_is_cleaned_by_its_script_where_it_compiled_something() {
    let project = TestProject::new(PROJECT);
    let cleaned = project.path(".avocado/state/qemux86-64/.work/cleaned");
    let sections = |names: &[&str]| {
        CleanedPart::Sections(names.iter().map(|name| (*name).to_owned()).collect())
    };
    assert_eq!(clean(&project, &sections(&["tool"])).unwrap(), 0);
    assert!(!cleaned.exists());
    project.build();
    clean(&project, &sections(&["more", "tool"])).unwrap();
    assert_eq!(fs::read_to_string(&cleaned).unwrap(), "tool");
    let build = project.path(".avocado/state/qemux86-64/sdk");
    let left = walkdir::WalkDir::new(build).into_iter().flatten();
    let mut left = left.filter(|entry| entry.path().ends_with("build/tool"));
    assert!(left.next().is_none());
}

/// A hook of an earlier build may have put it there.
#[test]
fn a_link_in_the_state_leads_nowhere_else() {
    let project = TestProject::new(PROJECT);
    project.build();
    let outside = project.path("outside");
    fs::create_dir_all(outside.join("dev")).unwrap();
    fs::write(outside.join("avocado-image-rootfs-qemux86-64.erofs"), "own").unwrap();
    let runtime = project.path(".avocado/state/qemux86-64/runtimes/dev");
    fs::remove_dir_all(&runtime).unwrap();
    std::os::unix::fs::symlink(&outside, &runtime).unwrap();
    for part in [
        CleanedPart::Whole(PackageScope::Rootfs),
        CleanedPart::Whole(PackageScope::Runtime(name("dev"))),
    ] {
        let _ = clean(&project, &part);
        let kept = outside.join("avocado-image-rootfs-qemux86-64.erofs");
        assert_eq!(fs::read_to_string(kept).unwrap(), "own");
    }
    assert!(!runtime.is_symlink());
}
