//! What a project packages for others, with the real tools: rpm reads it, createrepo_c makes a feed of
//! it, dnf installs it, and another project builds it.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use avocado_serve::ServeOptions;
use avocado_testbed::feed::SampleFeed;
use avocado_testbed::project::TestProject;
use avocado_testbed::tools::ToolCall;
use common::{Sandbox, cannot_build, feed};

/// A project beside that of the sandbox.
fn project_at(sandbox: &Sandbox, name: &str, yaml: &str) -> TestProject {
    let place = sandbox.directory.path().join(name);
    fs::create_dir_all(&place).unwrap();
    let keys = sandbox.directory.path().join("keys");
    let project = TestProject::new(&place, &feed().url(), &keys).unwrap();
    project.write("avocado.yaml", yaml).unwrap();
    project
}

/// The sample feed with more packages for extensions.
fn feed_with(sandbox: &Sandbox, packages: &[PathBuf]) -> SampleFeed {
    let directory = sandbox.directory.path().join("feed");
    let _ = fs::remove_dir_all(&directory);
    let cp = ToolCall::new("cp").arg("-a").arg(feed().directory());
    cp.arg(&directory).ok().unwrap();
    let channel = directory.join("2024/edge");
    let snapshots = fs::read_dir(channel.join("snapshots")).unwrap();
    let snapshots = snapshots.map(|entry| entry.unwrap().path());
    for place in snapshots.chain([channel.clone()]) {
        let repository = place.join("target/qemux86-64-ext");
        let cp = ToolCall::new("cp").args(packages);
        cp.arg(&repository).ok().unwrap();
        let create = ToolCall::new("createrepo_c").args(["-q", "--no-database"]);
        let create = create.arg("--general-compress-type=gz").arg(&repository);
        create.ok().unwrap();
    }
    SampleFeed::serve(ServeOptions::new(directory)).unwrap()
}

fn packaged(project: &TestProject, arguments: &[&str]) -> PathBuf {
    let events = project.events(arguments).unwrap();
    let artifacts = events.artifacts();
    let [package] = &artifacts[..] else {
        panic!("{artifacts:?}")
    };
    assert_eq!(package.kind, "package");
    package.path.clone()
}

fn rpm(arguments: &[&str], package: &Path) -> String {
    let call = ToolCall::new("rpm").args(arguments).arg(package);
    call.ok().unwrap().stdout
}

fn cat(project: &TestProject, image: &str, path: &str) -> String {
    let image = project.state().join("output/extensions").join(image);
    let call = ToolCall::new("unsquashfs").arg("-cat").arg(image).arg(path);
    call.ok().unwrap().stdout
}

const MADE: &str = "supported_targets: [qemux86-64, raspberrypi5]
default_target: qemux86-64
distro: {release: '2024', channel: edge}
extensions:
  greeter:
    version: {file: version.json, key: of.greeter}
    types: [sysext]
    summary: 'greets; 100 % of %{targets}'
    license: Apache-2.0
    overlay: overlay
    post_build: hooks/post.sh
    depends_on: [greeter-lib]
    target-raspberrypi5: {overlay: pi-overlay}
  greeter-lib: {version: 0.3.0, types: [sysext], overlay: lib-overlay}
";

fn made(sandbox: &Sandbox) -> TestProject {
    let project = project_at(sandbox, "made", MADE);
    for (path, text) in [
        ("version.json", "{\"of\": {\"greeter\": \"1.0.0-rc.1\"}}"),
        ("overlay/usr/share/greeter/of", "every target\n"),
        ("pi-overlay/usr/share/greeter/of", "pi\n"),
        ("lib-overlay/usr/share/greeter-lib", "needed\n"),
        (
            "hooks/post.sh",
            "echo \"$AVOCADO_TARGET\" >\"$AVOCADO_BUILD_EXT_SYSROOT/usr/share/greeter/built\"\n",
        ),
    ] {
        project.write(path, text).unwrap();
    }
    project
}

/// What another project has of it.
fn consumer(sandbox: &Sandbox, name: &str, version: &str) -> TestProject {
    let yaml = format!(
        "default_target: qemux86-64
distro: {{release: '2024', channel: edge}}
rootfs: {{packages: {{libgreeting: '*'}}}}
initramfs: {{packages: {{libgreeting: '*'}}}}
extensions:
  greeter: {{source: {{type: package, version: '{version}'}}}}
  avocado-ext-clock: {{source: {{type: package, version: '*'}}}}
runtimes:
  dev: {{extensions: [greeter, avocado-ext-clock]}}
"
    );
    project_at(sandbox, name, &yaml)
}

