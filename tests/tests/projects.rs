//! Projects as people make them: several runtimes, awkward names, hooks that leave things behind,
//! and hands that edit while a build runs.

mod common;

use std::fs;
use std::time::Duration;

use avocado_testbed::project::TestProject;
use avocado_testbed::tools::{ToolCall, ToolOutput, static_binary};
use common::{Sandbox, cannot_build, feed};

/// A project without any packages of its own, so that builds are quick.
fn small(sandbox: &Sandbox, rest: &str) -> TestProject {
    let project = &sandbox.project;
    let yaml =
        format!("default_target: qemux86-64\ndistro: {{release: '2024', channel: edge}}\n{rest}");
    project.write("avocado.yaml", &yaml).unwrap();
    project.clone()
}

fn content(image: &std::path::Path, path: &str) -> String {
    let output = ToolCall::new("unsquashfs")
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

/// The time of a file of an image, as it says it.
fn time(image: &std::path::Path, path: &str) -> String {
    let list = ToolCall::new("unsquashfs")
        .args(["-lln", "-UTC"])
        .arg(image);
    let list = list.arg(path).ok().unwrap().stdout;
    let end = format!(" squashfs-root/{path}");
    let line = list.lines().find(|line| line.ends_with(&end));
    let fields: Vec<_> = line.expect(&list).split_whitespace().collect();
    fields[3..5].join(" ")
}

#[test]
fn files_of_packages_keep_their_times_in_an_image() {
    if cannot_build("files_of_packages_keep_their_times_in_an_image") {
        return;
    }
    let sandbox = Sandbox::fresh();
    // The feed's packages are of 2026, and whatever the clock says is earlier than this.
    let build = |epoch: &str| {
        let project = small(
            &sandbox,
            &format!(
                "source_date_epoch: {epoch}\nextensions:\n  app: {{version: 1.0.0, types: [sysext], \
                 packages: {{hello-tools: '*'}}, overlay: files, post_build: hook}}\n"
            ),
        );
        project.write("files/usr/share/app/own", "").unwrap();
        let hook = "cp -p files/usr/share/app/own $AVOCADO_BUILD_EXT_SYSROOT/usr/share/app/hook\n";
        project.write("hook", hook).unwrap();
        project.avocado(&["ext", "image", "app"]).ok().unwrap();
        let image = project.state().join("output/extensions/app-1.0.0.raw");
        let files = ["bin/hello", "share/app/own", "share/app/hook", "share"];
        files.map(|file| time(&image, &format!("usr/{file}")))
    };
    let (packaged, ahead) = ("2026-01-01 00:00", "2100-01-01 00:00");
    assert_eq!(build("4102444800"), [packaged, ahead, ahead, ahead]);
    assert_eq!(build("1000000000"), ["2001-09-09 01:46"; 4]);
}

#[test]
fn references_in_files_of_an_overlay_are_filled_in() {
    if cannot_build("references_in_files_of_an_overlay_are_filled_in") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let overlay = "overlay: {dir: files, preprocess: [\"*.conf\"]}";
    let project = small(
        &sandbox,
        &format!("extensions:\n  app: {{version: 1.0.0, types: [sysext], {overlay}}}\n"),
    );
    let written = "{{ env.SITE }} {{ avocado.target }} {{ config.distro.channel }} {{ x }}";
    for name in ["a.conf", "a.txt"] {
        let path = format!("files/usr/share/app/{name}");
        project.write(&path, written).unwrap();
    }
    let image = project.state().join("output/extensions/app-1.0.0.raw");
    let filled = |project: &TestProject| {
        project.avocado(&["ext", "image", "app"]).ok().unwrap();
        let again = project.events(&["ext", "image", "app"]).unwrap();
        assert_eq!(again.complete()["ran"], 0);
        assert_eq!(content(&image, "usr/share/app/a.txt"), written);
        content(&image, "usr/share/app/a.conf")
    };
    let here = project.clone().with_env("SITE", "here");
    assert_eq!(filled(&here), "here qemux86-64 edge {{ x }}");
    let there = project.clone().with_env("SITE", "there");
    assert_eq!(filled(&there), "there qemux86-64 edge {{ x }}");
    // What it is filled with is written down nowhere but in what is made of it.
    for entry in walkdir::WalkDir::new(project.state().join(".stamps")) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let stamp = fs::read_to_string(entry.path()).unwrap();
            assert!(!stamp.contains("there qemux86-64"), "{stamp}");
        }
    }

    // A variable that is not set is told, and a reference to nothing is an error with its place.
    let said = project.avocado(&["ext", "image", "app"]).ok().unwrap();
    assert!(said.stderr.contains("`SITE` is not set"), "{said}");
    let path = "files/usr/share/app/a.conf";
    project
        .write(path, "one\nkey = {{ config.nothing }}\n")
        .unwrap();
    let said = project.avocado(&["ext", "image", "app"]).run().unwrap();
    assert_eq!(said.status.code(), Some(1), "{said}");
    assert!(said.stderr.contains("a.conf:2:7"), "{said}");
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
        let left = ToolCall::new("pgrep")
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
    let output: ToolOutput = project.avocado(&["build"]).run().unwrap();
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

