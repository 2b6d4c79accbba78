//! A project for a machine of another architecture: built on this one, with programs of the device
//! started meanwhile, and booted in an emulated machine, where it updates itself.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::OnceLock;

use avocado_serve::ServeOptions;
use avocado_test_server::TestServer;
use avocado_testbed::cleanup::CleanupGuard;
use avocado_testbed::feed::SampleFeed;
use avocado_testbed::sdk_image::SdkImage;
use avocado_testbed::tools::{
    TestNeed, ToolCall, cache_dir, machine_emulates_aarch64, skip_without, source_root,
    static_binary, static_binary_for,
};
use avocado_testbed::vm::TestVm;
use common::{Sandbox, cannot_build};
use tempfile::TempDir;

const TARGET: &str = "qemuarm64";

fn cannot_build_for_arm64(name: &str) -> bool {
    let needs = [
        TestNeed::StaticBinaryFor("aarch64", "avocadoctl"),
        TestNeed::Tool("qemu-aarch64-static"),
        TestNeed::Emulation,
        TestNeed::Tool("aarch64-linux-gnu-gcc"),
    ];
    cannot_build(name) || skip_without(name, &needs)
}

/// The sample feed for such machines, with a package whose scriptlets need the emulator.
fn feed() -> &'static SampleFeed {
    static FEED: OnceLock<(SampleFeed, TempDir)> = OnceLock::new();
    let (feed, _) = FEED.get_or_init(|| {
        let (cache, place) = (cache_dir(), tempfile::tempdir().unwrap());
        let avocadoctl = static_binary_for("aarch64", "avocadoctl").unwrap();
        let directory = cache.join("feed-aarch64");
        SampleFeed::build_for("aarch64", &directory, &avocadoctl, &cache).unwrap();
        let feed = SampleFeed::serve(ServeOptions::new(&directory)).unwrap();
        let specs = source_root().join("tests/arm64");
        let repository = format!("target/{TARGET}");
        let with = feed.with_packages(&place.path().join("feed"), &specs, &repository, &[]);
        (with.unwrap(), place)
    });
    feed
}

/// The example, for that machine, with these packages in its rootfs too.
fn sandbox(packages: &[&str]) -> Sandbox {
    let sandbox = Sandbox::fresh_with(feed());
    let yaml = sandbox.project.read("avocado.yaml").unwrap();
    let yaml = yaml.replace("qemux86-64", TARGET);
    let first = "    avocado-pkg-rootfs: \"*\"\n";
    assert!(yaml.contains(first));
    let more: String = packages
        .iter()
        .map(|p| format!("    {p}: \"*\"\n"))
        .collect();
    let yaml = yaml.replacen(first, &format!("{first}{more}"), 1);
    sandbox.project.write("avocado.yaml", &yaml).unwrap();
    sandbox
}

