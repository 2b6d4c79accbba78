//! Projects as people make them: several runtimes, awkward names, hooks that leave things behind,
//! and hands that edit while a build runs.

mod common;

use std::fs;
use std::time::Duration;

use avocado_testbed::project::Project;
use avocado_testbed::tools::{Call, Output};
use common::{Sandbox, cannot_build};

/// A project without any packages of its own, so that builds are quick.
fn small(sandbox: &Sandbox, rest: &str) -> Project {
    let project = &sandbox.project;
    let yaml =
        format!("default_target: qemux86-64\ndistro: {{release: '2024', channel: edge}}\n{rest}");
    project.write("avocado.yaml", &yaml).unwrap();
    project.clone()
}

fn content(image: &std::path::Path, path: &str) -> String {
    let output = Call::new("unsquashfs")
        .arg("-cat")
        .arg(image)
        .arg(path)
        .ok();
    output.unwrap().stdout
}

#[test]
fn an_edit_during_a_build_is_not_lost() {
    const NAME: &str = "an_edit_during_a_build_is_not_lost";
    if cannot_build(NAME) {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = small(
        &sandbox,
        "extensions:\n  app: {version: 1.0.0, types: [sysext], overlay: files, post_build: hook}\n",
    );
    project.write("files/usr/share/app/text", "old").unwrap();
    // The hook runs after the overlay was copied: what changes now is for the next build.
    project
        .write(
            "hook",
            "cp /opt/src/new-text /opt/src/files/usr/share/app/text\n",
        )
        .unwrap();
    project.write("new-text", "new").unwrap();
    let image = project.state().join("output/extensions/app-1.0.0.raw");
    project.avocado(&["ext", "image", "app"]).ok().unwrap();
    assert_eq!(content(&image, "usr/share/app/text"), "old");
    project.avocado(&["ext", "image", "app"]).ok().unwrap();
    assert_eq!(content(&image, "usr/share/app/text"), "new");
    let events = project.events(&["ext", "image", "app"]).unwrap();
    assert_eq!(events.complete()["ran"], 0);
}

#[test]
fn what_a_hook_leaves_running_ends_with_its_step() {
    if cannot_build("what_a_hook_leaves_running_ends_with_its_step") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = small(
        &sandbox,
        "extensions:\n  app: {version: 1.0.0, types: [sysext], post_build: hook}\n",
    );
    // A daemon that holds the output open, and one that hides from its parent.
    let hook = "sleep 86399 &\nsetsid sleep 86398 >/dev/null 2>&1 </dev/null &\necho started\n";
    project.write("hook", hook).unwrap();
    let call = project.avocado(&["ext", "build", "app"]);
    call.limit(Duration::from_secs(60)).ok().unwrap();
    for seconds in ["86399", "86398"] {
        let left = Call::new("pgrep")
            .args(["-f", &format!("^sleep {seconds}$")])
            .run();
        assert_eq!(left.unwrap().stdout, "", "sleep {seconds}");
    }
}

#[test]
fn names_with_dots_and_many_runtimes_do_not_meet() {
    if cannot_build("names_with_dots_and_many_runtimes_do_not_meet") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let mut yaml = String::from("extensions:\n");
    for name in ["app", "app.new", "app.old", "app.dnf", "app.raw"] {
        yaml += &format!("  {name}: {{version: 1.0.0, types: [sysext], overlay: files}}\n");
    }
    yaml += "rootfs:\n  one: {packages: {avocado-pkg-rootfs: '*'}}\n";
    yaml += "  two: {packages: {avocado-pkg-rootfs: '*'}, filesystem: erofs}\n";
    yaml += "runtimes:\n";
    for (name, rootfs) in [("a", "one"), ("b", "two"), ("c", "one")] {
        yaml += &format!(
            "  {name}: {{rootfs: {rootfs}, extensions: [app, app.new, app.old, app.dnf, app.raw], var_files: [{{source: files, dest: lib/files/}}]}}\n"
        );
    }
    let project = small(&sandbox, &yaml);
    project.write("files/usr/share/app/text", "text").unwrap();
    let events = project.events(&["build"]).unwrap();
    let kinds = |kind: &str| events.artifacts().iter().filter(|a| a.kind == kind).count();
    assert_eq!(kinds("extension"), 5);
    assert_eq!(kinds("repository"), 3);
    let again = project.events(&["build"]).unwrap();
    assert_eq!(again.steps("success"), Vec::<String>::new());
    let seeded = project
        .state()
        .join("runtimes/b/var-staging/lib/files/usr/share/app/text");
    assert_eq!(fs::read_to_string(seeded).unwrap(), "text");
}

#[test]
fn a_damaged_result_is_not_published() {
    if cannot_build("a_damaged_result_is_not_published") {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let image = project.state().join("output/extensions/hello-1.0.0.raw");
    let mut bytes = fs::read(&image).unwrap();
    bytes[2000] ^= 1;
    let times = fs::metadata(&image).unwrap().modified().unwrap();
    fs::remove_file(&image).unwrap();
    fs::write(&image, bytes).unwrap();
    // As a bad disk would do it: the file looks as it did.
    fs::File::open(&image).unwrap().set_modified(times).unwrap();
    fs::remove_dir_all(project.state().join("output/runtimes")).unwrap();
    let output: Output = project.avocado(&["build"]).run().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(
        output.stderr.contains("hello-1.0.0.raw") && output.stderr.contains("hint:"),
        "{output}"
    );
    fs::remove_file(&image).unwrap();
    project.avocado(&["build"]).ok().unwrap();
}

#[test]
fn a_new_version_takes_the_place_of_the_old_one() {
    if cannot_build("a_new_version_takes_the_place_of_the_old_one") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let yaml = |version: &str| {
        format!("extensions:\n  app: {{version: {version}, types: [sysext], overlay: files}}\n")
    };
    let project = small(&sandbox, &yaml("1.0.0"));
    project.write("files/usr/share/app/text", "text").unwrap();
    project.avocado(&["ext", "image"]).ok().unwrap();
    small(&sandbox, &yaml("1.1.0"));
    project.avocado(&["ext", "image"]).ok().unwrap();
    let images = fs::read_dir(project.state().join("output/extensions")).unwrap();
    let images: Vec<_> = images.flatten().map(|e| e.file_name()).collect();
    assert_eq!(images, ["app-1.1.0.raw"]);
}
