//! Container images that a device has from the start: fetched, pinned, and in a store that docker runs
//! them from.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use avocado_testbed::docker::DockerService;
use avocado_testbed::project::TestProject;
use avocado_testbed::registry::TestRegistry;
use avocado_testbed::tools::{TestNeed, ToolCall, programs_without, skip_without};
use common::{Sandbox, cannot_build, whole_lock};

fn cannot_prime(name: &str) -> bool {
    let tools = ["dockerd", "docker", "skopeo", "busybox"].map(TestNeed::Tool);
    cannot_build(name) || skip_without(name, &tools)
}

/// The layers of an image whose programs are busybox and whose files are of several owners; `text` is in
/// one of them.
fn layers(place: &Path, text: &str) -> [PathBuf; 2] {
    let [below, above] = ["below", "above"].map(|name| place.join(name));
    let put = |path: PathBuf, text: &str| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    fs::create_dir_all(below.join("bin")).unwrap();
    fs::copy("/bin/busybox", below.join("bin/busybox")).unwrap();
    for name in ["sh", "cat", "stat", "ls"] {
        fs::hard_link(below.join("bin/busybox"), below.join("bin").join(name)).unwrap();
    }
    put(below.join("etc/text"), text);
    put(below.join("etc/gone"), "");
    put(below.join("data/old"), "");
    put(above.join("etc/.wh.gone"), "");
    put(above.join("data/.wh..wh..opq"), "");
    put(above.join("data/new"), "");
    std::os::unix::fs::chown(above.join("data/new"), Some(1234), Some(4321)).unwrap();
    [below, above]
}

/// Puts the image `app:1` there, and one of the same name for another processor.
fn put(registry: &TestRegistry, text: &str) -> String {
    let place = tempfile::tempdir().unwrap();
    let [below, above] = layers(place.path(), text);
    let other = place.path().join("other");
    fs::create_dir_all(&other).unwrap();
    fs::write(other.join("other"), "").unwrap();
    let images: [(&str, &[&Path]); 2] = [("arm64", &[&other]), ("amd64", &[&below, &above])];
    registry.put("someone/app", "1", &images).unwrap()
}

fn state(project: &TestProject, entry: &str) {
    let yaml = project.read("avocado.yaml").unwrap();
    let kept: Vec<&str> = yaml
        .lines()
        .filter(|line| !line.contains("docker_images:"))
        .collect();
    let yaml = kept.join("\n").replacen(
        "    types: [sysext]\n",
        &format!("    types: [sysext]\n    docker_images: [{entry}]\n"),
        1,
    );
    project.write("avocado.yaml", &(yaml + "\n")).unwrap();
}

fn store(project: &TestProject) -> Vec<u8> {
    fs::read(project.state().join(".work/container-stores/dev.tar")).unwrap()
}

#[test]
fn docker_runs_the_images_of_a_device_at_its_first_start() {
    if cannot_prime("docker_runs_the_images_of_a_device_at_its_first_start") {
        return;
    }
    let registry = TestRegistry::start().unwrap();
    let digest = put(&registry, "first");
    let name = format!("{}/someone/app", registry.name());
    let entry = format!("{{image: '{name}', tag: '1'}}");
    let build = |lock: &Path| {
        let sandbox = Sandbox::fresh();
        fs::copy(lock, sandbox.project.directory().join("avocado.lock")).unwrap();
        state(&sandbox.project, &entry);
        sandbox.project.avocado(&["build"]).ok().unwrap();
        sandbox
    };
    let sandbox = build(&whole_lock());
    let project = &sandbox.project;
    let lock = project.read("avocado.lock").unwrap();
    assert!(lock.contains(&digest), "{lock}");
    assert_eq!(project.events(&["build"]).unwrap().complete()["ran"], 0);

    // The tag is another image by now, and a build with the same lock makes the same.
    let moved = put(&registry, "second");
    assert_ne!(moved, digest);
    let other = build(&project.directory().join("avocado.lock"));
    assert!(store(&other.project) == store(project));
    let locked = other.project.avocado(&["build", "--locked"]).ok();
    locked.unwrap();
    state(
        &other.project,
        &format!("{{image: '{name}', tag: '1', digest: '{moved}'}}"),
    );
    let refused = other.project.avocado(&["build", "--locked"]).run().unwrap();
    assert!(!refused.status.success(), "{refused}");
    assert!(
        refused.stderr.contains(&moved) && refused.stderr.contains(&digest),
        "{refused}"
    );
    // Not locked, it is what is stated.
    other.project.avocado(&["build"]).ok().unwrap();
    assert!(other.project.read("avocado.lock").unwrap().contains(&moved));
    assert!(store(&other.project) != store(project));
    drop(registry);

    // As on a device: from the partition, with its network down.
    let point = sandbox.directory.path().join("var");
    fs::create_dir(&point).unwrap();
    let image = project
        .state()
        .join("runtimes/dev/avocado-image-var-qemux86-64.btrfs");
    let larger = ToolCall::new("truncate").args(["--size=+512M"]).arg(&image);
    larger.ok().unwrap();
    let mount = ToolCall::new("mount")
        .args(["-o", "loop"])
        .arg(&image)
        .arg(&point);
    mount.ok().unwrap();
    let _mounted = Mounted(point.clone());
    ToolCall::new("btrfs")
        .args(["filesystem", "resize", "max"])
        .arg(&point)
        .ok()
        .unwrap();
    let docker = DockerService::start(
        &point.join("lib/docker"),
        &sandbox.directory.path().join("docker"),
    );
    let docker = docker.unwrap();
    let said = |arguments: &[&str]| docker.docker(arguments).ok().unwrap().stdout;
    let listed = said(&[
        "images",
        "--digests",
        "--format",
        "{{.Repository}} {{.Tag}} {{.Digest}}",
    ]);
    assert_eq!(listed, format!("{name} 1 {digest}\n"));
    let reference = format!("{name}:1");
    let script = "cat /etc/text; ls /etc; echo; ls /data; stat -c '%u %g %Y' /data/new";
    for image in [reference, format!("{name}@{digest}")] {
        let ran = said(&[
            "run",
            "--rm",
            "--network=none",
            &image,
            "/bin/sh",
            "-c",
            script,
        ]);
        let ran: Vec<&str> = ran.split_whitespace().collect();
        assert!(ran[0].starts_with("first"), "{ran:?}");
        assert!(
            ran.ends_with(&["new", "1234", "4321", "1000000000"]),
            "{ran:?}"
        );
        assert!(!ran.contains(&"old"), "{ran:?}");
        assert!(ran.contains(&"text") && !ran.contains(&"gone"), "{ran:?}");
    }
}