fn id_of(sandbox: &Sandbox) -> String {
    let state = sandbox.project.state_of(TARGET);
    let manifest = fs::read(state.join("output/runtimes/dev/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_project_for_arm64_is_built_here_booted_and_updated() {
    let name = "a_project_for_arm64_is_built_here_booted_and_updated";
    let needs = ["qemu-system-aarch64", "ssh", "ssh-keygen"].map(TestNeed::Tool);
    if cannot_build_for_arm64(name) || skip_without(name, &needs) {
        return;
    }
    let sandbox = sandbox(&["avocado-vm-guest", "asks-itself"]);
    let project = &sandbox.project;
    project.avocado(&["build"]).ok().unwrap();
    let state = project.state_of(TARGET);
    let machine = fs::read_to_string(state.join("rootfs/usr/share/asks-itself/machine"));
    assert_eq!(machine.unwrap(), "aarch64\naarch64\nx86_64\n");
    // A command of the user's may start programs of the device as well.
    let busybox = format!("/opt/_avocado/{TARGET}/initramfs/usr/bin/busybox");
    let command = ["sdk", "run", "--", &busybox, "sh", "-c", "exec uname -m"];
    assert_eq!(project.avocado(&command).ok().unwrap().stdout, "aarch64\n");

    let vm = TestVm::new().unwrap();
    let image = state.join("output/runtimes/dev/vm").display().to_string();
    let start = ["--vm-source", &image, "--memory-mib", "768", "--cpus", "2"];
    vm.start(&start).unwrap();
    let mut guest = vm.session("ssh").unwrap();
    assert_eq!(guest.ok("uname -m").unwrap(), "aarch64");
    assert_eq!(
        guest.ok("systemctl is-system-running --wait").unwrap(),
        "running"
    );
    assert!(guest.ok("hello").unwrap().contains("Welcome aboard."));
    let mut active = || guest.ok("readlink /var/lib/avocado/active").unwrap();
    let first = id_of(&sandbox);
    assert!(active().ends_with(&first));

    // The next runtime comes over the network.
    project
        .write("overlay/hello-config/etc/hello/greeting", "Second.\n")
        .unwrap();
    project.avocado(&["build", "--no-var"]).ok().unwrap();
    let second = id_of(&sandbox);
    assert_ne!(first, second);
    let repository = state.join("output/runtimes/dev/repository");
    let server = TestServer::start(ServeOptions::new(&repository)).unwrap();
    // What of the host the guest reaches at this address of QEMU's network is its loopback device.
    let url = server.url().replacen("127.0.0.1", "10.0.2.2", 1);
    guest
        .ok(&format!("avocadoctl runtime add --url '{url}'"))
        .unwrap();
    guest
        .ok(&format!("avocadoctl runtime activate {second}"))
        .unwrap();
    let active = guest.ok("readlink /var/lib/avocado/active").unwrap();
    assert!(active.ends_with(&second), "{active}");
    assert!(guest.ok("hello").unwrap().contains("Second."));
    drop(guest);
    vm.vm(&["stop"]).ok().unwrap();
}

/// Its tools are emulated too, where an SDK for another architecture is asked for.
#[test]
fn an_sdk_for_another_architecture_stands_beside_the_own_one() {
    if cannot_build_for_arm64("an_sdk_for_another_architecture_stands_beside_the_own_one") {
        return;
    }
    let sandbox = sandbox(&[]);
    let project = &sandbox.project;
    let prefix_of = |arguments: &[&str]| {
        let install = [arguments, &["sdk", "install"]].concat();
        project.avocado(&install).ok().unwrap();
        let command = [
            "sdk",
            "run",
            "--",
            "sh",
            "-c",
            "echo $AVOCADO_SDK_PREFIX $CC",
        ];
        let said = project.avocado(&[arguments, &command].concat()).ok();
        said.unwrap().stdout
    };
    let place = format!("/opt/_avocado/{TARGET}/sdk");
    // The sample's compiler has a prefix where it is not that of its own architecture.
    let own = format!("{place}/x86_64 aarch64-linux-gnu-gcc\n");
    assert_eq!(prefix_of(&[]), own);
    for spelling in ["aarch64", "arm64"] {
        let other = format!("{place}/aarch64 gcc\n");
        assert_eq!(prefix_of(&["--sdk-arch", spelling]), other);
    }
    assert_eq!(prefix_of(&["--sdk-arch", "amd64"]), own);
    let lock = project.read("avocado.lock").unwrap();
    let lock: serde_json::Value = serde_json::from_str(&lock).unwrap();
    let sdks = lock["targets"][TARGET]["sdk"].as_object().unwrap();
    let sdks: Vec<&str> = sdks.keys().map(String::as_str).collect();
    assert_eq!(sdks, ["aarch64", "x86_64"]);
    // What is told of an SDK is what is locked for it, and not what the other one has.
    let deps_of = |architecture: &str| {
        let deps = [
            "--output",
            "json",
            "sdk",
            "deps",
            "--sdk-arch",
            architecture,
        ];
        project.avocado(&deps).ok().unwrap().stdout
    };
    for (name, other) in [("aarch64", "x86-64"), ("x86_64", "arm64")] {
        let locked = lock["targets"][TARGET]["sdk"][name].as_object().unwrap();
        let suffix = format!(".{name}_avocadosdk\"");
        let own = deps_of(name);
        for version in locked.values() {
            assert!(own.contains(&version.to_string()), "{version}: {own}");
        }
        assert!(own.contains(&suffix), "{own}");
        assert!(!deps_of(other).contains(&suffix), "{own}");
    }
}

#[test]
fn host_and_container_make_the_same_images_for_arm64() {
    let name = "host_and_container_make_the_same_images_for_arm64";
    let needs = ["podman", "runc"].map(TestNeed::Tool);
    if cannot_build_for_arm64(name) || skip_without(name, &needs) {
        return;
    }
    let image = SdkImage::ensure().unwrap();
    let made = |backend: &str| {
        let mut sandbox = sandbox(&[]);
        let yaml = sandbox.project.read("avocado.yaml").unwrap();
        let stated = yaml.lines().find(|line| line.starts_with("  image: "));
        let here = format!("  image: {}", image.name());
        let yaml = yaml.replacen(stated.unwrap(), &here, 1);
        sandbox.project.write("avocado.yaml", &yaml).unwrap();
        let configuration = image.configuration();
        sandbox.project = sandbox.project.with_env("CONTAINERS_CONF", configuration);
        let mut made = BTreeSet::new();
        for what in [["ext", "image"], ["initramfs", "image"]] {
            let arguments = [&what[..], &["--backend", backend]].concat();
            let artifacts = sandbox.project.events(&arguments).unwrap().artifacts();
            made.extend(artifacts.into_iter().map(|a| (a.kind, a.name, a.sha256)));
        }
        made
    };
    let on_host = made("host");
    // Of squashfs, of erofs, and an archive.
    assert_eq!(on_host.len(), 3, "{on_host:?}");
    assert_eq!(made("container"), on_host);
}

#[test]
fn containers_for_another_architecture_run_where_the_kernel_emulates_it() {
    let name = "containers_for_another_architecture_run_where_the_kernel_emulates_it";
    let needs = ["podman", "runc", "unshare"].map(TestNeed::Tool);
    if cannot_build_for_arm64(name) || skip_without(name, &needs) {
        return;
    }
    let mut sandbox = sandbox(&[]);
    let podman = SdkImage::ensure().unwrap();
    let configuration = podman.configuration();
    sandbox.project = sandbox.project.with_env("CONTAINERS_CONF", configuration);
    let project = &sandbox.project;
    let for_other = ["--sdk-arch", "aarch64"];
    for install in ["sdk", "initramfs"] {
        let install = [&for_other[..], &[install, "install"]].concat();
        project.avocado(&install).ok().unwrap();
    }
    // A small image that such programs are in.
    let archive = sandbox.directory.path().join("image.tar");
    let archive = archive.to_string_lossy();
    let tree = project.state_of(TARGET).join("initramfs");
    let pack = ToolCall::new("tar").arg("-C").arg(&tree);
    pack.args(["-cf", &archive, "."]).ok().unwrap();
    // The SDK's environment is for bash; the shell that is there understands this one's.
    let more = sandbox.directory.path().join("more");
    fs::create_dir_all(more.join("usr/bin")).unwrap();
    let bash = more.join("usr/bin/bash");
    fs::write(&bash, "#!/usr/bin/sh\nexec /usr/bin/sh \"$@\"\n").unwrap();
    fs::set_permissions(&bash, fs::Permissions::from_mode(0o755)).unwrap();
    let append = ToolCall::new("tar").arg("-C").arg(&more);
    append.args(["-rf", &archive, "usr/bin/bash"]).ok().unwrap();
    let image = format!("localhost/avocado-testbed-arm64:{}", std::process::id());
    let import = ["import", "--quiet", "--arch", "arm64", &archive, &image];
    podman.podman(&import).ok().unwrap();
    let remove = podman.podman(&["image", "rm", "--force", &image]).last();
    let _end = CleanupGuard::new(move || drop(remove.run())).unwrap();
    let yaml = project.read("avocado.yaml").unwrap();
    let stated = yaml.lines().find(|line| line.starts_with("  image: "));
    let yaml = yaml.replacen(stated.unwrap(), &format!("  image: {image}"), 1);
    project.write("avocado.yaml", &yaml).unwrap();

    let command = [
        "sdk",
        "run",
        "--backend",
        "container",
        "--",
        "busybox",
        "uname",
        "-m",
    ];
    let command = [&for_other[..], &command].concat();
    if machine_emulates_aarch64() {
        assert_eq!(project.avocado(&command).ok().unwrap().stdout, "aarch64\n");
        return;
    }
    let refused = project.avocado(&command).run().unwrap();
    assert!(!refused.status.success(), "{refused}");
    let said = "error: this machine's kernel does not emulate aarch64";
    assert!(refused.stderr.starts_with(said), "{refused}");
    assert!(refused.stderr.contains("qemu-user-static"), "{refused}");
    // There root may only show a container the network that is its own.
    let program = [
        source_root().join("scripts/emulated"),
        "unshare".into(),
        "--net".into(),
        static_binary("avocado").unwrap(),
    ];
    let project = project.clone().with_program(program);
    assert_eq!(project.avocado(&command).ok().unwrap().stdout, "aarch64\n");
}
