//! The packages of both programs, installed, upgraded and removed by the package managers that they
//! are for, on a machine with systemd.

use std::path::Path;
use std::time::Duration;

use avocado_testbed::cleanup::CleanupGuard;
use avocado_testbed::sdk_image::SdkImage;
use avocado_testbed::shared_fixture::SharedFixture;
use avocado_testbed::tools::{TestNeed, ToolCall, ToolOutput, skip_without, source_root};
use tempfile::TempDir;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What the preset of the package enables.
const UNITS: [&str; 3] = [
    "avocadoctl.socket",
    "avocado-extension.service",
    "avocado-ensure-extensions.service",
];

fn cannot_install(name: &str) -> bool {
    skip_without(
        name,
        &[
            TestNeed::Root,
            TestNeed::StaticBinary("avocado"),
            TestNeed::StaticBinary("avocadoctl"),
            TestNeed::Tool("debootstrap"),
            TestNeed::Tool("podman"),
            TestNeed::Tool("runc"),
            TestNeed::Tool("rpmbuild"),
            TestNeed::Tool("jq"),
        ],
    )
}

/// The packages, in a directory that both programs' are in.
static PACKAGES: SharedFixture<TempDir> = SharedFixture::new();

fn make_packages() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    ToolCall::new(source_root().join("scripts/dist"))
        .arg(place.path().join("packages"))
        .env("AVOCADO_DIST_ARCHITECTURES", "x86_64")
        .limit(Duration::from_secs(600))
        .ok()
        .unwrap();
    place
}

/// A machine of its own, as a container that waits.
struct Machine {
    name: String,
    image: SdkImage,
    _end: CleanupGuard,
}

impl Machine {
    fn new(name: &str, packages: &Path) -> Machine {
        let image = SdkImage::ensure().unwrap();
        let name = format!("avocado-testbed-{}-{name}", std::process::id());
        let volume = format!("--volume={}/packages:/packages:ro", packages.display());
        let mut run = vec!["run", "--detach", "--rm", "--network=none", "--name", &name];
        run.extend([&*volume, image.name(), "sleep", "infinity"]);
        image.podman(&run).ok().unwrap();
        let remove = image.podman(&["rm", "--force", "--time=0", &name]).last();
        let end = CleanupGuard::new(move || drop(remove.run())).unwrap();
        Machine {
            name,
            image,
            _end: end,
        }
    }

    fn call(&self, command: &[&str]) -> ToolCall {
        self.image
            .podman(&[&["exec", &self.name], command].concat())
    }

    fn run(&self, command: &[&str]) -> ToolOutput {
        self.call(command).ok().unwrap()
    }

    fn enabled(&self, unit: &str) -> String {
        let output = self
            .call(&["systemctl", "--root=/", "is-enabled", unit])
            .run();
        output.unwrap().stdout.trim().to_owned()
    }

    fn assert_installed(&self) {
        for program in ["avocado", "avocadoctl"] {
            let said = self.run(&[program, "--version"]).stdout;
            assert_eq!(said.split_whitespace().nth(1), Some(VERSION), "{said}");
        }
        self.run(&["getent", "group", "avocado"]);
        for unit in UNITS {
            assert_eq!(self.enabled(unit), "enabled", "{unit}");
        }
        // As they are read where they are.
        let units = ["avocadoctl.service", "avocado-unmerge.service"];
        let verify = [
            &["systemd-analyze", "verify", "--man=no"][..],
            &units,
            &UNITS,
        ]
        .concat();
        let said = self.run(&verify);
        assert!(!said.stderr.contains("avocado"), "{said}");
    }

    /// Switches one unit off, as an administrator does, and wants it off still after `upgrade`.
    fn assert_kept_by(&self, upgrade: &[&str]) {
        let [unit, others @ ..] = UNITS;
        self.run(&["systemctl", "--root=/", "disable", unit]);
        self.run(upgrade);
        assert_eq!(self.enabled(unit), "disabled");
        for other in others {
            assert_eq!(self.enabled(other), "enabled", "{other}");
        }
    }

    fn assert_gone(&self) {
        let left = ["/usr", "/etc"];
        let find = [&["find"][..], &left, &["-name", "*avocado*"]].concat();
        let left = self.run(&find).stdout;
        assert_eq!(left, "", "what is left of it");
    }
}

fn debs() -> [String; 2] {
    ["avocado", "avocadoctl"].map(|name| format!("/packages/{name}_{VERSION}_amd64.deb"))
}

#[test]
fn debs_are_installed_upgraded_and_removed() {
    if cannot_install("debs_are_installed_upgraded_and_removed") {
        return;
    }
    PACKAGES.run(make_packages, |packages| {
        let machine = Machine::new("deb", packages.path());
        let [program, agent] = debs();
        // With what they need: dpkg leaves none half installed without a word.
        machine.run(&["dpkg", "--install", &program, &agent]);
        machine.assert_installed();
        machine.assert_kept_by(&["dpkg", "--install", &program, &agent]);
        machine.run(&["dpkg", "--remove", "avocado", "avocadoctl"]);
        machine.assert_gone();
    });
}

#[test]
fn a_masked_unit_stops_neither_installation_nor_removal() {
    if cannot_install("a_masked_unit_stops_neither_installation_nor_removal") {
        return;
    }
    PACKAGES.run(make_packages, |packages| {
        let machine = Machine::new("masked", packages.path());
        let [_, agent] = debs();
        let [unit, ..] = UNITS;
        machine.run(&["systemctl", "--root=/", "mask", unit]);
        machine.run(&["dpkg", "--install", &agent]);
        assert_eq!(machine.enabled(unit), "masked");
        machine.run(&["dpkg", "--remove", "avocadoctl"]);
    });
}

#[test]
fn rpms_are_installed_upgraded_and_removed() {
    if cannot_install("rpms_are_installed_upgraded_and_removed") {
        return;
    }
    PACKAGES.run(make_packages, |packages| {
        let machine = Machine::new("rpm", packages.path());
        let [program, agent] = ["avocado", "avocadoctl"]
            .map(|name| format!("/packages/{name}-{VERSION}-1.x86_64.rpm"));
        // What they need is here, though not as packages of rpm's.
        let rpm = |action| ["rpm", "--nodeps", action, &program, &agent];
        machine.run(&rpm("--install"));
        machine.assert_installed();
        let upgrade = [&rpm("--upgrade")[..], &["--replacepkgs"]].concat();
        machine.assert_kept_by(&upgrade);
        machine.run(&["rpm", "--erase", "--nodeps", "avocado", "avocadoctl"]);
        machine.assert_gone();
    });
}
