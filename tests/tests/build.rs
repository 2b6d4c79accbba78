//! A build with the real tools: what it makes, what it leaves alone, and that it makes the same
//! bytes everywhere.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use avocado_manifest::{Digest, UpdatePolicy, VmImage, VmRole};
use avocado_testbed::project::{BuildArtifact, TestProject};
use avocado_testbed::tools::ToolCall;
use common::{Sandbox, cannot_build};
use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

fn of<'a>(artifacts: &'a [BuildArtifact], kind: &str) -> Vec<&'a BuildArtifact> {
    artifacts.iter().filter(|a| a.kind == kind).collect()
}

#[test]
fn a_build_makes_everything() {
    if cannot_build("a_build_makes_everything") {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let artifacts = project.events(&["build"]).unwrap().artifacts();
    for kind in [
        "extension",
        "rootfs",
        "initramfs",
        "var",
        "manifest",
        "repository",
        "vm",
    ] {
        let found = of(&artifacts, kind);
        assert!(!found.is_empty(), "no {kind}");
        assert!(
            found.iter().all(|a| a.path.exists() && a.size > 0),
            "{found:?}"
        );
    }
    // A second opinion on the image formats.
    for (kind, name, format) in [
        ("extension", "hello-1.0.0", "Squashfs filesystem"),
        ("extension", "hello-config-1.0.0", "EROFS filesystem"),
        ("rootfs", "dev", "EROFS filesystem"),
        ("initramfs", "dev", "Zstandard compressed data"),
        ("var", "dev", "BTRFS Filesystem"),
    ] {
        let artifact = of(&artifacts, kind)
            .into_iter()
            .find(|a| a.name == name)
            .unwrap();
        let said = ToolCall::new("file")
            .arg("-b")
            .arg(&artifact.path)
            .ok()
            .unwrap();
        assert!(said.stdout.starts_with(format), "{name}: {}", said.stdout);
    }
    // Nothing is in it but what was put there: an empty /usr/sbin could hide that of the device.
    let mut extensions = of(&artifacts, "extension").into_iter();
    let hello = extensions.find(|a| a.name == "hello-1.0.0").unwrap();
    let listing = ToolCall::new("unsquashfs")
        .arg("-lc")
        .arg(&hello.path)
        .ok()
        .unwrap();
    let listing = listing.stdout;
    assert!(listing.contains("/usr/bin/hello-server"), "{listing}");
    assert!(!listing.contains("/usr/sbin"), "{listing}");

    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(&of(&artifacts, "manifest")[0].path).unwrap()).unwrap();
    let id = manifest["id"].as_str().unwrap();
    assert_eq!(id.len(), 64);
    assert_eq!(manifest["manifest_version"], 2);
    let names: Vec<_> = manifest["extensions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["name"])
        .collect();
    assert_eq!(names, ["hello", "hello-config"]);

    let store = project.state().join("runtimes/dev/var-staging/lib/avocado");
    let active = fs::read_link(store.join("active")).unwrap();
    assert_eq!(active.to_str(), Some(format!("runtimes/{id}").as_str()));
    assert!(store.join(&active).join("manifest.json").is_file());
    for extension in manifest["extensions"].as_array().unwrap() {
        let image = format!("images/{}.raw", extension["image_id"].as_str().unwrap());
        assert!(store.join(image).is_file());
    }
    let repository = &of(&artifacts, "repository")[0].path;
    let anchor = fs::read(store.join("metadata/root.json")).unwrap();
    assert_eq!(
        anchor,
        fs::read(repository.join("metadata/root.json")).unwrap()
    );
    assert_eq!(
        anchor,
        fs::read(repository.join("metadata/1.root.json")).unwrap()
    );
}

/// The image that `avocado vm` starts, as its reader sees it.
fn vm_image(artifacts: &[BuildArtifact]) -> (PathBuf, VmImage) {
    let directory = of(artifacts, "vm")[0].path.clone();
    let manifest = fs::read(directory.join("manifest.json")).unwrap();
    (directory, VmImage::parse(&manifest).unwrap())
}

#[test]
fn a_target_of_qemu_has_a_vm_image() {
    if cannot_build("a_target_of_qemu_has_a_vm_image") {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let artifacts = project.events(&["build"]).unwrap().artifacts();
    let (directory, image) = vm_image(&artifacts);
    assert_eq!(image.platform, "avocado-qemux86-64");
    assert_eq!(image.architecture, "x86_64");
    assert!(image.cmdline_default.starts_with("root=/dev/vda "));
    for role in VmRole::ALL {
        let artifact = image.artifact(role).unwrap();
        let path = directory.join(&artifact.file);
        let (digest, size) = Digest::of_reader(fs::File::open(&path).unwrap()).unwrap();
        assert_eq!(
            (artifact.sha256, artifact.size),
            (digest, Some(size)),
            "{role}"
        );
        assert_eq!(
            artifact.update_policy == UpdatePolicy::SeedOnly,
            role == VmRole::Var
        );
        // It costs no disk: the file is that of the runtime.
        assert!(path.metadata().unwrap().nlink() > 1, "{role}");
    }
    for (role, kind) in [
        (VmRole::Initramfs, "initramfs"),
        (VmRole::Rootfs, "rootfs"),
        (VmRole::Var, "var"),
    ] {
        let sha256 = image.artifact(role).unwrap().sha256;
        assert_eq!(sha256.to_string(), of(&artifacts, kind)[0].sha256);
    }
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 5);

    // What was taken away comes back, and nothing else is done for it.
    fs::remove_file(directory.join("Image")).unwrap();
    let events = project.events(&["build"]).unwrap();
    assert_eq!(events.steps("success"), ["runtime vm dev"]);
    assert!(directory.join("Image").is_file());
}

#[test]
fn the_image_of_the_development_vm_is_made_once() {
    if cannot_build("the_image_of_the_development_vm_is_made_once") {
        return;
    }
    let manifest = || {
        let image = avocado_testbed::vm_image::VmImage::ensure().unwrap();
        let path = image.directory().join("manifest.json");
        let parsed = VmImage::parse(&fs::read(&path).unwrap()).unwrap();
        for artifact in parsed.artifacts.values() {
            let file = image.directory().join(&artifact.file);
            assert_eq!(file.metadata().ok().map(|m| m.len()), artifact.size);
        }
        path.metadata().unwrap().ino()
    };
    assert_eq!(manifest(), manifest());
}

#[test]
fn the_var_image_holds_the_var_tree() {
    if cannot_build("the_var_image_holds_the_var_tree") {
        return;
    }
    let sandbox = Sandbox::built();
    let runtime = sandbox.project.state().join("runtimes/dev");
    let image = runtime.join("avocado-image-var-qemux86-64.btrfs");
    let point = sandbox.directory.path().join("mnt");
    fs::create_dir(&point).unwrap();
    ToolCall::new("mount")
        .args(["-o", "loop,ro"])
        .arg(&image)
        .arg(&point)
        .ok()
        .unwrap();
    let compared = ToolCall::new("diff")
        .args(["-r", "--no-dereference"])
        .arg(&point)
        .arg(runtime.join("var-staging"))
        .run();
    let subvolumes = ToolCall::new("btrfs")
        .args(["subvolume", "list"])
        .arg(&point)
        .run();
    ToolCall::new("umount").arg(&point).ok().unwrap();
    let compared = compared.unwrap();
    assert!(compared.status.success(), "{compared}");
    assert!(subvolumes.unwrap().stdout.contains("path lib/avocado"));
}

/// No tool can be found and no feed reached: only a build that starts nothing gets through this.
fn without_anything(project: &TestProject) -> TestProject {
    let project = project.clone().with_env("PATH", "/nonexistent");
    project.with_env("AVOCADO_REPO_URL", "http://127.0.0.1:9")
}

#[test]
fn nothing_to_do_starts_no_process() {
    if cannot_build("nothing_to_do_starts_no_process") {
        return;
    }
    let sandbox = Sandbox::built();
    // The identity of the image writers is part of their steps' inputs, so PATH stays.
    let project = sandbox
        .project
        .clone()
        .with_env("AVOCADO_REPO_URL", "http://127.0.0.1:9");
    let traced = sandbox.directory.path().join("strace");
    let events = project.events(&["build"]).unwrap();
    assert_eq!(events.complete()["processes"], 0);
    assert_eq!(events.complete()["ran"], 0);
    assert_eq!(events.steps("success"), Vec::<String>::new());
    assert_eq!(events.steps("running"), Vec::<String>::new());
    assert!(events.steps("skipped").len() > 10);
    let before = project.read("avocado.lock").unwrap();
    // What counts is not only what the program says of itself.
    let output = ToolCall::new("strace")
        .args(["-f", "-qq", "-e", "trace=execve,execveat", "-o"])
        .arg(&traced)
        .arg(avocado_testbed::tools::static_binary("avocado").unwrap())
        .arg("build")
        .directory(project.directory())
        .env("AVOCADO_REPO_URL", "http://127.0.0.1:9")
        .env(
            "AVOCADO_SIGNING_KEYS_DIR",
            sandbox.directory.path().join("keys"),
        )
        .ok()
        .unwrap();
    let calls = fs::read_to_string(&traced).unwrap();
    assert_eq!(calls.lines().count(), 1, "{calls}\n{output}");
    assert_eq!(project.read("avocado.lock").unwrap(), before);

    let failed = without_anything(&project).avocado(&["install"]).ok();
    assert!(
        failed.is_ok(),
        "an install with nothing to do needs no tool: {failed:?}"
    );
}

/// Runs `work` with another mount of the root directory as its root.
#[allow(unsafe_code)]
fn in_a_chroot(work: impl FnOnce() + Send) {
    let root = tempfile::tempdir().unwrap();
    let enter = || {
        // SAFETY: file descriptors stay shared; this thread alone gets other mounts and a working
        // directory of its own, and both end with it.
        unsafe { unshare_unsafe(UnshareFlags::FS | UnshareFlags::NEWNS) }?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private)?;
        mount_bind_recursive("/", root.path())?;
        rustix::process::chroot(root.path())?;
        rustix::process::chdir("/")
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            enter().unwrap();
            work();
        });
    });
}