/// Unmounts what is mounted there.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = ToolCall::new("umount").arg(&self.0).ok();
        assert!(
            unmounted.is_ok() || std::thread::panicking(),
            "{unmounted:?}"
        );
    }
}

#[test]
fn what_is_missing_for_the_images_of_a_device_is_told() {
    if cannot_prime("what_is_missing_for_the_images_of_a_device_is_told") {
        return;
    }
    let registry = TestRegistry::start().unwrap();
    let name = format!("{}/someone/app", registry.name());
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    state(project, &format!("{{image: '{name}', tag: '1'}}"));
    let failed = |arguments: &[&str]| {
        let failed = project.avocado(arguments).run().unwrap();
        assert!(!failed.status.success(), "{failed}");
        // Manifest and repository are there all the same.
        assert!(
            project
                .state()
                .join("output/runtimes/dev/repository")
                .is_dir()
        );
        failed.stderr
    };
    let said = failed(&["build"]);
    assert!(
        said.contains(&format!("cannot fetch the container image `{name}:1`")),
        "{said}"
    );
    assert!(
        said.contains("it is not here") || said.contains("manifest unknown"),
        "{said}"
    );
    let said = failed(&["build", "--frozen"]);
    assert!(
        said.contains(&format!("the container image `{name}:1`")),
        "{said}"
    );
    let said = failed(&["build", "--locked"]);
    assert!(said.contains("would be locked"), "{said}");

    put(&registry, "first");
    // Everything of this machine but skopeo.
    let programs = sandbox.directory.path().join("programs");
    programs_without(&programs, &["skopeo"]).unwrap();
    let failed_with = |path: &str| {
        let project = project.clone().with_env("PATH", path);
        let failed = project.avocado(&["build"]).run().unwrap();
        assert!(!failed.status.success(), "{failed}");
        failed.stderr
    };
    let said = failed_with(&programs.display().to_string());
    assert!(said.contains("cannot start `skopeo`"), "{said}");

    // A docker that does not start.
    let broken = sandbox.directory.path().join("broken");
    let dockerd = broken.join("dockerd");
    fs::create_dir(&broken).unwrap();
    fs::write(&dockerd, "#!/bin/sh\necho 'no such store' >&2\nexit 1\n").unwrap();
    fs::set_permissions(&dockerd, fs::Permissions::from_mode(0o755)).unwrap();
    let said = failed_with(&format!("{}:/usr/bin:/bin", broken.display()));
    assert!(
        said.contains("runtime container-store dev failed"),
        "{said}"
    );
    assert!(said.contains("`dockerd` failed"), "{said}");
    assert!(said.contains("no such store"), "{said}");
    project.avocado(&["build"]).ok().unwrap();
}

#[test]
fn an_image_for_another_processor_is_told() {
    if cannot_prime("an_image_for_another_processor_is_told") {
        return;
    }
    let registry = TestRegistry::start().unwrap();
    let name = format!("{}/someone/app", registry.name());
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let layer = sandbox.directory.path().join("layer");
    fs::create_dir(&layer).unwrap();
    fs::write(layer.join("file"), "").unwrap();
    let put = |architecture: &str| {
        let put = registry.put_alone("someone/app", "1", architecture, &[&layer]);
        put.unwrap()
    };
    let digest = put("arm64");
    let by_tag = format!("{{image: '{name}', tag: '1'}}");
    let by_digest = format!("{{image: '{name}', tag: '1', digest: '{digest}'}}");
    for (entry, at) in [(&by_tag, "image: "), (&by_digest, "digest: ")] {
        state(project, entry);
        let yaml = project.read("avocado.yaml").unwrap();
        let lines = yaml.lines().zip(1..);
        let place = lines.filter(|(line, _)| line.contains("docker_images:"));
        let places: Vec<String> = place
            .map(|(line, number)| {
                let column = line.find(at).unwrap() + at.len() + 1;
                format!("avocado.yaml:{number}:{column}")
            })
            .collect();
        let failed = project.avocado(&["build"]).run().unwrap();
        assert!(!failed.status.success(), "{failed}");
        for said in ["linux/arm64", "linux/amd64", &places[0]] {
            assert!(failed.stderr.contains(said), "{said}: {failed}");
        }
        let lock = project.read("avocado.lock").unwrap();
        assert!(!lock.contains(&digest), "{lock}");
    }

    // What the device cannot run was not locked: the right one under the same tag is taken.
    put("amd64");
    state(project, &by_tag);
    project.avocado(&["build"]).ok().unwrap();
}