#[test]
fn what_needs_no_package_needs_no_feed() {
    if cannot_build("what_needs_no_package_needs_no_feed") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = small(
        &sandbox,
        "extensions:\n  app: {version: 1.0.0, types: [sysext], overlay: files}\n  \
         hooked: {version: 1.0.0, types: [sysext], overlay: files, post_build: hook}\n",
    );
    project.write("files/usr/share/app/text", "text").unwrap();
    project
        .write("hook", "test -d \"$AVOCADO_SDK_PREFIX\"\n")
        .unwrap();
    let _ = fs::remove_file(project.directory().join("avocado.lock"));
    let away = project
        .clone()
        .with_env("AVOCADO_REPO_URL", "http://127.0.0.1:9");
    let events = away.events(&["ext", "image", "app"]).unwrap();
    assert_eq!(
        events.steps("success"),
        ["ext build app", "ext image app"],
        "the SDK is not needed"
    );
    assert!(!project.directory().join("avocado.lock").exists());

    // A script of the project may use the tools of the SDK: they are there before it runs.
    let said = away.avocado(&["ext", "build", "hooked"]).run().unwrap();
    assert!(said.stderr.contains("sdk install: failed"), "{said}");
    // And the other extension is not made again for it.
    let events = project.events(&["ext", "image"]).unwrap();
    assert_eq!(
        events.steps("success"),
        ["ext build hooked", "ext image hooked", "sdk install"]
    );

    // Another SDK has other tools, and only the hook may notice.
    let yaml = project.read("avocado.yaml").unwrap();
    let sdk = "sdk: {packages: {avocado-sdk-toolchain: '*'}}\n";
    project
        .write("avocado.yaml", &format!("{yaml}{sdk}"))
        .unwrap();
    let events = project.events(&["ext", "image"]).unwrap();
    assert_eq!(
        events.steps("success"),
        ["ext build hooked", "sdk install"],
        "what the hook made is the same"
    );
}

/// An ordinary user has one number for all files. What is made is the same all the same.
#[test]
fn who_is_not_root_makes_the_same_images() {
    if cannot_build("who_is_not_root_makes_the_same_images") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = small(
        &sandbox,
        "sdk: {packages: {avocado-sdk-toolchain: '*'}}\nextensions:\n  app: {version: 1.0.0, types: \
         [sysext], packages: {hello: '*'}, overlay: files, post_build: hook}\nruntimes: {dev: {extensions: [app]}}\n",
    );
    project.write("files/usr/share/app/text", "text").unwrap();
    let hook = "chown 7:8 \"$AVOCADO_BUILD_EXT_SYSROOT/usr/share/app/text\"\n";
    project.write("hook", hook).unwrap();
    // The work tree may be where no other user can look.
    let program = sandbox.directory.path().join("avocado");
    fs::copy(static_binary("avocado").unwrap(), &program).unwrap();
    let nobody = |arguments: &[&str]| {
        let call = ToolCall::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(arguments)
            .clear_env()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", project.directory())
            .env("AVOCADO_REPO_URL", feed().url())
            .directory(project.directory())
            .limit(Duration::from_secs(300));
        call.ok().unwrap()
    };
    let belongs_to = |owner: &str| {
        let call = ToolCall::new("chown").args(["-R", owner]);
        call.arg(sandbox.directory.path()).ok().unwrap();
    };
    belongs_to("65534:65534");
    let made = |name: &str| {
        let path = project.state().join(name);
        fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    let images = [
        "output/extensions/app-1.0.0.raw",
        "runtimes/dev/avocado-image-rootfs-qemux86-64.erofs-lz4",
        "runtimes/dev/avocado-image-initramfs-qemux86-64.cpio.zst",
    ];
    nobody(&["install"]);
    nobody(&["ext", "image"]);
    nobody(&["rootfs", "image"]);
    nobody(&["initramfs", "image"]);
    // Not everyone can make the image of the var partition, and no device is deployed to with it.
    nobody(&["build", "--no-var"]);
    for published in ["manifest.json", "repository/metadata/timestamp.json"] {
        made(&format!("output/runtimes/dev/{published}"));
    }
    let first = images.map(made);
    nobody(&["clean"]);
    belongs_to("0:0");
    for goal in ["ext", "rootfs", "initramfs"] {
        project.avocado(&[goal, "image"]).ok().unwrap();
    }
    for ((name, one), two) in images.iter().zip(&first).zip(images.map(made)) {
        assert!(*one == two, "{name} differs");
    }
}