#[test]
fn a_build_runs_in_a_chroot() {
    if cannot_build("a_build_runs_in_a_chroot") {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    project
        .write("overlay/hello-config/etc/chroot", "in it")
        .unwrap();
    in_a_chroot(|| {
        let events = project.events(&["build"]).unwrap();
        assert!(!events.steps("success").is_empty());
    });
}

#[test]
fn an_overlay_file_rebuilds_what_depends_on_it() {
    if cannot_build("an_overlay_file_rebuilds_what_depends_on_it") {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let before = project.events(&["build"]).unwrap().artifacts();
    project
        .write(
            "overlay/hello-config/etc/hello/greeting",
            "Something else.\n",
        )
        .unwrap();
    let deploy = ["deploy", "--strict", "--device", "nowhere.invalid"];
    let refused = project.avocado(&deploy).run().unwrap();
    assert!(!refused.status.success());
    let older = "`ext build hello-config` (build.overlay.content: ";
    assert!(refused.stderr.contains(older), "{}", refused.stderr);
    let events = project.events(&["build", "--explain"]).unwrap();
    let because = |stage: &str| {
        let mut said = events.of("info").filter(|event| event["stage"] == stage);
        let message = said.next().and_then(|event| event["message"].as_str());
        message.unwrap_or_default().to_owned()
    };
    for (stage, field) in [
        ("ext build hello-config", "build.overlay.content: "),
        ("ext image hello-config", "image.sysroot: "),
        ("runtime repository dev", "manifest: "),
    ] {
        assert!(because(stage).starts_with(field), "{}", because(stage));
    }
    assert_eq!(
        events.steps("success"),
        [
            "ext build hello-config",
            "ext image hello-config",
            "runtime build dev",
            "runtime repository dev",
            "runtime var dev",
            "runtime vm dev"
        ]
    );
    let after = events.artifacts();
    let changed: Vec<&str> = before
        .iter()
        .zip(&after)
        .filter(|(old, new)| old.sha256 != new.sha256)
        .map(|(_, new)| new.kind.as_str())
        .collect();
    assert_eq!(
        changed,
        ["extension", "manifest", "repository", "var", "vm"]
    );

    // And back: the same content gives the same bytes again.
    let original = avocado_testbed::tools::source_root().join("examples/hello");
    let greeting = "overlay/hello-config/etc/hello/greeting";
    project
        .write(
            greeting,
            &fs::read_to_string(original.join(greeting)).unwrap(),
        )
        .unwrap();
    let again = project.events(&["build"]).unwrap().artifacts();
    assert_eq!(of(&again, "manifest"), of(&before, "manifest"));
    assert_eq!(of(&again, "extension"), of(&before, "extension"));
}

#[test]
fn var_files_make_a_new_image_without_an_install() {
    if cannot_build("var_files_make_a_new_image_without_an_install") {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    let yaml = project.read("avocado.yaml").unwrap();
    let changed = yaml.replacen(
        "    overlay: overlay/hello-config",
        "    overlay: overlay/hello-config\n    var_files: [etc/hello/**]",
        1,
    );
    assert_ne!(yaml, changed);
    project.write("avocado.yaml", &changed).unwrap();
    let events = project.events(&["build"]).unwrap();
    assert_eq!(
        events.steps("success"),
        [
            "ext image hello-config",
            "runtime build dev",
            "runtime repository dev",
            "runtime var dev",
            "runtime vm dev"
        ]
    );
    let var = project.state().join("runtimes/dev/var-staging");
    assert!(var.join("etc/hello/greeting").is_file());
    let image = &events.artifacts()[1].path;
    let listing = ToolCall::new("dump.erofs")
        .args(["--ls", "--path=/etc"])
        .arg(image)
        .ok()
        .unwrap();
    assert!(!listing.stdout.contains(" hello\n"), "{}", listing.stdout);
}

#[test]
fn an_image_goes_where_the_user_says() {
    if cannot_build("an_image_goes_where_the_user_says") {
        return;
    }
    let sandbox = Sandbox::built();
    let project = &sandbox.project;
    project
        .avocado(&["ext", "image", "hello", "--out", "dist/here"])
        .ok()
        .unwrap();
    let copied = fs::read(project.directory().join("dist/here/hello-1.0.0.raw")).unwrap();
    let made = fs::read(project.state().join("output/extensions/hello-1.0.0.raw")).unwrap();
    assert!(copied == made);
}

/// Runs `avocado build` as another user would, elsewhere.
fn build_as(project: &TestProject, umask: &str, locale: &str, zone: &str) -> Vec<BuildArtifact> {
    let environment = project
        .clone()
        .with_env("LC_ALL", locale)
        .with_env("TZ", zone);
    let (program, rest) = {
        let command = environment.command(&["build"]);
        let words: Vec<_> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(ToOwned::to_owned)
            .collect();
        (words[0].clone(), words[1..].to_vec())
    };
    let mut shell = environment.command(&[]);
    let mut command = std::process::Command::new("bash");
    for (key, value) in shell.get_envs() {
        if let Some(value) = value {
            command.env(key, value);
        }
    }
    shell.env_clear();
    let status = command
        .arg("-c")
        .arg("umask \"$1\"; shift; exec \"$@\"")
        .arg("bash")
        .arg(umask)
        .arg(program)
        .args(rest)
        .current_dir(project.directory())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    project.events(&["build"]).unwrap().artifacts()
}

/// Gives all files of a clone the modes that they would have under another umask.
fn as_cloned_under(umask: u32, project: &TestProject) {
    for entry in walkdir::WalkDir::new(project.directory()) {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_symlink() {
            continue;
        }
        let executable = metadata.is_dir() || metadata.permissions().mode() & 0o100 != 0;
        let full = if executable { 0o777 } else { 0o666 };
        let mode = fs::Permissions::from_mode(full & !umask);
        fs::set_permissions(entry.path(), mode).unwrap();
    }
}

/// Files of an overlay as their author may have them, or as a clone has them: version control keeps
/// neither hard links nor holes.
fn write_files_as(author: bool, project: &TestProject) {
    let overlay = project.directory().join("overlay/hello-config/etc/hello");
    let (first, second) = (overlay.join("first"), overlay.join("second"));
    fs::write(&first, "twice").unwrap();
    if author {
        fs::hard_link(&first, &second).unwrap();
        let file = fs::File::create(overlay.join("holes")).unwrap();
        file.set_len(1 << 20).unwrap();
    } else {
        fs::copy(&first, &second).unwrap();
        fs::write(overlay.join("holes"), vec![0; 1 << 20]).unwrap();
    }
}

#[test]
fn two_clones_give_the_same_bytes() {
    if cannot_build("two_clones_give_the_same_bytes") {
        return;
    }
    let (one, two) = (Sandbox::fresh(), Sandbox::fresh());
    write_files_as(true, &one.project);
    write_files_as(false, &two.project);
    as_cloned_under(0o022, &one.project);
    as_cloned_under(0o077, &two.project);
    let first = build_as(&one.project, "022", "C", "UTC");
    let second = build_as(&two.project, "077", "de_DE.UTF-8", "Pacific/Auckland");
    for kind in ["extension", "rootfs", "initramfs", "manifest"] {
        let (a, b) = (of(&first, kind), of(&second, kind));
        assert_eq!(a.len(), b.len());
        assert!(!a.is_empty());
        for (a, b) in a.iter().zip(&b) {
            assert_ne!(a.path, b.path);
            assert_eq!((&a.name, &a.sha256), (&b.name, &b.sha256), "{kind}");
            assert!(
                fs::read(&a.path).unwrap() == fs::read(&b.path).unwrap(),
                "{kind} {}",
                a.name
            );
        }
    }
    // The var image has identifiers and times of its own; it is only where a VM starts from.
    let [mut one_image, mut two_image] = [&first, &second].map(|a| vm_image(a).1);
    for image in [&mut one_image, &mut two_image] {
        image.artifacts.remove("var").unwrap();
    }
    assert_eq!(one_image, two_image);
    assert_eq!(
        one.project.read("avocado.lock").unwrap(),
        two.project.read("avocado.lock").unwrap()
    );
}

/// A file of a package, which a project has otherwise: it is copied into an overlay to be changed.
#[test]
fn what_is_in_a_built_tree_gets_into_the_sources() {
    if cannot_build("what_is_in_a_built_tree_gets_into_the_sources") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = &sandbox.project;
    let checkout = |more: &[&str]| {
        let paths = [
            "--ext-path",
            "/usr/bin/hello",
            "--src-path",
            "mine/usr/bin/",
        ];
        let call = project.avocado(&["ext", "checkout", "hello", "--output", "json"]);
        call.args(paths).args(more)
    };
    let said = checkout(&[]).ok().unwrap();
    let complete: serde_json::Value =
        serde_json::from_str(said.stdout.lines().last().unwrap()).unwrap();
    let file = project.directory().join("mine/usr/bin/hello");
    assert_eq!(complete["copied"], serde_json::json!([file]));
    let built = project.state().join("extensions/hello/usr/bin/hello");
    assert_eq!(fs::read(&file).unwrap(), fs::read(&built).unwrap());
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o755);

    fs::write(&file, "#!/bin/sh\necho mine\n").unwrap();
    let refused = checkout(&[]).run().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        refused
            .stdout
            .contains("already there, and another: mine/usr/bin/hello")
    );
    assert!(refused.stdout.contains("--force"), "{}", refused.stdout);
    assert_eq!(fs::read(&file).unwrap(), b"#!/bin/sh\necho mine\n");
    checkout(&["--force"]).ok().unwrap();
    assert_eq!(fs::read(&file).unwrap(), fs::read(&built).unwrap());
}