#[test]
fn an_extension_is_packaged_published_fetched_and_built() {
    if cannot_build("an_extension_is_packaged_published_fetched_and_built") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let made = made(&sandbox);
    let out = sandbox.directory.path().join("out");
    let out_dir = out.to_str().unwrap();
    let package = packaged(&made, &["ext", "package", "greeter", "--out-dir", out_dir]);
    let name = "greeter-1.0.0~rc.1-r0.noarch.rpm";
    assert!(package.ends_with(name), "{}", package.display());
    assert_eq!(
        fs::read(out.join(name)).unwrap(),
        fs::read(&package).unwrap()
    );

    // As rpm reads it.
    ToolCall::new("rpm").arg("-K").arg(&package).ok().unwrap();
    let format = "%{NAME} %{VERSION} %{RELEASE} %{ARCH} %{BUILDHOST} %{GROUP} %{SUMMARY}";
    assert_eq!(
        rpm(&["-qp", "--qf", format], &package),
        "greeter 1.0.0~rc.1 r0 noarch reproducible system-extension greets; 100 % of %{targets}"
    );
    let provides = rpm(&["-qp", "--provides"], &package);
    for provided in [
        "avocado-ext-layout(nested)",
        "avocado-target(qemux86-64)",
        "avocado-target(raspberrypi5)",
        "greeter = 1.0.0~rc.1-r0",
    ] {
        assert!(provides.lines().any(|line| line == provided), "{provides}");
    }
    let requires = rpm(&["-qp", "--requires"], &package);
    assert!(
        requires.lines().all(|line| line.starts_with("rpmlib(")),
        "{requires}"
    );
    let files = rpm(&["-qpl"], &package);
    assert!(
        files.lines().all(|path| path.starts_with("/greeter")),
        "{files}"
    );

    // What a feed knows of it without anybody fetching it.
    let feed = feed_with(&sandbox, std::slice::from_ref(&package));
    let url = format!("{}/2024/edge/target/qemux86-64-ext", feed.url());
    let cache = sandbox.directory.path().join("cache");
    let repoquery = |question: &[&str]| {
        let call = ToolCall::new("dnf").args(["repoquery", "--quiet", "--repo=of-test"]);
        let call = call.arg(format!("--repofrompath=of-test,{url}"));
        let call = call.arg(format!("--setopt=cachedir={}", cache.display()));
        call.args(question).ok().unwrap().stdout
    };
    let provided = repoquery(&["--provides", "greeter"]);
    assert!(
        provided.contains("avocado-target(raspberrypi5)"),
        "{provided}"
    );
    let found = repoquery(&["--whatprovides", "avocado-target(qemux86-64)"]);
    assert_eq!(found.trim(), "greeter-0:1.0.0~rc.1-r0.noarch");
    assert_eq!(
        repoquery(&["--whatprovides", "avocado-target(pi)"]).trim(),
        ""
    );

    // Whoever asks for its version, and for any.
    for (place, version) in [("exact", "1.0.0-rc.1"), ("any", "*")] {
        let consumer = consumer(&sandbox, place, version);
        let consumer = consumer.with_env("AVOCADO_REPO_URL", feed.url());
        consumer.avocado(&["ext", "image"]).ok().unwrap();
        let of = |path: &str| cat(&consumer, "greeter-1.0.0-rc.1.raw", path);
        assert_eq!(of("usr/share/greeter/of"), "every target\n");
        assert_eq!(of("usr/share/greeter/built"), "qemux86-64\n");
        // What it needs came along, and the older layout is as good as ever.
        let needed = cat(&consumer, "greeter-lib-0.3.0.raw", "usr/share/greeter-lib");
        assert_eq!(needed, "needed\n");
        let clock = cat(
            &consumer,
            "avocado-ext-clock-1.0.0.raw",
            "usr/lib/avocado-clock/zone",
        );
        assert_eq!(clock, "UTC\n");
        let lock = consumer.read("avocado.lock").unwrap();
        assert!(
            lock.contains("\"greeter\": \"1.0.0~rc.1-r0.noarch\""),
            "{lock}"
        );
    }
}

#[test]
fn a_package_for_other_targets_is_refused() {
    if cannot_build("a_package_for_other_targets_is_refused") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let made = made(&sandbox);
    let yaml = MADE.replace("[qemux86-64, raspberrypi5]", "[raspberrypi5, imx93-evk]");
    made.write(
        "avocado.yaml",
        &yaml.replace("default_target: qemux86-64", ""),
    )
    .unwrap();
    let arguments = ["ext", "package", "greeter", "--target", "imx93-evk"];
    let package = packaged(&made, &arguments);
    let feed = feed_with(&sandbox, &[package]);
    let consumer = consumer(&sandbox, "consumer", "*");
    let consumer = consumer.with_env("AVOCADO_REPO_URL", feed.url());
    let said = consumer
        .avocado(&["ext", "fetch", "greeter"])
        .run()
        .unwrap();
    assert!(!said.status.success());
    let expected = "package greeter is not for qemux86-64: it is for imx93-evk, raspberrypi5";
    assert!(said.stderr.contains(expected), "{}", said.stderr);
    assert!(said.stderr.contains("avocado.yaml:6:"), "{}", said.stderr);
    assert!(!consumer.state().join("includes/greeter").exists());
}

#[test]
fn a_package_is_the_same_wherever_it_is_made() {
    if cannot_build("a_package_is_the_same_wherever_it_is_made") {
        return;
    }
    let package = |umask: u32, target: &str| {
        let sandbox = Sandbox::fresh();
        let made = made(&sandbox);
        for entry in walkdir::WalkDir::new(made.directory()) {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & !umask;
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode)).unwrap();
        }
        let package = packaged(&made, &["ext", "package", "greeter", "--target", target]);
        fs::read(package).unwrap()
    };
    let first = package(0o022, "qemux86-64");
    assert!(first == package(0o077, "qemux86-64"));
    assert!(first == package(0o022, "raspberrypi5"));
}
