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
use common::{Sandbox, cannot_build, cannot_compile, feed};

/// Where a feed has extensions.
const EXTENSIONS: &str = "target/qemux86-64-ext";

/// A project beside that of the sandbox.
fn project_at(sandbox: &Sandbox, name: &str, yaml: &str) -> TestProject {
    let place = sandbox.directory.path().join(name);
    fs::create_dir_all(&place).unwrap();
    let keys = sandbox.directory.path().join("keys");
    let project = TestProject::new(&place, &feed().url(), &keys).unwrap();
    project.write("avocado.yaml", yaml).unwrap();
    project
}

/// The sample feed with more packages in one of its repositories.
fn feed_with(sandbox: &Sandbox, repository: &str, packages: &[PathBuf]) -> SampleFeed {
    let directory = sandbox.directory.path().join("feed");
    let _ = fs::remove_dir_all(&directory);
    let cp = ToolCall::new("cp").arg("-a").arg(feed().directory());
    cp.arg(&directory).ok().unwrap();
    let channel = directory.join("2024/edge");
    let snapshots = fs::read_dir(channel.join("snapshots")).unwrap();
    let snapshots = snapshots.map(|entry| entry.unwrap().path());
    for place in snapshots.chain([channel.clone()]) {
        let repository = place.join(repository);
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
    let feed = feed_with(&sandbox, EXTENSIONS, std::slice::from_ref(&package));
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
    let feed = feed_with(&sandbox, EXTENSIONS, &[package]);
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

const COMPILED: &str = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
rootfs: {packages: {libgreeting: '*'}}
initramfs: {packages: {libgreeting: '*'}}
sdk:
  packages: {avocado-sdk-toolchain: '*'}
  compile:
    answer:
      compile: compile.sh
      package:
        install: install.sh
        version: 2.0.0-beta.1
        summary: '%(echo the) answer'
        requires: [libgreeting]
        files: ['%{_bindir}/answer', '%config(noreplace) /etc/answer.conf', '%exclude /usr/share/build-log']
        split:
          doc: {files: [/usr/share/doc/answer], summary: About the answer, requires: [answer]}
extensions: {app: {version: 1.0.0, packages: {libgreeting: '*'}}}
";

#[test]
fn what_is_compiled_is_packaged_and_installed_by_dnf() {
    if cannot_compile("what_is_compiled_is_packaged_and_installed_by_dnf") {
        return;
    }
    let sandbox = Sandbox::fresh();
    let project = project_at(&sandbox, "compiled", COMPILED);
    project
        .write("answer.c", "int main(void) { return 42; }\n")
        .unwrap();
    let compile = "set -e\ngcc -o \"$AVOCADO_BUILD_DIR/answer\" answer.c\n";
    project.write("compile.sh", compile).unwrap();
    let install = "set -e
install -D -m 755 \"$AVOCADO_BUILD_DIR/answer\" \"$DESTDIR/usr/bin/answer\"
mkdir -p \"$DESTDIR/etc\" \"$DESTDIR/usr/share/doc/answer\"
echo 42 >\"$DESTDIR/etc/answer.conf\"
echo why >\"$DESTDIR/usr/share/doc/answer/README\"
echo built >\"$DESTDIR/usr/share/build-log\"
echo left >\"$DESTDIR/usr/share/left\"
";
    project.write("install.sh", install).unwrap();
    let out = sandbox.directory.path().join("out");
    let out_dir = out.to_str().unwrap();
    let events = project
        .events(&["sdk", "package", "answer", "--out", out_dir])
        .unwrap();
    let told = events
        .of("warning")
        .map(|event| event["message"].to_string());
    let told = told.collect::<String>();
    assert!(
        told.contains("in no package of the section `answer`: /usr/share/left"),
        "{told}"
    );
    let names = ["answer", "answer-doc"];
    let files = names.map(|name| format!("{name}-2.0.0~beta.1-1.avocado_qemux86_64.rpm"));
    let packages = events.artifacts();
    let made: Vec<&str> = packages
        .iter()
        .map(|package| package.path.file_name().unwrap().to_str().unwrap())
        .collect();
    assert_eq!(made, files);
    for package in &packages {
        assert!(
            package
                .path
                .starts_with(project.state().join("output/packages"))
        );
        ToolCall::new("rpm")
            .arg("-K")
            .arg(&package.path)
            .ok()
            .unwrap();
    }
    let main = out.join(&files[0]);
    let summary = rpm(&["-qp", "--qf", "%{SUMMARY} %{LICENSE}"], &main);
    assert_eq!(summary, "%(echo the) answer Unspecified");
    assert_eq!(rpm(&["-qpl"], &main), "/etc/answer.conf\n/usr/bin/answer\n");
    assert_eq!(rpm(&["-qpc"], &main), "/etc/answer.conf\n");
    let requires = rpm(&["-qp", "--requires"], &main);
    let of_rpm = |line: &&str| line.starts_with("rpmlib(") || line.starts_with("config(");
    let requires = requires.lines().filter(|line| !of_rpm(line));
    assert_eq!(requires.collect::<Vec<_>>(), ["libgreeting"]);
    // With nothing to do nothing is done.
    let again = project.events(&["sdk", "package", "answer"]).unwrap();
    let complete = again.complete();
    assert_eq!(
        (&complete["ran"], &complete["processes"]),
        (&0.into(), &0.into())
    );

    // Another project installs it, from a feed.
    let paths = files.map(|file| out.join(file));
    let feed = feed_with(&sandbox, "target/qemux86-64", &paths);
    let yaml = "default_target: qemux86-64
distro: {release: '2024', channel: edge}
rootfs: {packages: {answer-doc: '*'}}
";
    let consumer = project_at(&sandbox, "consumer", yaml);
    let consumer = consumer.with_env("AVOCADO_REPO_URL", feed.url());
    consumer.avocado(&["rootfs", "install"]).ok().unwrap();
    let rootfs = consumer.state().join("rootfs");
    let said = fs::read_to_string(rootfs.join("usr/share/doc/answer/README")).unwrap();
    assert_eq!(said, "why\n");
    let answer = ToolCall::new(rootfs.join("usr/bin/answer")).run().unwrap();
    assert_eq!(answer.status.code(), Some(42));
    assert!(!rootfs.join("usr/share/left").exists());
}
