//! A device that updates itself over the network: what it takes, what it refuses, and what it is
//! after the power went away.

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use avocado_manifest::Digest;
use avocado_serve::ServeOptions;
use avocado_test_server::{Fault, FaultRule, TestServer};
use avocado_testbed::device::{DeviceOptions, TestDevice};
use avocado_testbed::keys::SshKeys;
use avocado_testbed::project::TestProject;
use avocado_testbed::shared_fixture::SharedFixture;
use avocado_testbed::tools::{TestNeed, ToolCall, ToolOutput, skip_without};
use avocado_tuf::keyring::Keyring;
use avocado_tuf::writer::{self, Publication, PublicationTarget, RoleSigners};
use common::{Sandbox, cannot_build};

const BASE: &str = "/var/lib/avocado";

/// The application's answer, once it is `expected`.
fn answers(device: &TestDevice, expected: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let answer = device.http_get(8080, "/");
        if answer
            .as_ref()
            .is_ok_and(|(_, text)| text.contains(expected))
        {
            return;
        }
        assert!(Instant::now() < deadline, "{answer:?}\n{}", device.logs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn serve(device: &TestDevice, repository: &Path) -> TestServer {
    let mut options = ServeOptions::new(repository);
    options.address = SocketAddr::from((device.host_address(), 0));
    TestServer::start(options).unwrap()
}

fn runtime(device: &TestDevice, arguments: &[&str]) -> ToolOutput {
    let words = [&["avocadoctl", "runtime"], arguments].concat();
    device.ssh_call(&words).run().unwrap()
}

/// What there is on the device, by its own word and by that of its disk.
fn state(device: &TestDevice) -> (String, String) {
    let list = device
        .ssh(&["avocadoctl", "runtime", "list", "--output", "json"])
        .unwrap();
    let files = device
        .exec(&[
            "find",
            BASE,
            "-path",
            "*/metadata/*",
            "-prune",
            "-o",
            "-type",
            "f",
            "-path",
            "*s/*",
            "-print",
        ])
        .unwrap();
    let mut files: Vec<&str> = files
        .lines()
        .filter(|f| !f.contains("/.update-staging/"))
        .collect();
    files.sort_unstable();
    (list, files.join("\n"))
}

fn id_of(project: &TestProject) -> String {
    let manifest = fs::read(project.state().join("output/runtimes/dev/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    manifest["id"].as_str().unwrap().to_owned()
}

/// The files of a repository, to publish them in another way.
fn published(project: &TestProject) -> Vec<(String, PathBuf)> {
    let targets = project
        .state()
        .join("output/runtimes/dev/repository/targets");
    let entries = fs::read_dir(targets).unwrap().flatten();
    let named = entries.map(|e| (e.file_name().into_string().unwrap(), e.path()));
    named
        .filter(|(name, _)| !name.contains(".manifest.") && name.split('.').count() == 2)
        .collect()
}

fn publish(project: &TestProject, keyring: &Path, key: &str, to: &Path, now: jiff::Timestamp) {
    let keyring = Keyring::new(keyring);
    let entry = match keyring.find(key).unwrap() {
        Some(entry) => entry,
        None => keyring.create(key, now).unwrap(),
    };
    let files = published(project);
    let targets: Vec<PublicationTarget<'_>> = files
        .iter()
        .map(|(name, source)| {
            let (digest, length) = Digest::of_reader(fs::File::open(source).unwrap()).unwrap();
            PublicationTarget {
                name: name.clone(),
                source,
                digest,
                length,
            }
        })
        .collect();
    writer::publish(&Publication {
        directory: to,
        signers: RoleSigners::one(&keyring.load(&entry, &|_| {}).unwrap()),
        role: "runtime-dev",
        targets: &targets,
        now,
    })
    .unwrap();
}

/// Two builds of a project: what the devices have, and what they are offered.
struct TwoBuilds {
    one: Sandbox,
    two: Sandbox,
    first: String,
    second: String,
}

impl TwoBuilds {
    fn make() -> Self {
        let (one, two) = (Sandbox::built(), Sandbox::built());
        two.project
            .write("overlay/hello-config/etc/hello/greeting", "Second.\n")
            .unwrap();
        two.project.avocado(&["build"]).ok().unwrap();
        let (first, second) = (id_of(&one.project), id_of(&two.project));
        assert_ne!(first, second);
        TwoBuilds {
            one,
            two,
            first,
            second,
        }
    }

    /// The repository that offers the second build.
    fn repository(&self) -> PathBuf {
        self.two
            .project
            .state()
            .join("output/runtimes/dev/repository")
    }
}

static BUILDS: SharedFixture<TwoBuilds> = SharedFixture::new();

/// Runs a case on a device of its own, which has the first build.
fn on_a_device(name: &str, case: impl FnOnce(&mut TestDevice, &TwoBuilds)) {
    let needs = ["systemd-nspawn", "nsenter", "ip", "ssh", "ssh-keygen"].map(TestNeed::Tool);
    if cannot_build(name) || skip_without(name, &needs) {
        return;
    }
    BUILDS.run(TwoBuilds::make, |builds| {
        let work = tempfile::tempdir().unwrap();
        let runtime_dir = builds.one.project.state().join("runtimes/dev");
        let rootfs = runtime_dir.join("avocado-image-rootfs-qemux86-64.erofs-lz4");
        let keys = SshKeys::create(work.path()).unwrap();
        let var = runtime_dir.join("var-staging");
        let options = DeviceOptions::new(rootfs, var, work.path().join("device"), keys);
        let mut device = TestDevice::boot(options).unwrap();
        assert_eq!(device.failed_units().unwrap(), "");
        answers(&device, "Welcome aboard.");
        case(&mut device, builds);
    });
}

#[test]
fn what_is_wrong_in_any_way_is_refused_and_changes_nothing() {
    on_a_device(
        "what_is_wrong_in_any_way_is_refused_and_changes_nothing",
        |device, builds| {
            let now = jiff::Timestamp::now();
            let two = &builds.two;
            let keys = two.directory.path().join("keys");
            let made = tempfile::tempdir().unwrap();
            let place = made.path();
            let year = jiff::SignedDuration::from_hours(24 * 400);
            let good = builds.repository();

            let tampered = place.join("tampered");
            ToolCall::new("cp")
                .arg("-a")
                .arg(&good)
                .arg(&tampered)
                .ok()
                .unwrap();
            for entry in fs::read_dir(tampered.join("targets")).unwrap().flatten() {
                let path = entry.path();
                let mut bytes = fs::read(&path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                // Hard links: a new file, or the original would change as well.
                fs::remove_file(&path).unwrap();
                fs::write(&path, bytes).unwrap();
            }
            let unsigned = place.join("unsigned");
            ToolCall::new("cp")
                .arg("-a")
                .arg(&good)
                .arg(&unsigned)
                .ok()
                .unwrap();
            let timestamp = unsigned.join("metadata/timestamp.json");
            let text = fs::read_to_string(&timestamp).unwrap();
            let forged = text.replace("\"spec_version\":\"1.0.", "\"spec_version\":\"1.1.");
            assert_ne!(text, forged);
            fs::remove_file(&timestamp).unwrap();
            fs::write(&timestamp, forged).unwrap();
            let expired = place.join("expired");
            publish(&two.project, &keys, "dev-signing-key", &expired, now - year);
            let foreign = place.join("foreign");
            publish(
                &two.project,
                &place.join("other-keys"),
                "other",
                &foreign,
                now,
            );
            let empty = place.join("empty");
            fs::create_dir(&empty).unwrap();

            let before = state(device);
            for (what, repository) in [
                ("tampered", &tampered),
                ("unsigned", &unsigned),
                ("expired", &expired),
                ("foreign", &foreign),
                ("empty", &empty),
            ] {
                let server = serve(device, repository);
                let output = runtime(device, &["add", "--url", &server.url()]);
                assert_eq!(output.status.code(), Some(1), "{what}: {output}");
                assert!(output.stderr.contains("error:"), "{what}: {output}");
                assert_eq!(state(device), before, "{what}");
            }
            let output = runtime(device, &["add", "--url", "http://127.0.0.1:9"]);
            assert!(output.stderr.contains("127.0.0.1:9"), "{output}");
            assert_eq!(state(device), before);
        },
    );
}

#[test]
fn a_power_cut_while_it_adds_leaves_the_store_as_it_was() {
    on_a_device(
        "a_power_cut_while_it_adds_leaves_the_store_as_it_was",
        |device, builds| {
            let before = state(device);
            let server = serve(device, &builds.repository());
            server
                .faults()
                .add(FaultRule::new(Fault::Stall(100), "*.raw"));
            let url = server.url();
            std::thread::scope(|scope| {
                let call = device.ssh_call(&["avocadoctl", "runtime", "add", "--url", &url]);
                let adding = scope.spawn(move || call.run());
                let stalled = server.wait(Duration::from_secs(30), |requests| {
                    requests.iter().any(|r| r.path.ends_with(".raw"))
                });
                assert!(stalled, "{:?}", server.requests());
                // The connection ends with the device, and with it the call.
                device
                    .exec(&["systemctl", "kill", "--signal=KILL", "avocadoctl.service"])
                    .unwrap();
                let output = adding.join().unwrap().unwrap();
                assert!(!output.status.success(), "{output}");
            });
            device.power_cycle().unwrap();
            answers(device, "Welcome aboard.");
            assert_eq!(state(device), before);
            server.faults().clear();
            server.faults().release();
            let output = runtime(device, &["add", "--url", &url]);
            assert!(output.status.success(), "{output}");
            let (list, _) = state(device);
            assert!(list.contains(&builds.second), "{list}");
        },
    );
}

#[test]
fn a_runtime_is_activated_and_the_other_one_removed_over_reboots() {
    on_a_device(
        "a_runtime_is_activated_and_the_other_one_removed_over_reboots",
        |device, builds| {
            let (first, second) = (builds.first.as_str(), builds.second.as_str());
            let server = serve(device, &builds.repository());
            let added = runtime(device, &["add", "--url", &server.url()]);
            assert!(added.status.success(), "{added}");
            // Added is not activated.
            answers(device, "Welcome aboard.");
            let pid1 = device.pid1_start().unwrap();
            assert!(
                runtime(device, &["activate", &second[..12]])
                    .status
                    .success()
            );
            answers(device, "Second.");
            assert_eq!(device.pid1_start().unwrap(), pid1);

            let refused = runtime(device, &["remove", second]);
            assert!(!refused.status.success(), "{refused}");
            assert!(refused.stderr.contains("active"), "{refused}");
            let unknown = runtime(device, &["inspect", "ffffffffffff0"]);
            assert!(
                !unknown.status.success() && unknown.stderr.contains("ffffffffffff0"),
                "{unknown}"
            );
            let ambiguous = runtime(device, &["activate", "''"]);
            assert!(
                ambiguous.stderr.contains(first) && ambiguous.stderr.contains(second),
                "{ambiguous}"
            );

            // As a kill between the two steps of an activation leaves it.
            let active = format!("{BASE}/active");
            device
                .exec(&["ln", "-sfn", &format!("runtimes/{first}"), &active])
                .unwrap();
            device
                .exec(&["systemctl", "restart", "avocadoctl.service"])
                .unwrap();
            answers(device, "Welcome aboard.");
            assert!(runtime(device, &["activate", second]).status.success());

            device.reboot().unwrap();
            assert_eq!(device.failed_units().unwrap(), "");
            answers(device, "Second.");

            let images = device.exec(&["ls", &format!("{BASE}/images")]).unwrap();
            assert!(runtime(device, &["remove", first]).status.success());
            assert_eq!(
                device.exec(&["ls", &format!("{BASE}/images")]).unwrap(),
                images
            );
            let (list, _) = state(device);
            assert!(!list.contains(first) && list.contains(second), "{list}");
            answers(device, "Second.");
            let active = device
                .exec(&["readlink", &format!("{BASE}/active")])
                .unwrap();
            assert_eq!(active.trim(), format!("runtimes/{second}"));
        },
    );
}
